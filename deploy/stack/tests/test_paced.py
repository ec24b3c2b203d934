"""Dagster's commands run unchanged, and look at each other as often as we say: with its next release they may not."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster
import psutil
import pytest
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._daemon import controller
from dagster._grpc import client, server, server_watcher
from dagster._grpc.client import DagsterGrpcClient, client_heartbeat_thread
from grpc import _common

from deploy.stack.processes import paced
from deploy.stack.tests.test_supervisor import wait_for
from shared_ops.settings import ROOT


class Counting(DagsterGrpcClient):
    """A client of a code server that only counts what it is asked for."""

    asked = 0

    def get_server_id(self, timeout: int = 10) -> str:
        self.asked += 1
        return "the same"

    def heartbeat(self, echo: str = "") -> str:
        self.asked += 1
        return echo


@pytest.fixture
def paced_dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (server_watcher, "WATCH_INTERVAL"),
        (client, "CLIENT_HEARTBEAT_INTERVAL"),
        (_common, "MAXIMUM_WAIT_TIMEOUT"),
        (server, "get_python_environment_entry_point"),
        (DagsterGrpcClient, "_channel"),
        (controller, "RELOAD_WORKSPACE_INTERVAL"),
        (controller, "DEFAULT_WORKSPACE_FRESHNESS_TOLERANCE"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    monkeypatch.setattr(paced, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(paced, "HEARTBEAT_SECONDS", 0.05)
    paced.pace()


@pytest.fixture
def counting(paced_dagster: None) -> Counting:
    return Counting(host="127.0.0.1", port=1)


def test_how_often_a_code_server_is_looked_at_is_ours_to_say(counting: Counting) -> None:
    nothing = lambda *_: None  # noqa: E731
    names = ("get_location_entry", "refresh_code_location", "on_disconnect", "on_reconnected", "on_updated", "on_error")
    told: dict[str, Any] = dict.fromkeys(names, nothing)
    ended, thread = server_watcher.create_grpc_watch_thread("one", counting, **told)
    thread.start()
    time.sleep(0.8)
    ended.set()
    thread.join()
    assert counting.asked >= 4, "Dagster's own second would have let it ask once"


def test_how_often_a_proxy_gives_a_sign_of_life_is_ours_to_say(counting: Counting) -> None:
    ended = threading.Event()
    thread = threading.Thread(target=client_heartbeat_thread, args=(counting, ended))
    thread.start()
    time.sleep(0.8)
    ended.set()
    thread.join()
    assert counting.asked >= 4


@pytest.mark.slow
def test_a_command_runs_with_its_arguments() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "deploy.stack.processes.paced", "dagster", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert dagster.__version__ in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="only Linux tells how often a thread was woken")
def test_a_code_server_sleeps_until_it_is_asked_and_still_ends_when_told(tmp_path: Path, paced_dagster: None) -> None:
    location = tmp_path / "empty_location.py"
    location.write_text("import dagster\n\ndefs = dagster.Definitions()\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "deploy.stack.processes.paced", "dagster", "code-server", "start"]
    arguments = ["-h", "127.0.0.1", "-p", str(port), "-f", str(location)]
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path)}
    with started([*command, *arguments], environment) as proxy:
        asked = DagsterGrpcClient(host="127.0.0.1", port=port)
        wait_for(lambda: answers(asked), 60)
        connected = [each.laddr.port for each in connections(port)]
        assert asked.ping("again") and [each.laddr.port for each in connections(port)] == connected
        (inner,) = psutil.Process(proxy.pid).children()
        assert "deploy.stack.processes.paced" in inner.cmdline()
        for pid in (proxy.pid, inner.pid):
            assert woken(pid, seconds=3) < 10, "gRPC's own wait wakes a server's main thread ten times a second"
        inner.kill()
        wait_for(lambda: not answers(asked), 10)
        proxy.kill()
        proxy.wait()
    in_the_background = ["env", "--ignore-signal=INT"]  # as a shell starts what is to run beside it
    with started([*in_the_background, *command, *arguments], environment) as proxy:
        wait_for(lambda: answers(asked), 60)  # the same client, which opens another connection
        (inner,) = psutil.Process(proxy.pid).children()
        proxy.terminate()
        proxy.wait(60)  # a second and a half of a machine that is idle, five times that of one that is not
        psutil.wait_procs([inner], 60)
        assert not inner.is_running()


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, which ends with the block however that ends: Popen alone would wait for it for ever."""
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def connections(port: int) -> list[Any]:
    """The connections of this process to a port."""
    return [each for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port]


def answers(asked: DagsterGrpcClient) -> object:
    try:
        return asked.ping("")
    except DagsterUserCodeUnreachableError:
        return False


def woken(pid: int, seconds: float) -> int:
    """How often the main thread of a process began to run again in so many seconds."""
    status = Path(f"/proc/{pid}/task/{pid}/status")

    def switches() -> int:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)[1])

    before = switches()
    time.sleep(seconds)
    return switches() - before
