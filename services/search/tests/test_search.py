"""GET /search against real prediction services: the order, what degrades it, and what is refused."""

import asyncio
import json
import socket
import time
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Never

import httpx
import orjson
import pytest

from services import connections
from services.search.models import Models, UnavailableError, _read
from services.tests.stack import DOCUMENTS, SEARCHING, ServingStack, stack, until
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.data.tables import Hits
from shared_ops.release.livesets import NOTHING_LIVE, LiveSet
from shared_ops.release.runtimes import Runtime

QUERY = "fourier transform of a signal"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[ServingStack]:
    with stack(tmp_path) as made:
        yield made


def release_all(local: ServingStack, version: str, snapshot: SnapshotRef, **content: dict[str, Any]) -> dict[str, str]:
    return {family: local.release(family, version, snapshot, **content.get(family, {})) for family in FAMILIES}


FAMILIES = (*SEARCHING, "ranker")


def start_all(local: ServingStack, snapshot: SnapshotRef, **content: dict[str, Any]) -> LiveSet:
    """A stack that answers from set 1. `content` gives a family's model what it does unusually."""
    chosen = local.go_live(snapshot, **release_all(local, "v1", snapshot, **content))
    for name in (*FAMILIES, "search"):
        local.start(name)
    for name in (*FAMILIES, "search"):
        local.until_live(name, chosen)
    return chosen


@pytest.fixture
def local(empty: ServingStack) -> ServingStack:
    empty.snapshot_ref = empty.snapshot()
    empty.first = start_all(empty, empty.snapshot_ref)
    return empty


def search(local: ServingStack, q: str = QUERY, **more: int | str) -> httpx.Response:
    return local.get("search", "/search", q=q, **more)


def ids(answer: httpx.Response) -> list[str]:
    return [hit["doc_id"] for hit in answer.json()["hits"]]


class TestAppAnswers:
    def test_the_rankers_order_is_the_one_that_is_shown(self, local: ServingStack) -> None:
        answer = search(local)
        assert answer.status_code == 200
        assert ids(answer) == sorted(ids(answer), reverse=True)
        assert answer.json()["ranking"] == "ranker"
        assert answer.json()["degraded"] == []

    def test_a_hit_says_what_it_is_and_who_found_it(self, local: ServingStack) -> None:
        hit = next(hit for hit in search(local).json()["hits"] if hit["doc_id"] == "fft")
        assert hit["title"] == "Fast Fourier transform"
        assert hit["snippet"] == DOCUMENTS["fft"][1]
        assert hit["source"] == "test"
        assert hit["url"] is None
        assert set(hit["found_by"]) == set(SEARCHING)
        assert set(hit["found_by"].values()) <= {1, 2, 3, 4, 5}

    def test_k_results_at_most_ranked_from_1(self, local: ServingStack) -> None:
        hits = search(local, k=2).json()["hits"]
        assert [hit["rank"] for hit in hits] == [1, 2]

    def test_the_set_that_answered_is_named(self, local: ServingStack) -> None:
        live_set = search(local).json()["live_set"]
        assert live_set == {
            "number": local.first.number,
            "releases": dict.fromkeys(FAMILIES, "v1"),
            "snapshot": local.snapshot_ref.id,
        }

    def test_every_stage_is_timed(self, local: ServingStack) -> None:
        timings = search(local).json()["timings_ms"]
        assert set(timings) == {*SEARCHING, "search", "rank", "snippets", "total"}
        assert timings["total"] >= timings["search"] + timings["rank"]

    def test_nothing_found_is_an_empty_answer(self, local: ServingStack) -> None:
        answer = search(local, q="xylophone")
        assert answer.status_code == 200
        assert answer.json()["hits"] == []
        assert answer.json()["degraded"] == []

    def test_metrics_count_answers_and_stages(self, local: ServingStack) -> None:
        search(local)
        text = local.get("search", "/metrics").text
        assert 'searchloop_answers_total{ranking="ranker"} 1.0' in text
        assert 'searchloop_stage_seconds_count{stage="rank"} 1.0' in text
        assert 'searchloop_requests_total{route="/search",status="200"} 1.0' in text


class TestDegraded:
    """One model down, slow or broken takes its own hits away and no more, and the answer says so."""

    @pytest.mark.parametrize("family", SEARCHING)
    def test_a_search_model_that_is_down(self, local: ServingStack, family: str) -> None:
        local.stop(family)
        answer = search(local)
        assert answer.status_code == 200
        assert [each["family"] for each in answer.json()["degraded"]] == [family]
        assert "not reachable" in answer.json()["degraded"][0]["reason"]
        assert "fft" in ids(answer)
        searches = local.get("search", "/health").json()["searches"]
        assert searches["answered"] == 1 and list(searches["lacking"]) == [family]
        assert searches["lacking"][family]["searches"] == 1
        assert "not reachable" in searches["lacking"][family]["cause"]
        assert all(family not in hit["found_by"] for hit in answer.json()["hits"])

    def test_it_is_back_when_the_model_is(self, local: ServingStack) -> None:
        local.stop("semantic")
        assert search(local).json()["degraded"]
        local.start("semantic")
        until(lambda: not search(local).json()["degraded"])

    def test_a_search_model_that_is_slow(self, tmp_path: Path) -> None:
        with stack(tmp_path, model_timeout_ms=150) as local:
            start_all(local, local.snapshot(), semantic={"seconds": 0.4})
            body = search(local).json()
            assert body["degraded"] == [{"family": "semantic", "reason": "no answer within 150 ms"}]
            assert body["hits"]

    @pytest.mark.slow
    def test_with_every_search_model_late_the_first_hits_are_waited_for(self, tmp_path: Path) -> None:
        with stack(tmp_path, model_timeout_ms=100) as local:
            seconds = {"keyword": 0.3, "semantic": 0.8, "behavior": 0.8}
            start_all(local, local.snapshot(), **{family: {"seconds": each} for family, each in seconds.items()})
            answer = search(local)
            assert answer.status_code == 200
            assert [each["family"] for each in answer.json()["degraded"]] == ["behavior", "semantic"]
            assert all(set(hit["found_by"]) == {"keyword"} for hit in answer.json()["hits"])

    def test_and_no_longer_than_its_patience(self, tmp_path: Path) -> None:
        with stack(tmp_path, model_timeout_ms=50, model_patience_ms=150) as local:
            start_all(local, local.snapshot(), **{family: {"seconds": 0.4} for family in SEARCHING})
            answer = search(local)
            assert answer.status_code == 503
            assert "keyword: no answer within 150 ms" in answer.json()["error"]

    def test_a_ranker_that_is_slow(self, tmp_path: Path) -> None:
        with stack(tmp_path, model_timeout_ms=150) as local:
            start_all(local, local.snapshot(), ranker={"seconds": 0.4})
            body = search(local).json()
            assert body["degraded"] == [{"family": "ranker", "reason": "no answer within 150 ms"}]
            assert body["ranking"] == "rrf"

    def test_a_search_model_that_breaks(self, empty: ServingStack) -> None:
        start_all(empty, empty.snapshot(), keyword={"crash": "bomb"})
        degraded = search(empty, q="signal bomb").json()["degraded"]
        assert degraded[0]["family"] == "keyword"
        assert "RuntimeError" in degraded[0]["reason"]

    def test_without_the_ranker_ranks_are_fused_and_it_is_marked(self, local: ServingStack) -> None:
        local.stop("ranker")
        answer = search(local)
        assert answer.status_code == 200
        assert answer.json()["ranking"] == "rrf"
        assert [each["family"] for each in answer.json()["degraded"]] == ["ranker"]
        assert ids(answer)[0] == "fft"
        assert ids(answer) != sorted(ids(answer), reverse=True)

    def test_a_ranker_that_loses_documents_is_not_followed(self, local: ServingStack) -> None:
        class Careless:
            families = SEARCHING

            def rank(self, text: str, hits: Mapping[str, Hits]) -> Hits:
                # Sound on the queries that it is checked with.
                union = sorted({doc_id for family_hits in hits.values() for doc_id, _ in family_hits})
                kept = union[:1] if "careless" in text else union
                return [(doc_id, -float(place)) for place, doc_id in enumerate(kept)]

        local.stop("ranker")
        local.start("ranker", lambda family, folder: Careless())
        local.until_live("ranker", local.first)
        assert search(local).json()["ranking"] == "ranker"
        body = search(local, q="careless signal").json()
        assert body["ranking"] == "rrf"
        assert "other documents" in body["degraded"][0]["reason"]
        assert len(body["hits"]) > 1

    @pytest.mark.parametrize("doc_ids", [["a", "a"], ["a"]])
    def test_an_answer_that_is_no_hits_counts_as_none(self, doc_ids: list[str]) -> None:
        """As of a worker of other code, which may not look at what it answers."""
        body = json.dumps({"family": "keyword", "release": "v1", "doc_ids": doc_ids, "scores": [2.0, 1.0]})
        with pytest.raises(UnavailableError, match="answered 200 with what is no hits"):
            _read(200, body.encode())

    def test_a_ranker_is_not_asked_with_what_is_no_hits(self, local: ServingStack) -> None:
        asked = Models(local.settings).rank("ranker", "v1", "words", {"keyword": [("a", 2.0), ("a", 1.0)]}, 0)
        with pytest.raises(UnavailableError, match="expected every document once"):
            asyncio.run(asked)

    def test_a_release_that_cannot_be_looked_up_is_a_model_that_is_away(
        self, local: ServingStack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: str) -> Never:
            raise PermissionError("the staging area refuses")

        monkeypatch.setattr("services.search.models.runtimes.of_release", away)
        with pytest.raises(UnavailableError, match=r"cannot be looked up: the staging area refuses"):
            asyncio.run(Models(local.settings).search("keyword", "v1", "words"))
        time.sleep(2 * connections.TICKS / 10)  # in which each server has looked whether it leads
        monkeypatch.undo()
        assert search(local).json()["degraded"] == [], "the models outlive that"

    def test_with_every_search_model_down_it_is_a_503_with_the_reasons(self, local: ServingStack) -> None:
        for family in SEARCHING:
            local.stop(family)
        answer = search(local)
        assert answer.status_code == 503
        for family in SEARCHING:
            assert f"{family}: not reachable" in answer.json()["error"]

    def test_something_else_on_a_models_socket(self, local: ServingStack) -> None:
        local.stop("semantic")
        place = Runtime("semantic", "", "").socket(local.settings)
        place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(place))
            server.listen()
            # It accepts and never answers.
            body = search(local).json()
            assert server
        assert body["degraded"][0]["family"] == "semantic"
        assert "no answer within" in body["degraded"][0]["reason"]


class TestSets:
    def test_before_any_is_live_search_says_so(self, empty: ServingStack) -> None:
        empty.start("search")
        for answer in (search(empty), empty.get("search", "/", q="x")):
            assert answer.status_code == 503
            assert NOTHING_LIVE in answer.text
        assert empty.get("search", "/health").status_code == 503
        assert empty.get("search", "/").status_code == 200

    def test_a_new_set_is_picked_up_without_a_restart_and_no_query_fails_meanwhile(self, local: ServingStack) -> None:
        proposed = local.propose(local.snapshot_ref, **release_all(local, "v2", local.snapshot_ref))
        for name in (*FAMILIES, "search"):
            assert local.settled(name, proposed)["state"] == "ready"
        local.sets.go_live(proposed)
        answers: list[httpx.Response] = []

        def picked_up() -> bool:
            answers.append(search(local))
            return bool(answers[-1].json()["live_set"]["number"] == proposed.number)

        until(picked_up)
        for answer in answers:
            assert answer.status_code == 200
            assert answer.json()["degraded"] == []
            assert len(set(answer.json()["live_set"]["releases"].values())) == 1

    def test_a_document_that_leaves_the_corpus_leaves_the_results_whatever_the_models_hold(
        self, local: ServingStack
    ) -> None:
        smaller = local.snapshot({doc_id: each for doc_id, each in DOCUMENTS.items() if doc_id != "fft"})
        assert "fft" in ids(search(local))
        local.until_live("search", local.go_live(smaller, **dict.fromkeys(FAMILIES, "v1")))
        answer = search(local)
        assert "fft" not in ids(answer)
        assert "window" in ids(answer)
        assert answer.json()["ranking"] == "ranker"
        assert {hit["found_by"]["keyword"] for hit in answer.json()["hits"]} == set(range(1, len(ids(answer)) + 1))

    def test_a_snapshot_that_cannot_be_loaded_is_reported_and_the_live_set_goes_on(self, local: ServingStack) -> None:
        gone = local.snapshot_ref.model_copy(update={"id": "gone", "url": local.snapshot_ref.url + "-gone"})
        proposed = local.propose(gone, **dict.fromkeys(FAMILIES, "v1"))
        state = local.settled("search", proposed)
        assert state["state"] == "failed"
        assert state["snapshot"] == "gone"
        assert "No snapshot at" in state["reason"]
        assert search(local).status_code == 200

    def test_who_takes_part_is_what_the_set_says_and_an_answer_lacks_nobody_else(self, local: ServingStack) -> None:
        local.until_live("search", local.go_live(local.snapshot_ref, keyword="v1", semantic="v1", ranker="v1"))
        answer = search(local).json()
        assert answer["degraded"] == [] and answer["ranking"] == "ranker"
        assert set(answer["timings_ms"]) >= {"keyword", "semantic"} and "behavior" not in answer["timings_ms"]


class TestBadInput:
    @pytest.mark.parametrize("k", ["0", "-1", "101", "ten", ""])
    def test_k_out_of_range(self, local: ServingStack, k: str) -> None:
        answer = search(local, k=k)
        assert answer.status_code == 422
        assert answer.json()["error"].startswith("k: ")

    @pytest.mark.parametrize("q", ["", "   ", "\x00\x1f\u202e"])
    def test_a_query_without_words(self, local: ServingStack, q: str) -> None:
        answer = search(local, q=q)
        assert answer.status_code == 422
        assert "expected words" in answer.json()["error"]

    def test_no_query(self, local: ServingStack) -> None:
        assert local.get("search", "/search").status_code == 422

    def test_a_query_that_is_too_long(self, local: ServingStack) -> None:
        answer = search(local, q="x" * 5001)
        assert answer.status_code == 422
        assert "expected 5,000 characters at most, got 5,001" in answer.json()["error"]
        assert search(local, q="fourier " * 600).status_code == 200

    def test_one_that_is_too_long_in_its_composed_form_alone(self, local: ServingStack) -> None:
        answer = search(local, q="\U0001d160" * 5000)
        assert answer.status_code == 422
        assert "got 15,000 in Unicode's composed form (NFC)" in answer.json()["error"]
        shrinks = unicodedata.normalize("NFD", "\u00e9")
        assert search(local, q=shrinks * 5000).json()["query"] == "\u00e9" * 5000

    @pytest.mark.parametrize("size", [64_900, 65_600, 100_000, 1_000_000])
    def test_an_address_longer_than_the_servers_parser_takes(self, local: ServingStack, size: int) -> None:
        # httpx itself refuses to send these.
        with socket.create_connection(("127.0.0.1", local.settings.ports["search"])) as client:
            client.sendall(
                b"GET /search?q=" + b"x" * size + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        head, body = answer.split(b"\r\n\r\n", 1)
        assert head.split()[1] in (b"414", b"422")
        assert "5,000 characters at most" in orjson.loads(body)["error"]

    @pytest.mark.parametrize(
        "q",
        [
            "<script>alert(1)</script> signal",
            "преобразование",
            "傅里叶变换",
            "تحويل فورييه",
            "\U0001f600",
            "%",
            "a" * 5000,
        ],
    )
    def test_any_text_is_answered(self, local: ServingStack, q: str) -> None:
        assert search(local, q=q).status_code == 200

    def test_control_characters_are_white_space_and_letters_are_composed(self, local: ServingStack) -> None:
        decomposed = unicodedata.normalize("NFD", "é")
        assert search(local, q=f"signal\x00\x1b\t caf{decomposed}\u202e").json()["query"] == "signal café"

    def test_bytes_that_are_no_utf8(self, local: ServingStack) -> None:
        answer = local.client.get(local.settings.url("search") + "/search?q=%ff%fe signal")
        assert answer.status_code == 200

    def test_another_method_or_path(self, local: ServingStack) -> None:
        assert local.post("search", "/search").status_code == 405
        assert local.get("search", "/nothing-here").status_code == 404
        assert local.get("search", "/sets/x").status_code == 422
