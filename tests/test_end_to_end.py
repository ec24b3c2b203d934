"""The whole app on a small real corpus: trained by Dagster's jobs, searched, retrained, watched as it goes live.

One stack for all of it, in an order that builds up: what a test leaves behind, the next may find.
"""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.training import FORCE
from shared_ops import waiting
from shared_ops.data import snapshots, tables
from shared_ops.judge.fusion import reciprocal_rank_fusion
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import families, repositories, search_families
from tests.conftest import Stack, asked_graphql
from tests.drills.people import People

pytestmark = pytest.mark.slow

BACK_SECONDS = 15
"""How long a process that was killed may be away."""


@pytest.fixture(scope="module")
def queries(stack: Stack, sets: LiveSets) -> list[str]:
    """Real queries of the live snapshot."""
    return snapshots.load(sets.live().snapshot).queries("test").sort("query_id")["text"].to_list()


def finish(dagit: Dagit, run_id: str, seconds: float = 600) -> str:
    """The status that a run ends with."""
    ended = ("SUCCESS", "FAILURE", "CANCELED")
    status = waiting.until(lambda: dagit.run(run_id).status, lambda each: each in ended, every=1, seconds=seconds)
    assert status in ended, f"run {run_id} is still {status}"
    return status


def await_set(sets: LiveSets, number: int, seconds: float = 300) -> LiveSet:
    """The live set, once it has this number."""
    live = waiting.until(sets.live, lambda each: each.number >= number, every=0.5, seconds=seconds)
    assert live.number >= number, f"set {number} is not live after {seconds} s, still set {live.number}"
    return live


def asked(stack: Stack, live: LiveSet, family: str, query: str) -> list[tuple[str, float]]:
    body = {"release": live.releases[family], "query": query, "k": 100}
    answer = httpx.post(f"{stack.settings.url(family)}/search", json=body, timeout=30).raise_for_status().json()
    return list(zip(answer["doc_ids"], answer["scores"], strict=True))


def test_every_code_location_is_loaded_by_one_dagit(stack: Stack, dagit: Dagit) -> None:
    assert dagit.load_errors() == dict.fromkeys(repositories())


def test_a_query_is_answered_by_four_models_of_one_set(stack: Stack, sets: LiveSets, queries: list[str]) -> None:
    answer = stack.search(queries[0])
    live = sets.live()
    assert answer["ranking"] == "ranker" and answer["degraded"] == [] and len(answer["hits"]) == 10
    assert answer["live_set"]["releases"] == live.releases and set(live.releases) == set(families())
    first = answer["hits"][0]
    assert first["title"] and first["snippet"] and first["source"] and first["found_by"]


def test_the_terminal_gives_the_same_answer(stack: Stack, queries: list[str]) -> None:
    said = stack.make("search", f"Q={queries[0]}").stdout
    places = [said.find(hit["doc_id"]) for hit in stack.search(queries[0])["hits"]]
    assert places == sorted(places) and places[0] > 0


def test_simulated_people_take_up_a_topic(stack: Stack) -> None:
    said = stack.make("simulate", "SESSIONS=6", "DRIFT=cluster", "RATE=20").stdout
    assert "SIMULATED" in said and "'cluster'" in said


def test_the_order_on_the_page_is_the_rankers(stack: Stack, sets: LiveSets, queries: list[str]) -> None:
    live, differs = sets.live(), 0
    for query in queries[:10]:
        hits = {family: asked(stack, live, family, query) for family in search_families()}
        columns = {
            family: {"doc_ids": [doc for doc, _ in family_hits], "scores": [score for _, score in family_hits]}
            for family, family_hits in hits.items()
        }
        body = {"release": live.releases["ranker"], "query": query, "hits": columns}
        ranked = httpx.post(f"{stack.settings.url('ranker')}/rank", json=body, timeout=30).raise_for_status().json()
        shown = [hit["doc_id"] for hit in stack.search(query)["hits"]]
        assert shown == ranked["doc_ids"][:10]
        differs += shown != [doc for doc, _ in reciprocal_rank_fusion(hits)[:10]]
    assert differs, "the ranker's order is never another than that of plain fusion"


def test_lineage_reaches_from_the_sources_to_the_live_set(stack: Stack) -> None:
    data = asked_graphql(
        stack,
        "query { assetNodes { assetKey { path } dependencyKeys { path } repository { location { name } } } }",
    )
    nodes = {"/".join(node["assetKey"]["path"]): node for node in data["assetNodes"]}
    above = {name: {"/".join(key["path"]) for key in node["dependencyKeys"]} for name, node in nodes.items()}
    assert any(name.startswith("prod/source/") for name in above["prod/snapshot"])
    assert above["prod/semantic/challenger"] == {"prod/snapshot"}
    assert above["prod/semantic/release"] == {"prod/semantic/challenger"}
    assert above["prod/ranker/challenger"] >= {f"prod/{family}/release" for family in search_families()}
    assert above["prod/proposed_set"] >= {f"prod/{family}/release" for family in families()}
    assert "prod/proposed_set" in above["prod/live_set"]
    assert {node["repository"]["location"]["name"] for node in nodes.values()} == set(repositories())


def test_dagit_holds_each_releases_numbers(stack: Stack, sets: LiveSets) -> None:
    for family, version in sets.live().releases.items():
        data = asked_graphql(
            stack,
            """query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
                 assetMaterializations(limit: 1) { metadataEntries { __typename label
                   ... on FloatMetadataEntry { floatValue } ... on TextMetadataEntry { text } } } } } }""",
            key={"path": ["prod", family, "release"]},
        )
        (event,) = data["assetOrError"]["assetMaterializations"]
        entries = {entry["label"]: entry for entry in event["metadataEntries"]}
        assert entries["version"]["text"] == version
        manifest = Staging(stack.settings.staging_url("prod")).manifest(family, version)
        assert entries["all: nDCG@10"]["floatValue"] == pytest.approx(manifest.metrics["all"]["nDCG@10"])


def test_evaluation_goes_through_the_running_services(
    stack: Stack, sets: LiveSets, queries: list[str], tmp_path: Path
) -> None:
    table = stack.make("evaluate", f"OUT={tmp_path}").stdout
    for name in ("keyword", "semantic", "behavior", "final", "RRF", "min-max"):
        assert name in table
    lines = (tmp_path / "final.run").read_text().splitlines()
    assert {len(line.split()) for line in lines} == {6}
    assert len({line.split()[0] for line in lines}) >= 0.95 * len(queries)


def test_up_again_changes_nothing(stack: Stack, sets: LiveSets) -> None:
    def pids() -> dict[str, int]:
        return {
            name: process.pid
            for process in psutil.process_iter(["environ", "cmdline"])
            if (process.info["environ"] or {}).get("SEARCHLOOP_STACK") == str(stack.settings.home)
            for name in [" ".join(process.info["cmdline"] or [])]
        }

    before, live = pids(), sets.live()
    output = stack.make("up").stdout
    assert pids() == before and sets.live() == live
    assert stack.settings.url("search") in output


@pytest.mark.parametrize("by", ["", "FAMILY=ranker"])
def test_queries_in_bulk_are_answered_as_people_are(stack: Stack, queries: list[str], tmp_path: Path, by: str) -> None:
    """By the live set; and by its ranker's release with those that it learned from, which are the same.

    But for the last digits: many queries are encoded together, and one by another pass.
    """
    asked = pl.DataFrame({"_id": range(20), "text": queries[:20]})
    asked.write_csv(tmp_path / "asked.csv")
    told = stack.make(
        "predict", f"QUERIES={tmp_path}/asked.csv", f"OUT={tmp_path}/out", "COLUMNS=_id,text", *by.split()
    )
    assert "20 of 20 queries answered" in told.stdout
    hits = tables.hits_by_query(pl.read_parquet(tmp_path / "out" / "hits" / "*.parquet"))
    for number, query in enumerate(queries[:20]):
        shown = stack.search(query)["hits"]
        assert [score for _, score in hits[str(number)]] == pytest.approx([hit["score"] for hit in shown], rel=1e-4)
        assert len({doc_id for doc_id, _ in hits[str(number)]} & {hit["doc_id"] for hit in shown}) >= 9


def test_a_dev_job_trains_and_touches_nothing_of_prod(stack: Stack, dagit: Dagit, sets: LiveSets) -> None:
    staging = stack.settings.home / "staging"

    def prod_files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (staging / "prod").rglob("*") if path.is_file()}

    before = prod_files()
    runs = {family: dagit.launch(family, f"{family}_dev") for family in families()}
    assert {family: finish(dagit, run) for family, run in runs.items()} == dict.fromkeys(runs, "SUCCESS")
    assert prod_files() == before
    assert all(Staging(stack.settings.staging_url("dev")).versions(family) for family in families())


def test_a_retrained_set_goes_live_without_one_failed_answer(
    stack: Stack, dagit: Dagit, sets: LiveSets, queries: list[str]
) -> None:
    before, answers, stop = sets.live(), [], threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=stack.settings.url("search"), timeout=30) as client:
            for number in range(100_000):
                if stop.is_set():
                    return
                query, fresh = queries[number % len(queries)], {"cache-control": "no-cache"}
                response = client.get("/search", params={"q": query}, headers=fresh)
                answers.append((response.status_code, response.json()))
                time.sleep(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert finish(dagit, dagit.launch("keyword", "keyword_prod", FORCE)) == "SUCCESS"
        await_set(sets, before.number + 1)  # the ranker's training and the promotion follow by themselves
        time.sleep(2)
    finally:
        stop.set()
        asking.join()
    after = sets.live()
    assert after.number == before.number + 1
    assert after.releases["keyword"] != before.releases["keyword"]
    assert Counter(status for status, _ in answers) == {200: len(answers)}
    shown = {answer["live_set"]["number"]: answer["live_set"]["releases"] for _, answer in answers}
    assert shown == {before.number: before.releases, after.number: after.releases}


@pytest.mark.parametrize("family", list(families()))
def test_a_model_that_is_killed_degrades_the_answer_and_comes_back(
    stack: Stack, queries: list[str], family: str
) -> None:
    (process,) = [
        process
        for process in psutil.process_iter(["environ", "cmdline"])
        if (process.info["environ"] or {}).get("SEARCHLOOP_STACK") == str(stack.settings.home)
        and (process.info["cmdline"] or [])[1:4] == ["-m", "services.prediction", family]
    ]
    process.kill()
    process.wait(5)
    killed = time.monotonic()
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["degraded"]:
        seen.append(stack.search(queries[len(seen) % len(queries)]))
        assert time.monotonic() - killed < BACK_SECONDS * 3, f"{family} stays away: {seen[-1]['degraded']}"
        time.sleep(0.1)
    assert any(each["family"] == family for answer in seen for each in answer["degraded"])
    assert all(answer["hits"] for answer in seen)
    if family == "ranker":
        assert "rrf" in {answer["ranking"] for answer in seen}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"q": ""}, "q"),
        ({"q": "   "}, "q"),
        ({"q": "x", "k": "0"}, "k"),
        ({"q": "x", "k": "101"}, "k"),
        ({"q": "x", "k": "many"}, "k"),
        ({"q": "x" * 20_000}, "characters"),
    ],
)
def test_a_clients_mistake_is_named(stack: Stack, parameters: dict[str, str], said: str) -> None:
    response = stack.get("search", "/search", **parameters)
    assert 400 <= response.status_code < 500 and said in response.text


@pytest.mark.parametrize(
    "query", ["<script>alert(1)</script>", "Привет мир", "数组排序", "a\x00b\x1b[31m", '"); DROP TABLE']
)
def test_any_text_is_answered_and_escaped(stack: Stack, query: str) -> None:
    assert stack.get("search", "/search", q=query).status_code == 200
    page = stack.get("search", "/", q=query)
    assert page.status_code == 200 and "<script>alert" not in page.text


def test_an_operator_holds_what_is_live_lets_it_go_and_is_told_why(stack: Stack, sets: LiveSets) -> None:
    before = sets.live()
    stack.make("freeze", "WHY=the fair")
    trained = stack.make("train", "REPO=ranker", "FORCE=1").stdout
    assert "ranker_prod ended: SUCCESS, accepted" in trained and "the live set is frozen by" in trained.lower()
    assert ": the fair; nothing is promoted until: make thaw" in stack.make("status").stdout
    assert sets.live() == before
    stack.make("thaw")
    after = await_set(sets, before.number + 1)
    newest = f"ranker/{after.releases['ranker']}"
    told = stack.make("explain", f"RELEASE={newest}").stdout
    assert "its gate: Accepted: nDCG@10" in told and f"live, in set {after.number}" in told
    stack.make("rollback", "WHY=a try")
    stack.make("pin", "FAMILY=ranker")
    assert f"taken back with set {after.number}" in stack.make("explain", f"RELEASE={newest}").stdout
    promoted = stack.make("promote", f"RELEASES={newest}", "WHY=it was good").stdout
    assert "No longer pinned" in promoted and sets.live() == after
    assert sets.moves()[1].note.endswith(": it was good") and sets.hold().pins == {}
    ran = stack.make("runs", "N=5").stdout
    assert "promotion_prod" in ran and "make train REPO=ranker FORCE=1 by" in ran and "Accepted: nDCG@10" in ran


def test_a_release_that_was_changed_never_goes_live(stack: Stack, sets: LiveSets, queries: list[str]) -> None:
    """One byte of a proposed release differs: the proposal fails with its reason, and what is live answers on."""
    live = sets.live()
    staging = Staging(stack.settings.staging_url("prod"))
    other = next(version for version in staging.versions("keyword") if version != live.releases["keyword"])
    weights = stack.settings.home / "staging" / "prod" / "keyword" / "releases" / other / "index.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    # Beyond the minute for which a service keeps what was live before, it has to read the files again.
    proposal = sets.propose(live.releases | {"keyword": other}, live.snapshot, "a changed byte")
    try:
        state = _settled(stack, "keyword", proposal.number)
    finally:
        sets.withdraw()
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    assert state["state"] == "failed" and "index.safetensors" in state["reason"]
    assert sets.live() == live and stack.search(queries[0])["live_set"]["number"] == live.number


def _settled(stack: Stack, family: str, number: int) -> dict[str, Any]:
    def state() -> dict[str, Any]:
        answer: dict[str, Any] = stack.get(family, f"/sets/{number}").json()
        return answer

    last = waiting.until(state, lambda each: each["state"] in ("ready", "failed"), every=0.2, seconds=60)
    assert last["state"] in ("ready", "failed"), f"{family} is still {last}"
    return last


def test_a_load_that_is_too_much_is_refused_early_and_soon_forgotten(stack: Stack, queries: list[str]) -> None:
    """Several times what two cores carry, for some seconds: an answer is given whole, or refused."""
    people = People(stack.settings.url("search"), queries, rate=300, clients=100)
    with people.searching():
        time.sleep(6)
    statuses = Counter(each.status for each in people.searches)
    assert set(statuses) == {200, 503}, statuses
    time.sleep(1)
    assert [stack.search(query)["degraded"] for query in queries[:20]] == 20 * [[]]


def test_down_ends_every_process_of_the_stack(stack: Stack) -> None:
    stack.make("down")
    left = [
        process.info["cmdline"]
        for process in psutil.process_iter(["environ", "cmdline"])
        if (process.info["environ"] or {}).get("SEARCHLOOP_STACK") == str(stack.settings.home)
    ]
    assert left == []
