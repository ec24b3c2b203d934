"""A steady load of searches during promotions and rollbacks: none fails, and none is answered by a mix of sets."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from deploy.stack.dagit.client import Dagit
from shared_ops.release import promotion
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import families, search_families
from tests.conftest import Stack, until
from tests.drills.conftest import finish, told_sets
from tests.drills.people import People

pytestmark = pytest.mark.slow

RATE = 20
MOVES = 10
"""Promotions, and as many rollbacks."""
QUERIES = 20
SHOWN = 10
PAUSE_SECONDS = 1.0
"""Between two moves: searches on both sides of each."""
OTHERWISE = {
    "keyword": {"trials": 0, "k1": 0.8, "title_weight": 3.0},
    "semantic": {"seed": 1},
    "behavior": {"trials": 0, "neighbours": 20},
    "ranker": {"seed": 1, "kind": "linear"},
}
"""Another configuration of each family: its model gives other scores than the live one's."""

Order = list[tuple[str, float]]


@pytest.fixture(scope="module")
def others(stack: Stack, dagit: Dagit, sets: LiveSets, staging: Staging) -> dict[str, str]:
    """A release of every family besides the live one, with other scores: trained in dev, so that nothing follows."""
    runs = {}
    for family, config in OTHERWISE.items():
        ops = {"load_inputs": {"config": {"sample_documents": 0}}, "train": {"config": config}}
        runs[family] = dagit.launch(family, f"{family}_dev", {"ops": ops})
    assert {family: finish(dagit, run) for family, run in runs.items()} == dict.fromkeys(runs, "SUCCESS")
    dev = Staging(stack.settings.staging_url("dev"))
    made: dict[str, str] = {}
    for family in runs:
        version = dev.versions(family)[-1]
        # As if the ranker had learned from these: a set consists of the releases that its ranker's manifest names.
        learned_from = dict(made) if family == "ranker" else {}
        changes = {"deployment": "prod", "learned_from": learned_from}
        manifest = dev.manifest(family, version).model_copy(update=changes)
        made[family] = staging.publish(dev.fetch(family, version), manifest).version
    return made


def asked(stack: Stack, family: str, release: str, query: str) -> Order:
    """A search model's hits, asked of its service by the release's name."""
    body = {"release": release, "query": query, "k": 100}
    return _order(httpx.post(f"{stack.settings.url(family)}/search", json=body, timeout=30))


def final(stack: Stack, releases: Mapping[str, str], query: str) -> Order:
    """The final order that these releases make of a query, as far as it is shown."""
    hits = {family: asked(stack, family, releases[family], query) for family in search_families()}
    columns = {
        family: {"doc_ids": [doc for doc, _ in family_hits], "scores": [score for _, score in family_hits]}
        for family, family_hits in hits.items()
    }
    body = {"release": releases["ranker"], "query": query, "hits": columns}
    return _order(httpx.post(f"{stack.settings.url('ranker')}/rank", json=body, timeout=30))[:SHOWN]


def _order(response: httpx.Response) -> Order:
    answer = response.raise_for_status().json()
    return list(zip(answer["doc_ids"], answer["scores"], strict=True))


def test_no_answer_fails_or_mixes_sets_while_the_live_set_moves_twenty_times(
    stack: Stack,
    dagit: Dagit,
    sets: LiveSets,
    staging: Staging,
    others: dict[str, str],
    queries: list[str],
    environment: None,
    say: Callable[[str], None],
) -> None:
    dagit.settle()
    first, chosen = sets.live(), queries[:: max(len(queries) // QUERIES, 1)][:QUERIES]
    pair = [others, first.releases]

    def promote(releases: dict[str, str]) -> LiveSet:
        ranker = staging.manifest("ranker", releases["ranker"])
        return promotion.promote(sets, ranker, first.snapshot, "drill", services=True, log=lambda _: None)

    # Both sets are held now, and stay held: each release can be asked for its answers.
    used = [first, promote(pair[0])]
    expected = {
        number: {query: final(stack, releases, query) for query in chosen} for number, releases in enumerate(pair)
    }
    a_mix_would_show(stack, pair, expected, chosen)
    took = []
    with People(stack.settings.url("search"), chosen, RATE).searching() as people:
        for number in range(MOVES):
            began = time.monotonic()
            used.append(promote(pair[(number + 1) % 2]))
            took.append(time.monotonic() - began)
            time.sleep(PAUSE_SECONDS)
        for number in [None] * (MOVES - 1) + [first.number]:
            began = time.monotonic()
            used.append(promotion.rollback(sets, number, note="drill", services=True, log=lambda _: None))
            took.append(time.monotonic() - began)
            time.sleep(PAUSE_SECONDS)
    until(lambda: set(told_sets(stack).values()) == {used[-1].number}, 10, "every service follows")
    p50, p95, p99 = (people.quantile(share) for share in (0.5, 0.95, 0.99))
    say(
        f"load: {MOVES} promotions and {MOVES} rollbacks in {1000 * min(took):.0f} to {1000 * max(took):.0f} ms each, "
        f"under {RATE} searches a second: {len(people.searches)} searches, {people.failed.total()} failed, "
        f"{people.degraded.total()} without a model; p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms"
    )
    assert people.failed == {} and people.degraded == {}
    by_number = {each.number: each for each in used}
    served = set()
    for search in people.searches:
        named = search.answer["live_set"]
        live = by_number[named["number"]]
        served.add(live.number)
        assert named == {"number": live.number, "releases": live.releases, "snapshot": live.snapshot.id}
        shown = [(hit["doc_id"], hit["score"]) for hit in search.answer["hits"]]
        assert shown == expected[pair.index(live.releases)][search.query]
    assert len(served) >= MOVES, "hardly a set was asked anything while it was live"


def a_mix_would_show(stack: Stack, pair: list[dict[str, str]], expected: dict[int, Any], queries: list[str]) -> None:
    """Any one family's hits of the other set would change the order or the scores of some of the queries."""
    for family in families():
        for number, releases in enumerate(pair):
            mixed = releases | {family: pair[1 - number][family]}
            assert any(final(stack, mixed, query) != expected[number][query] for query in queries[:5]), family
