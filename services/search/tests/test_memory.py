"""The same query asked again, and more searches than can be answered in time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from services.search.memory import ENTRIES, Findings, Memory
from services.search.tests.test_search import FAMILIES, QUERY, release_all, search, start_all
from services.tests.stack import ServingStack, stack

SLOW = 1.0
"""The seconds that a slow ranker takes for each query."""


@pytest.fixture
def remembering(tmp_path: Path) -> Iterator[ServingStack]:
    """A stack that answers from memory; its ranker tells features."""
    with stack(tmp_path, cache_seconds=60) as made:
        made.snapshot_ref = made.snapshot()
        made.first = start_all(made, made.snapshot_ref, ranker={"explains": True})
        yield made


def from_memory(local: ServingStack) -> int:
    for line in local.get("search", "/metrics").text.splitlines():
        if line.startswith("searchloop_remembered_total "):
            return int(float(line.split()[1]))
    raise AssertionError("the metric is not there")


def without_what_is_each_search_s_own(answer: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name not in ("query_id", "timings_ms")}


def test_the_same_query_has_the_same_answer_and_an_id_of_its_own(remembering: ServingStack) -> None:
    first, again = search(remembering), search(remembering)
    assert from_memory(remembering) == 1
    assert without_what_is_each_search_s_own(first) == without_what_is_each_search_s_own(again)
    assert first.json()["query_id"] != again.json()["query_id"]
    assert "keyword" in first.json()["timings_ms"] and "keyword" not in again.json()["timings_ms"]


def test_more_or_fewer_results_come_from_the_same_memory(remembering: ServingStack) -> None:
    hits = [search(remembering, k=k).json()["hits"] for k in (5, 1, 2)]
    assert from_memory(remembering) == 2
    assert hits[0][:1] == hits[1] and hits[0][:2] == hits[2]


def test_whoever_wants_it_fresh_gets_it_so(remembering: ServingStack) -> None:
    search(remembering)
    url = f"{remembering.settings.url('search')}/search"
    fresh = remembering.client.get(url, params={"q": QUERY}, headers={"cache-control": "no-cache"})
    assert fresh.status_code == 200 and from_memory(remembering) == 0


def test_another_set_answers_for_itself(remembering: ServingStack) -> None:
    before = search(remembering).json()
    releases = release_all(remembering, "v2", remembering.snapshot_ref, keyword={"hits": [("sort", 1.0)]})
    newer = remembering.go_live(remembering.snapshot_ref, **releases)
    for name in (*FAMILIES, "search"):
        remembering.until_live(name, newer)
    after = search(remembering).json()
    assert after["live_set"]["number"] > before["live_set"]["number"] and from_memory(remembering) == 0
    assert {hit["doc_id"] for hit in after["hits"] if "keyword" in hit["found_by"]} == {"sort"}


def test_an_answer_that_lacks_a_model_is_not_kept(remembering: ServingStack) -> None:
    remembering.stop("semantic")
    assert [bool(search(remembering).json()["degraded"]) for _ in range(2)] == [True, True]
    remembering.start("semantic")
    remembering.until_live("semantic", remembering.first)
    assert search(remembering).json()["degraded"] == [] and from_memory(remembering) == 0


def test_features_are_those_of_what_is_shown() -> None:
    memory, order = Memory(60), [("a", 2.0), ("b", 1.0)]
    memory.keep(1, "q", Findings({}, order, [[1.0]]))
    assert memory.recall(1, "q", explained=1) and memory.recall(1, "q", explained=0)
    assert memory.recall(1, "q", explained=2) is None, "the ranker is asked for more of them"
    memory.keep(1, "q", Findings({}, order, [[1.0], [2.0]]))
    assert memory.recall(1, "q", explained=10), "there are no more"
    assert memory.recall(2, "q", explained=0) is None


def test_memory_is_bounded_and_can_be_switched_off() -> None:
    memory, none = Memory(60), Memory(0)
    for number in range(2 * ENTRIES):
        memory.keep(1, str(number), Findings({}, [], []))
    assert sum(memory.recall(1, str(number), 0) is not None for number in range(2 * ENTRIES)) == ENTRIES
    none.keep(1, "q", Findings({}, [], []))
    assert none.recall(1, "q", 0) is None


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[ServingStack]:
    """A stack that answers two searches at once, each in SLOW seconds; two more may wait, long enough for a turn."""
    bounds = {"searches_at_once": 2, "searches_waiting": 2, "searches_wait_ms": int(SLOW * 2500)}
    with stack(tmp_path, **bounds, model_timeout_ms=5000) as made:
        made.first = start_all(made, made.snapshot(), ranker={"seconds": SLOW})
        yield made


@pytest.mark.slow
def test_what_is_too_much_is_refused_early_and_the_rest_is_answered_whole(slow: ServingStack) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: search(slow), range(12)))
    given = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(given) == 4 and all(answer.json()["degraded"] == [] for answer in given)
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert "More searches come than can be answered in time" in refused[0].json()["error"]
    health = slow.get("search", "/health")
    assert health.status_code == 200 and health.json()["searches"]["refused"] == len(refused)
    assert search(slow).status_code == 200, "the next is answered as ever"


@pytest.mark.slow
def test_the_page_says_so_in_words(slow: ServingStack) -> None:
    with ThreadPoolExecutor(12) as pool:
        pages = list(pool.map(lambda _: slow.get("search", "/", q=QUERY), range(12)))
    refused = [page for page in pages if page.status_code == 503]
    assert refused and "Ask again in 1 s" in refused[0].text and refused[0].headers["retry-after"] == "1"
