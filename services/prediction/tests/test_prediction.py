"""A prediction service: what it holds, what it answers, and what it refuses."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from services.prediction import app
from services.tests.stack import (
    DOCUMENTS,
    SEARCHING,
    ServingStack,
    TinyEncoder,
    TinyExplainer,
    TinyRanker,
    TinySearch,
    load_tiny,
    stack,
    until,
)
from shared_ops.data.tables import Hits
from shared_ops.data.wire import WIRE
from shared_ops.release.livesets import NOTHING_LIVE

QUERY = "fourier transform"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[ServingStack]:
    with stack(tmp_path) as made:
        yield made


@pytest.fixture
def live(local: ServingStack) -> ServingStack:
    """A stack whose keyword service answers from set 1, release v1."""
    local.snapshot_ref = local.snapshot()
    local.release("keyword", "v1", local.snapshot_ref)
    local.first = local.go_live(local.snapshot_ref, keyword="v1")
    local.start("keyword")
    local.until_live("keyword", local.first)
    return local


def ask(local: ServingStack, release: str, query: str = QUERY, **more: int) -> httpx.Response:
    return local.post("keyword", "/search", release=release, query=query, **more)


def ask_rank(local: ServingStack, explains: bool | None = None, **more: int) -> httpx.Response:
    """Ask the ranker's service; where `explains` is given, start it first, with a model that can or cannot."""
    if explains is not None:
        snapshot = local.snapshot()
        local.release("ranker", "r1", snapshot, explains=explains)
        local.start("ranker")
        local.until_live("ranker", local.go_live(snapshot, ranker="r1"))
    hits = {"keyword": {"doc_ids": ["fft", "mean"], "scores": [2, 1]}, "semantic": {"doc_ids": [], "scores": []}}
    return local.post("ranker", "/rank", release="r1", query=QUERY, hits=hits, **more)


def ask_embed(local: ServingStack, texts: list[str], embeds: bool | None = None) -> httpx.Response:
    """Ask semantic's service; where `embeds` is given, start it first, with a model that can or cannot."""
    if embeds is not None:
        snapshot = local.snapshot()
        local.release("semantic", "s1", snapshot, embeds=embeds)
        local.start("semantic")
        local.until_live("semantic", local.go_live(snapshot, semantic="s1"))
    return local.post("semantic", "/embed", release="s1", texts=texts)


class TestBeforeAnythingIsLive:
    def test_it_says_so(self, local: ServingStack) -> None:
        local.start("keyword")
        health = local.get("keyword", "/health")
        assert health.status_code == 503
        assert NOTHING_LIVE in health.json()["reason"]
        answer = ask(local, "v1")
        assert answer.status_code == 503
        assert NOTHING_LIVE in answer.json()["error"]

    def test_it_does_not_know_any_set(self, local: ServingStack) -> None:
        local.start("keyword")
        assert local.get("keyword", "/sets/1").json()["state"] == "unknown"

    def test_a_set_that_goes_live_is_picked_up_without_a_restart(self, local: ServingStack) -> None:
        local.start("keyword")
        snapshot = local.snapshot()
        local.release("keyword", "v1", snapshot)
        local.until_live("keyword", local.go_live(snapshot, keyword="v1"))
        assert ask(local, "v1").status_code == 200
        assert local.get("keyword", "/health").status_code == 200

    def test_a_live_release_that_cannot_be_loaded_is_named_with_its_reason(self, local: ServingStack) -> None:
        local.start("keyword")
        local.go_live(local.snapshot(), keyword="v9")
        reason = until(lambda: "failed" in (text := local.get("keyword", "/health").json()["reason"]) and text)
        assert "Release keyword/v9 is not in" in reason


class TestWorkerAnswers:
    def test_hits_come_best_first_with_the_family_and_the_release(self, live: ServingStack) -> None:
        answer = ask(live, "v1", k=2)
        assert answer.status_code == 200
        body = answer.json()
        assert body == {"family": "keyword", "release": "v1", "doc_ids": ["fft", "window"], "scores": body["scores"]}
        assert body["scores"] == sorted(body["scores"], reverse=True)

    def test_a_ranker_ranks_the_union(self, local: ServingStack) -> None:
        snapshot = local.snapshot()
        local.release("ranker", "r1", snapshot)
        local.start("ranker")
        local.until_live("ranker", local.go_live(snapshot, ranker="r1"))
        hits = {"keyword": {"doc_ids": ["fft", "mean"], "scores": [2, 1]}, "semantic": {"doc_ids": [], "scores": []}}
        answer = local.post("ranker", "/rank", release="r1", query=QUERY, hits=hits)
        assert answer.json()["doc_ids"] == ["mean", "fft"]

    def test_a_ranker_explains_the_best_of_its_order(self, local: ServingStack) -> None:
        ask_rank(local, explains=True)
        plain = ask_rank(local).json()
        explained = ask_rank(local, explain=1).json()
        assert explained == {**plain, "features": [[pytest.approx(ord("m") / 3, abs=1e-5), 1.0, None]]}
        assert len(ask_rank(local, explain=100).json()["features"]) == 2

    def test_a_ranker_without_features_gives_none(self, local: ServingStack) -> None:
        ask_rank(local, explains=False)
        answer = ask_rank(local, explain=5)
        assert answer.status_code == 200
        assert "features" not in answer.json()

    def test_features_are_the_same_float32_numbers_at_the_other_end(self, local: ServingStack) -> None:
        ask_rank(local, explains=True)
        (row,) = ask_rank(local, explain=1).json()["features"]
        assert np.float32(row[0]) == np.float32(ord("m") / 3)

    def test_a_search_model_with_vectors_embeds_many_texts_at_once(self, local: ServingStack) -> None:
        texts = [f"text {'x' * n}" for n in range(50)]
        answer = ask_embed(local, texts, embeds=True)
        assert answer.status_code == 200
        assert answer.json()["vectors"] == [[5.0 + n, 2.0 if n else 1.0] for n in range(50)]
        assert ask_embed(local, []).json()["vectors"] == []

    def test_a_search_goes_before_the_texts_of_a_list(self) -> None:
        """One that came first is answered first; a search that comes later waits for the one text under way."""
        done: list[str] = []
        gate = threading.Event()

        def first_text() -> None:
            gate.wait(10)
            done.append("text 1")

        async def come() -> None:
            worker = app.Worker(waiting_limit=16)
            under_way = asyncio.create_task(worker.call_last(first_text))
            await asyncio.sleep(0)
            searches = [asyncio.create_task(worker.call(done.append, f"search {number}")) for number in (1, 2)]
            await asyncio.sleep(0)
            text = asyncio.create_task(worker.call_last(done.append, "text 2"))
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(under_way, text, *searches)

        asyncio.run(come())
        assert done == ["text 1", "search 1", "search 2", "text 2"]

    def test_what_is_no_vector_is_not_sent(self, local: ServingStack) -> None:
        class Flat(TinyEncoder):
            """Gives numbers for vectors where it is asked for a flat text; such are not among the warm-up queries."""

            def embed(self, texts: Sequence[str]) -> np.ndarray:
                vectors = super().embed(texts)
                return vectors[0] if texts == ["flat"] else vectors

        snapshot = local.snapshot()
        local.release("semantic", "s1", snapshot)
        local.start("semantic", lambda family, folder: Flat({"texts": {}}))
        local.until_live("semantic", local.go_live(snapshot, semantic="s1"))
        assert ask_embed(local, ["round"]).status_code == 200
        broken = ask_embed(local, ["flat"])
        assert broken.status_code == 500 and "ValidationError" in broken.json()["error"]

    def test_one_without_vectors_says_so(self, local: ServingStack) -> None:
        answer = ask_embed(local, ["x"], embeds=False)
        assert answer.status_code == 404
        assert "no vectors" in answer.json()["error"]

    def test_too_much_to_embed_is_refused(self, local: ServingStack) -> None:
        ask_embed(local, ["x"], embeds=True)
        many, long = ask_embed(local, ["x"] * 257), ask_embed(local, ["x", "y" * 5001])
        assert many.status_code == long.status_code == 422
        assert "256" in many.json()["error"]
        assert "5000" in long.json()["error"]

    @pytest.mark.parametrize("query", ["", "<b>&'\"</b>", "дискретное 変換 تحويل", "a\x00b\x1b[31m", "x" * 5000])
    def test_any_text_is_legal(self, live: ServingStack, query: str) -> None:
        assert ask(live, "v1", query=query).status_code == 200

    def test_a_release_it_does_not_hold_is_404_and_named(self, live: ServingStack) -> None:
        answer = ask(live, "v2")
        assert answer.status_code == 404
        assert answer.json()["error"] == "keyword does not hold release 'v2', only: v1."

    def test_a_model_that_breaks_on_a_query_is_a_500_in_words_and_the_next_query_is_answered(
        self, live: ServingStack
    ) -> None:
        live.release("keyword", "v2", live.snapshot_ref, crash="bomb")
        live.settled("keyword", live.propose(live.snapshot_ref, keyword="v2"))
        broken = ask(live, "v2", query="a bomb")
        assert broken.status_code == 500
        assert "RuntimeError" in broken.json()["error"]
        assert ask(live, "v2").status_code == 200

    @pytest.mark.slow
    def test_past_the_bound_it_is_busy_at_once(self, tmp_path: Path) -> None:
        with stack(tmp_path, waiting_limit=1) as local:
            snapshot = local.snapshot()
            local.release("keyword", "v1", snapshot, seconds=0.5)
            local.start("keyword")
            local.until_live("keyword", local.go_live(snapshot, keyword="v1"))
            with ThreadPoolExecutor(4) as clients:
                answers = list(clients.map(lambda _: ask(local, "v1"), range(4)))
            assert {answer.status_code for answer in answers} == {200, 503}
            assert all("Busy" in answer.json()["error"] for answer in answers if answer.status_code == 503)

    def test_metrics_count_requests_and_name_what_is_held(self, live: ServingStack) -> None:
        ask(live, "v1")
        ask(live, "v2")
        text = live.get("keyword", "/metrics").text
        assert 'searchloop_requests_total{route="/search",status="200"} 1.0' in text
        assert 'searchloop_requests_total{route="/search",status="404"} 1.0' in text
        assert 'searchloop_held{live="true",release="v1",service="keyword"} 1.0' in text
        assert 'searchloop_load_failures_total{service="keyword"} 0.0' in text


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    """A stack whose ranker's service answers with the release r1."""
    with stack(tmp_path_factory.mktemp("ranking")) as made:
        ask_rank(made, explains=True)
        yield made


def rank(local: ServingStack, hits: dict[str, Any], **more: str) -> httpx.Response:
    return local.post("ranker", "/rank", **{"release": "r1", "query": QUERY, "hits": hits, **more})


class TestBadRankings:
    """What no search would send neither reaches the model nor holds up the service."""

    @pytest.mark.parametrize(
        ("hits", "words"),
        [
            ({"astrology": {"doc_ids": ["fft"], "scores": [1]}}, "expected those of keyword, semantic, behavior"),
            ({"keyword": {"doc_ids": ["fft"], "scores": [1e308]}}, "less than or equal to 1000000000000000"),
            ({"keyword": {"doc_ids": ["fft"], "scores": [-1e308]}}, "greater than or equal to -1000000000000000"),
            ({"keyword": {"doc_ids": ["fft"], "scores": [None]}}, "valid number"),
            ({"keyword": {"doc_ids": ["fft", "fft"], "scores": [2, 1]}}, "every document once"),
            ({"keyword": {"doc_ids": ["fft"], "scores": []}}, "a score for every document"),
            ({"keyword": {"doc_ids": [str(n) for n in range(1001)], "scores": [0] * 1001}}, "at most 1000 items"),
        ],
    )
    def test_each_is_a_422_in_words(self, ranking: ServingStack, hits: dict[str, Any], words: str) -> None:
        answer = rank(ranking, hits)
        assert answer.status_code == 422
        assert words in answer.json()["error"]

    def test_the_largest_scores_that_it_takes_are_ranked(self, ranking: ServingStack) -> None:
        hits = {name: {"doc_ids": ["fft", "mean"], "scores": [1e15, -1e15]} for name in SEARCHING}
        assert rank(ranking, hits).status_code == 200

    def test_as_much_as_a_search_can_send_is_taken(self, ranking: ServingStack) -> None:
        hits = {
            name: {"doc_ids": [f"{n}{'變' * 1000}" for n in range(100)], "scores": [1 / (n + 7) for n in range(100)]}
            for name in SEARCHING
        }
        assert rank(ranking, hits, query="變" * 5000).status_code == 200

    @pytest.mark.parametrize("headers", [{"content-length": "50000000"}, {}], ids=["with its length", "without"])
    def test_50_mb_are_refused_before_they_are_read(self, ranking: ServingStack, headers: dict[str, str]) -> None:
        resident = float(metric(ranking, "ranker", "process_resident_memory_bytes"))
        url, parts = ranking.settings.url("ranker") + "/rank", (b"x" * 1_000_000 for _ in range(50))
        answer = ranking.client.post(url, content=parts, headers=headers)
        assert answer.status_code == 413
        assert "expected 2,000,000 bytes at most" in answer.json()["error"]
        assert float(metric(ranking, "ranker", "process_resident_memory_bytes")) - resident < 40_000_000


def metric(local: ServingStack, name: str, metric: str) -> str:
    return next(
        line.split()[1] for line in local.get(name, "/metrics").text.splitlines() if line.startswith(f"{metric} ")
    )


class TestBadRequests:
    @pytest.mark.parametrize(
        "number", [2**63, 2**64, "9" * 5000, -1, "1.5", "%00", "x"], ids=lambda number: str(number)[:9]
    )
    def test_what_is_no_sets_number(self, ranking: ServingStack, number: int | str) -> None:
        answer = ranking.get("ranker", f"/sets/{number}")
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("number: ")

    def test_one_that_no_set_has_yet(self, ranking: ServingStack) -> None:
        assert ranking.get("ranker", f"/sets/{2**63 - 1}").json()["state"] == "unknown"

    @pytest.mark.parametrize("host", ["rebound.example", "[::1", "", "127.0.0.1.rebound.example"])
    def test_one_that_means_another_server(self, ranking: ServingStack, host: str) -> None:
        answer = ranking.client.get(ranking.settings.url("ranker") + "/health", headers={"host": host})
        assert answer.status_code == 403
        assert "expected 127.0.0.1 or localhost" in answer.json()["error"]

    @pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:7700", "[::1]:7700"])
    def test_this_machines_names(self, ranking: ServingStack, host: str) -> None:
        answer = ranking.client.get(ranking.settings.url("ranker") + "/health", headers={"host": host})
        assert answer.status_code == 200


class TestBadBodies:
    @pytest.mark.parametrize(
        ("body", "word"),
        [
            (b'{"release": "v1", "query": ', "JSON"),
            (b"[]", "body"),
            (b'{"query": "x"}', "release"),
            (b'{"release": "v1"}', "query"),
            (b'{"release": "v1", "query": 7}', "query"),
            (b'{"release": "v1", "query": "x", "k": 0}', "k"),
            (b'{"release": "v1", "query": "x", "k": 1001}', "k"),
            (b'{"release": "v1", "query": "\\ud800"}', "body: Invalid JSON"),
            (b'{"release": "v1", "query": "\xff"}', ""),
            (b'{"release": "v1", "query": "%s"}' % (b"x" * 100_000), "5000"),
        ],
    )
    def test_each_is_a_4xx_that_names_what_is_wrong(self, live: ServingStack, body: bytes, word: str) -> None:
        answer = live.client.post(
            live.settings.url("keyword") + "/search", content=body, headers={"content-type": "application/json"}
        )
        assert 400 <= answer.status_code < 500
        assert word in answer.json()["error"]

    @pytest.mark.parametrize("scores", ["[1]", "[1, NaN]", '[1, "x"]'])
    def test_hits_without_a_score_for_each_are_refused_by_a_ranker(self, local: ServingStack, scores: str) -> None:
        snapshot = local.snapshot()
        local.release("ranker", "r1", snapshot)
        local.start("ranker")
        local.until_live("ranker", local.go_live(snapshot, ranker="r1"))
        body = '{"release": "r1", "query": "x", "hits": {"keyword": {"doc_ids": ["a", "b"], "scores": ' + scores + "}}}"
        answer = local.client.post(
            local.settings.url("ranker") + "/rank", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422
        assert "hits.keyword" in answer.json()["error"]


class TestProposals:
    def test_a_proposal_is_held_beside_the_live_release(self, live: ServingStack) -> None:
        live.release("keyword", "v2", live.snapshot_ref)
        proposed = live.propose(live.snapshot_ref, keyword="v2")
        assert live.settled("keyword", proposed) == {
            "number": proposed.number,
            "state": "ready",
            "release": "v2",
            "reason": None,
            "wire": WIRE,
        }
        assert ask(live, "v1").status_code == ask(live, "v2").status_code == 200
        assert live.get("keyword", "/health").json()["live_set"] == live.first.number

    def test_the_live_release_answers_while_a_proposal_is_loading(self, local: ServingStack) -> None:
        may_load = threading.Event()

        def load(family: str, folder: Path) -> TinySearch | TinyRanker:
            if folder.name == "v2":
                assert may_load.wait(10)
            return load_tiny(family, folder)

        snapshot = local.snapshot()
        local.release("keyword", "v1", snapshot)
        local.release("keyword", "v2", snapshot)
        local.start("keyword", load)
        local.until_live("keyword", local.go_live(snapshot, keyword="v1"))
        proposed = local.propose(snapshot, keyword="v2")
        until(lambda: local.state("keyword", proposed)["state"] == "loading")
        assert ask(local, "v1").status_code == 200
        assert ask(local, "v2").status_code == 404
        may_load.set()
        assert local.settled("keyword", proposed)["state"] == "ready"

    def test_a_set_with_the_same_release_is_ready_without_loading_it_again(self, local: ServingStack) -> None:
        loaded = []

        def load(family: str, folder: Path) -> TinySearch | TinyRanker:
            loaded.append(folder.name)
            return load_tiny(family, folder)

        snapshot = local.snapshot()
        local.release("keyword", "v1", snapshot)
        local.start("keyword", load)
        local.until_live("keyword", local.go_live(snapshot, keyword="v1", ranker="r1"))
        assert local.settled("keyword", local.propose(snapshot, keyword="v1", ranker="r2"))["state"] == "ready"
        assert loaded == ["v1"]

    def test_the_set_before_is_held_as_long_as_it_is_that_and_for_a_grace_period_more(self, tmp_path: Path) -> None:
        with stack(tmp_path, grace_seconds=0.5) as local:
            snapshot = local.snapshot()
            local.start("keyword")
            for version in ("v1", "v2"):
                local.release("keyword", version, snapshot)
                local.until_live("keyword", local.go_live(snapshot, keyword=version))
            time.sleep(2 * local.settings.grace_seconds)
            assert ask(local, "v1").status_code == 200
            local.release("keyword", "v3", snapshot)
            local.until_live("keyword", local.go_live(snapshot, keyword="v3"))
            assert ask(local, "v1").status_code == 200
            until(lambda: ask(local, "v1").status_code == 404)
            assert ask(local, "v2").status_code == 200

    @pytest.mark.parametrize("number", ["the same", "a new"])
    def test_rolled_back_and_forth_nothing_is_loaded_again(self, tmp_path: Path, number: str) -> None:
        loaded = []

        def load(family: str, folder: Path) -> TinySearch | TinyRanker:
            loaded.append(folder.name)
            return load_tiny(family, folder)

        with stack(tmp_path, grace_seconds=0.1) as local:
            snapshot = local.snapshot()
            for version in ("v1", "v2"):
                local.release("keyword", version, snapshot)
            local.start("keyword", load)
            for version in ("v1", "v2"):
                local.until_live("keyword", local.go_live(snapshot, keyword=version))
            for back, version in ((1, "v1"), (2, "v2"), (1, "v1")):
                time.sleep(2 * local.settings.grace_seconds)
                chosen = local.sets.past(back)
                if number == "a new":
                    chosen = local.propose(snapshot, keyword=version)
                    assert local.settled("keyword", chosen)["state"] == "ready"
                local.sets.go_live(chosen)
                local.until_live("keyword", chosen)
                assert ask(local, version).status_code == 200
        assert loaded == ["v1", "v2"]


class TestProposalsThatFail:
    """Whatever is wrong with a proposal: it is reported with its reason, and what is live goes on answering."""

    def check_failed(self, live: ServingStack, version: str, word: str) -> None:
        proposed = live.propose(live.snapshot_ref, keyword=version)
        state = live.settled("keyword", proposed)
        assert state["state"] == "failed"
        assert word in state["reason"]
        assert ask(live, "v1").status_code == 200
        assert ask(live, version).status_code == 404
        assert live.get("keyword", "/health").status_code == 200

    def test_one_changed_byte(self, live: ServingStack) -> None:
        live.release("keyword", "v2", live.snapshot_ref)
        path = live.release_folder("keyword", "v2") / "model.json"
        content = bytearray(path.read_bytes())
        content[-2] ^= 1
        path.unlink()
        path.write_bytes(content)
        self.check_failed(live, "v2", "model.json is not the one that was published")
        assert 'searchloop_load_failures_total{service="keyword"} 0.0' not in live.get("keyword", "/metrics").text

    def test_a_missing_file(self, live: ServingStack) -> None:
        live.release("keyword", "v2", live.snapshot_ref)
        (live.release_folder("keyword", "v2") / "model.json").unlink()
        self.check_failed(live, "v2", "lacks the file model.json")

    def test_a_manifest_of_a_newer_format(self, live: ServingStack) -> None:
        live.release("keyword", "v2", live.snapshot_ref, format_version=99)
        self.check_failed(live, "v2", "manifest format 99")

    def test_a_release_that_is_not_there(self, live: ServingStack) -> None:
        self.check_failed(live, "v2", "is not in")

    def test_a_set_without_this_family(self, live: ServingStack) -> None:
        proposed = live.propose(live.snapshot_ref, semantic="s1")
        state = until(lambda: (answer := live.state("keyword", proposed))["state"] != "unknown" and answer)
        assert state["state"] == "elsewhere" and "takes no part in it" in state["reason"]

    @pytest.mark.parametrize(
        ("content", "word"),
        [
            ({"hits": [["fft", "nan"]]}, "no number from"),
            ({"hits": [["fft", 1], ["mean", 2]]}, "order"),
            ({"hits": [["fft", 1], ["fft", 1]]}, "twice"),
            ({"hits": [["no-such-document", 1]]}, "in no snapshot"),
            ({"crash": "fourier"}, "the model broke"),
        ],
    )
    def test_answers_that_cannot_be_right(self, live: ServingStack, content: dict[str, Any], word: str) -> None:
        live.release("keyword", "v2", live.snapshot_ref, **content)
        self.check_failed(live, "v2", word)

    def test_a_ranker_that_loses_documents(self, local: ServingStack) -> None:
        snapshot = local.snapshot()
        local.release("ranker", "r1", snapshot, keeps=1)
        local.start("ranker")
        state = local.settled("ranker", local.propose(snapshot, ranker="r1"))
        assert state["state"] == "failed"
        assert "exactly the documents" in state["reason"]

    def test_a_ranker_that_explains_another_order(self, local: ServingStack) -> None:
        class Liar(TinyExplainer):
            def explain(self, text: str, hits: Mapping[str, Hits], n: int) -> tuple[Hits, np.ndarray]:
                order, features = super().explain(text, hits, n)
                return order[::-1], features

        snapshot = local.snapshot()
        local.release("ranker", "r1", snapshot)
        local.start("ranker", lambda family, folder: Liar({}))
        state = local.settled("ranker", local.propose(snapshot, ranker="r1"))
        assert state["state"] == "failed"
        assert "explains another order" in state["reason"]

    def test_vectors_that_are_not_numbers(self, local: ServingStack) -> None:
        class Broken(TinyEncoder):
            def embed(self, texts: Sequence[str]) -> np.ndarray:
                return super().embed(texts) * np.nan

        content = {"texts": {doc_id: text for doc_id, (_, text) in DOCUMENTS.items()}}
        snapshot = local.snapshot()
        local.release("semantic", "s1", snapshot)
        local.start("semantic", lambda family, folder: Broken(content))
        state = local.settled("semantic", local.propose(snapshot, semantic="s1"))
        assert state["state"] == "failed"
        assert "vectors are not" in state["reason"]

    def test_a_document_that_has_left_the_corpus_is_no_failure(self, live: ServingStack) -> None:
        smaller = live.snapshot({doc_id: each for doc_id, each in DOCUMENTS.items() if doc_id != "fft"})
        live.release("keyword", "v2", live.snapshot_ref)
        assert live.settled("keyword", live.propose(smaller, keyword="v2"))["state"] == "ready"

    def test_the_next_proposal_is_loaded(self, live: ServingStack) -> None:
        self.check_failed(live, "v2", "is not in")
        live.release("keyword", "v2", live.snapshot_ref)
        assert live.settled("keyword", live.propose(live.snapshot_ref, keyword="v2"))["state"] == "ready"

    def test_a_load_is_tried_again_after_a_while(self, live: ServingStack) -> None:
        proposed = live.propose(live.snapshot_ref, keyword="v2")
        assert live.settled("keyword", proposed)["state"] == "failed"
        live.release("keyword", "v2", live.snapshot_ref)
        until(lambda: live.state("keyword", proposed)["state"] == "ready")

    def test_a_pointer_that_cannot_be_read_is_reported_and_nothing_is_lost(self, live: ServingStack) -> None:
        pointer = live.settings.home / "staging" / "prod" / "live.json"
        before = pointer.read_text()
        pointer.write_text("{")
        health = until(lambda: (answer := live.get("keyword", "/health").json())["reason"] and answer)
        assert health["status"] == "ok"
        assert ask(live, "v1").status_code == 200
        pointer.write_text(before)
        until(lambda: live.get("keyword", "/health").json()["reason"] is None)
