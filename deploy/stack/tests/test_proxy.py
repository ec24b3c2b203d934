"""A stack's own addresses are reached directly, whatever proxy is set."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import grpc
import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.processes import listing as processes
from deploy.stack.processes.listing import environment_variables
from deploy.stack.search import searching
from deploy.stack.traffic.search_client import SearchApp
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release import promotion
from shared_ops.release.livesets import LiveSet
from shared_ops.settings import Settings

NOBODY = "http://127.0.0.1:9"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy")


class ProxyHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"hits": [], "live_set": 1, "data": {"runsOrError": {"results": []}}, "state": "ready", "number": 1}'
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(params=[NOBODY, "socks5://127.0.0.1:9", "no address at all"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of a stack whose ports are those of one small server, where a proxy is set that does not answer."""
    for name in PROXIES:
        monkeypatch.setenv(name, request.param)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), ProxyHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Settings(home=tmp_path, port_base=server.server_port, postgres_url=None)
        server.shutdown()


def test_no_client_of_the_commands_asks_a_proxy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHLOOP_PORT_BASE", str(settings.port_base))
    url = settings.url("search")
    assert processes.answers(f"{url}/health")() is None
    assert searching.ask(settings, "sort", 10)["hits"] == []
    assert searching.follows(settings, 1)
    assert Dagit(url).in_flight() == []
    assert SearchApp(url).search("session", "sort", 10)["hits"] == []
    live = LiveSet(number=1, releases={}, snapshot=SnapshotRef(id="s", url="file:///s"), created_at=datetime.now(UTC))
    assert promotion._state("search", None, live) == ("ready", "")


def test_the_stack_s_processes_call_each_other_by_grpc_without_a_proxy(settings: Settings) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    call = f"import grpc; grpc.channel_ready_future(grpc.insecure_channel('127.0.0.1:{port}')).result(5)"
    try:
        variables = os.environ | environment_variables(settings)
        subprocess.run([sys.executable, "-c", call], env=variables, check=True)
    finally:
        server.stop(0)


def test_the_addresses_that_were_reached_directly_before_still_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "intranet.example,127.0.0.1")
    variables = environment_variables(Settings(host="::1"))
    assert variables["no_proxy"] == variables["NO_PROXY"] == "intranet.example,127.0.0.1,::1,localhost"
