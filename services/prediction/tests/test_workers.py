"""Workers of two codes of one family: each holds its own releases, and the one that leads answers at the port."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services import web
from services.prediction import __main__ as command
from services.prediction import front
from services.tests.stack import ServingStack, stack, until
from shared_ops.release.livesets import LiveSet
from shared_ops.release.runtimes import Runtime


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServingStack]:
    """A live set whose release was made with old code, a worker of that, and a worker of new code."""
    monkeypatch.setattr(front, "OVERLAP_SECONDS", 1.0)
    with stack(tmp_path) as made:
        made.snapshot_ref = made.snapshot()
        for version in ("old", "new"):
            made.release("keyword", version, made.snapshot_ref, code=version)
        made.first = made.go_live(made.snapshot_ref, keyword="old")
        for version in ("old", "new"):
            made.start("keyword", code=version)
        until(lambda: health(made, "old")["live_set"] == made.first.number)
        yield made


def ask(local: ServingStack, code: str, path: str, **body: int | str) -> httpx.Response:
    """Ask the worker of a code over its socket."""
    place = Runtime("keyword", code, "").socket(local.settings)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(place)), base_url="http://localhost") as client:
        return client.post(path, json=body) if body else client.get(path)


def health(local: ServingStack, code: str) -> dict[str, Any]:
    answer: dict[str, Any] = ask(local, code, "/health").json()
    return answer


def proposed(local: ServingStack) -> LiveSet:
    """A set that the new code answers, which has loaded it."""
    proposal = local.propose(local.snapshot_ref, keyword="new")
    until(lambda: ask(local, "new", f"/sets/{proposal.number}").json()["state"] == "ready")
    return proposal


def test_a_worker_holds_the_releases_of_its_own_code_alone(two: ServingStack) -> None:
    proposal = proposed(two)
    assert ask(two, "old", f"/sets/{proposal.number}").json()["state"] == "elsewhere"
    assert ask(two, "new", f"/sets/{two.first.number}").json()["state"] == "elsewhere"
    assert health(two, "old")["held"] == ["old"] and health(two, "new")["held"] == ["new"]
    assert [health(two, code)["code"] for code in ("old", "new")] == ["old", "new"]


def test_health_says_whether_the_live_release_was_made_with_what_answers(two: ServingStack) -> None:
    assert health(two, "old")["as_stated"] is False, "the tests' environment is not that of the manifest: none"


def test_health_of_what_was_made_with_what_answers_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.prediction.app.runtimes.made_from", lambda folder: "")
    with stack(tmp_path) as made:
        ref = made.snapshot()
        made.release("keyword", "v1", ref, code="code")
        live = made.go_live(ref, keyword="v1")
        made.start("keyword", code="code")
        until(lambda: health(made, "code")["live_set"] == live.number)
        assert health(made, "code")["as_stated"] is True


def test_the_port_goes_from_one_to_the_other_without_a_gap_and_back(two: ServingStack) -> None:
    refused, seen, statuses, ended = [], [], set(), threading.Event()

    def look() -> None:
        while not ended.is_set():
            try:
                answer = two.get("keyword", "/health")
                seen.append(answer.json()["code"])
                statuses.add(answer.status_code)
            except httpx.TransportError as error:
                refused.append(error)
            time.sleep(0.02)

    until(lambda: two.answers("keyword", "/health"))
    looking = threading.Thread(target=look)
    looking.start()
    two.sets.go_live(proposed(two))
    until(lambda: seen[-10:] == ["new"] * 10)
    two.sets.go_live(two.first)
    until(lambda: seen[-10:] == ["old"] * 10)
    ended.set()
    looking.join()
    assert refused == [] and statuses == {200}
    assert [health(two, code)["status"] for code in ("old", "new")] == ["ok", "standing by"]


def test_the_set_before_stays_held_by_the_worker_that_answered(two: ServingStack) -> None:
    second = proposed(two)
    two.sets.go_live(second)
    until(lambda: health(two, "new")["live_set"] == second.number and health(two, "old")["live_set"] is None)
    answer = ask(two, "old", "/search", release="old", query="median of an array", k=3)
    assert answer.status_code == 200 and answer.json()["doc_ids"]
    assert ask(two, "old", "/search", release="new", query="median", k=3).status_code == 404


def test_what_a_later_stack_tells_it_besides_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = []
    monkeypatch.setattr(sys, "argv", ["", "keyword", "--port", "0", "--traces", "on"])
    monkeypatch.setattr(command, "holder_of", lambda *_: None)
    monkeypatch.setattr(command, "create_app", lambda *_: None)
    monkeypatch.setattr(web, "serve", lambda *given: served.append(given))
    command.main()
    assert [port for *_, port in served] == [0]
    assert "left out: --traces on" in caplog.text
