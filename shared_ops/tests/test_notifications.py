"""A message is always logged, and reaches every address that works: that of a real HTTP server."""

import json
import logging
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from dagster import (
    DagsterEventType,
    DagsterInstance,
    DefaultSensorStatus,
    build_run_status_sensor_context,
    job,
    op,
)

from shared_ops import notifications
from shared_ops.notifications import notify
from shared_ops.pipeline.alerts import failure_sensor

Webhook = tuple[str, list[dict[str, Any]]]


@pytest.fixture
def received() -> Iterator[Webhook]:
    """A webhook's address, and what it has received."""
    got: list[dict[str, Any]] = []

    class Keeper(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    server.server_close()


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"json://user:secret@127.0.0.1:{port}/hook"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes a message, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"json://127.0.0.1:{server.getsockname()[1]}/hook"


def test_a_message_reaches_every_address(received: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    url, got = received
    monkeypatch.setenv("SEARCHLOOP_NOTIFY", f"{url} {url}?second=yes")
    notify("ranker_prod failed", "train: no space left", "failure")
    assert [(each["title"], each["message"], each["type"]) for each in got] == 2 * [
        ("ranker_prod failed", "train: no space left", "failure")
    ]


def test_without_an_address_it_is_a_log_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("SEARCHLOOP_NOTIFY", raising=False)
    with caplog.at_level(logging.INFO, "shared_ops.notifications"):
        notify("keyword/v2 rejected", "nDCG@10 fell by 0.1", "warning")
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("WARNING", "keyword/v2 rejected: nDCG@10 fell by 0.1")
    ]


def test_one_that_cannot_be_delivered_is_an_error_in_the_log_and_the_others_get_it(
    received: Webhook,
    nobody: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, got = received
    monkeypatch.setenv("SEARCHLOOP_NOTIFY", f"{nobody} {url}")
    notify("a title", "a text")
    assert [each["message"] for each in got] == ["a text"]
    (error,) = (each.message for each in caplog.records if each.name == "shared_ops.notifications")
    assert "'a title' did not reach" in error and "secret" not in error


def test_an_address_that_does_not_answer_holds_nobody_up(
    silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifications, "SECONDS", 1)
    monkeypatch.setenv("SEARCHLOOP_NOTIFY", silent)
    began = time.monotonic()
    notify("a title", "a text")
    assert time.monotonic() - began < 30
    assert "TIMEOUT" in caplog.text


def test_an_address_of_an_unknown_kind_is_an_error_in_the_log(
    received: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, got = received
    monkeypatch.setenv("SEARCHLOOP_NOTIFY", f"pigeon://secret@loft {url}")
    notify("a title", "a text")
    assert len(got) == 1
    assert "Address 1 of SEARCHLOOP_NOTIFY" in caplog.text and "secret" not in caplog.text


def test_a_failed_run_is_told_with_its_job_step_error_first_cause_and_address(
    received: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = received
    monkeypatch.setenv("SEARCHLOOP_NOTIFY", url)
    monkeypatch.setenv("SEARCHLOOP_PORT_BASE", "7700")

    @op
    def train() -> None:
        try:
            raise OSError("no space left on device")
        except OSError as error:
            raise RuntimeError("the weights were not written") from error

    @job
    def keyword_prod() -> None:
        train()

    with DagsterInstance.ephemeral() as instance:
        run = keyword_prod.execute_in_process(instance=instance, raise_on_error=False)
        (failure,) = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)
        sensor = failure_sensor()
        sensor(
            build_run_status_sensor_context(
                sensor.name, failure.dagster_event, instance, instance.get_run_by_id(run.run_id)
            ).for_run_failure()
        )
    (message,) = got
    assert message["title"] == "keyword_prod failed"
    assert message["message"].splitlines() == [
        "train: RuntimeError: the weights were not written",
        "OSError: no space left on device",
        f"http://127.0.0.1:7701/runs/{run.run_id}",
    ]


def test_the_sensor_watches_all_locations_without_being_turned_on() -> None:
    sensor = failure_sensor()
    assert sensor.default_status == DefaultSensorStatus.RUNNING
    assert sensor.sensor_type.value == "RUN_STATUS"
