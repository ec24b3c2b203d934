"""A code server whose inner process died is started anew, one whose code does not load left alone; logs stay short."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.stack.processes import watch
from deploy.stack.processes.watch import _ended, orphaned, shorten

PARENT = """
import subprocess, sys
children = []
for line in sys.stdin:
    children.append(subprocess.Popen(["sleep", "600"]))
    print(children[-1].pid, flush=True)
"""


@pytest.fixture
def proxy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts a child for each line that it reads."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        yield parent
        for child in psutil.Process(parent.pid).children():
            child.kill()
        parent.kill()


def child_of(proxy: subprocess.Popen[bytes]) -> psutil.Process:
    proxy.stdin.write(b"another\n")
    proxy.stdin.flush()
    return psutil.Process(int(proxy.stdout.readline()))


def kill(child: psutil.Process) -> None:
    """Kill a process that nobody waits for: it stays as a zombie."""
    child.kill()
    while child.status() != psutil.STATUS_ZOMBIE:
        pass


def test_a_proxy_that_loses_its_inner_process_is_named_once(proxy: subprocess.Popen[bytes]) -> None:
    inner: dict[int, psutil.Process] = {}
    listed = {"code-keyword": proxy.pid}
    child = child_of(proxy)
    assert orphaned(listed, inner) == [] and inner == {proxy.pid: child}
    kill(child)
    assert orphaned(listed, inner) == ["code-keyword"]
    assert orphaned(listed, inner) == []


def test_a_proxy_that_loads_its_code_anew_is_left_alone(proxy: subprocess.Popen[bytes]) -> None:
    inner: dict[int, psutil.Process] = {}
    listed = {"code-keyword": proxy.pid}
    before = child_of(proxy)
    assert orphaned(listed, inner) == []
    after = child_of(proxy)
    kill(before)
    assert orphaned(listed, inner) == [] and inner == {proxy.pid: after}


def test_a_proxy_that_never_had_one_is_left_alone(proxy: subprocess.Popen[bytes]) -> None:
    inner: dict[int, psutil.Process] = {}
    assert orphaned({"code-keyword": proxy.pid}, inner) == []
    assert orphaned({"code-keyword": proxy.pid}, inner) == []


def test_a_proxy_that_was_started_anew_is_another_one(proxy: subprocess.Popen[bytes]) -> None:
    inner: dict[int, psutil.Process] = {}
    child_of(proxy)
    assert orphaned({"code-keyword": proxy.pid}, inner) == []
    assert orphaned({"code-keyword": 2**22 + 1}, inner) == [] and not inner


def test_the_end_of_the_supervisor_is_seen_even_by_one_that_starts_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SECONDS", 0.05)
    with subprocess.Popen(["sleep", "600"]) as supervisor:
        assert not _ended(supervisor.pid)
        supervisor.kill()
    assert _ended(supervisor.pid)


def test_a_long_log_goes_on_in_an_empty_file_with_the_same_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOG_BYTES", 10)
    log = tmp_path / "search.log"
    with log.open("a") as writer:
        writer.write("old lines, many\n")
        writer.flush()
        shorten(log)
        writer.write("new\n")
        writer.flush()
        shorten(log)
    assert log.read_text() == "new\n"
    assert (tmp_path / "search.log.1").read_text() == "old lines, many\n"
