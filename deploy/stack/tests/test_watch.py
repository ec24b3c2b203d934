"""A code server whose inner process died is started anew, one whose code does not load left alone; logs stay short."""

import subprocess
import sys

import psutil

from deploy.stack import watch
from deploy.stack.watch import _ended, _parents, orphaned, shorten

PARENT = """
import subprocess, sys
child = subprocess.Popen(["sleep", "600"])
print(flush=True)
sys.stdin.readline()
child.kill()
"""


def test_a_proxy_that_loses_its_inner_process_is_named_once():
    had_inner = set()
    assert orphaned({"code-keyword": 10}, parents={10, 1}, had_inner=had_inner) == []
    assert orphaned({"code-keyword": 10}, parents={1}, had_inner=had_inner) == ["code-keyword"]
    assert orphaned({"code-keyword": 11}, parents={1}, had_inner=had_inner) == []


def test_a_proxy_that_never_had_one_is_left_alone():
    had_inner = set()
    assert orphaned({"code-keyword": 10}, parents=set(), had_inner=had_inner) == []
    assert orphaned({"code-keyword": 10}, parents=set(), had_inner=had_inner) == []


def test_living_children_are_seen():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        assert parent.pid in _parents()
        parent.communicate(b"\n")
    assert parent.pid not in _parents()


def test_the_end_of_the_supervisor_is_seen_even_by_one_that_starts_too_late(monkeypatch):
    monkeypatch.setattr(watch, "SECONDS", 0.05)
    with subprocess.Popen(["sleep", "600"]) as supervisor:
        assert not _ended(supervisor.pid)
        supervisor.kill()
    assert _ended(supervisor.pid)


def test_a_dead_child_that_nobody_has_waited_for_counts_as_gone():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        me = psutil.Process().pid
        others = set(psutil.Process().children()) - {psutil.Process(child.pid)}
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert (me in _parents()) == bool(others)


def test_a_long_log_goes_on_in_an_empty_file_with_the_same_writer(tmp_path, monkeypatch):
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
