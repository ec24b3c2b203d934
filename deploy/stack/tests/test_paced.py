"""Dagster's commands run as they are, and look at each other as often as we say: its next release may not."""

import subprocess
import sys
import threading
import time

import dagster
import pytest
from dagster._grpc import client, server_watcher
from dagster._grpc.client import DagsterGrpcClient, client_heartbeat_thread

from deploy.stack import paced
from shared_ops.settings import ROOT


class Counting(DagsterGrpcClient):
    """A client of a code server that only counts what it is asked for."""

    asked = 0

    def get_server_id(self, timeout=10):
        self.asked += 1
        return "the same"

    def heartbeat(self, echo=""):
        self.asked += 1
        return echo


@pytest.fixture
def counting(monkeypatch):
    for module, name in ((server_watcher, "WATCH_INTERVAL"), (client, "CLIENT_HEARTBEAT_INTERVAL")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    monkeypatch.setattr(paced, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(paced, "HEARTBEAT_SECONDS", 0.05)
    paced.pace()
    return Counting(host="127.0.0.1", port=1)


def test_how_often_a_code_server_is_looked_at_is_ours_to_say(counting):
    nothing = lambda *_: None  # noqa: E731
    names = ("get_location_entry", "refresh_code_location", "on_disconnect", "on_reconnected", "on_updated", "on_error")
    ended, thread = server_watcher.create_grpc_watch_thread("one", counting, **dict.fromkeys(names, nothing))
    thread.start()
    time.sleep(0.8)
    ended.set()
    thread.join()
    assert counting.asked >= 4, "Dagster's own second would have let it ask once"


def test_how_often_a_proxy_gives_a_sign_of_life_is_ours_to_say(counting):
    ended = threading.Event()
    thread = threading.Thread(target=client_heartbeat_thread, args=(counting, ended))
    thread.start()
    time.sleep(0.8)
    ended.set()
    thread.join()
    assert counting.asked >= 4


def test_a_command_runs_with_its_arguments():
    command = [sys.executable, "-W", "ignore", "-m", "deploy.stack.paced", "dagster", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert dagster.__version__ in done.stdout
