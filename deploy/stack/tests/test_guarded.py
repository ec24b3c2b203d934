"""A real code server keeps the code that works, whatever is saved over it, and says what is wrong."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from dagster._api.list_repositories import sync_list_repositories_grpc
from dagster._core.errors import DagsterUserCodeProcessError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._grpc.client import DagsterGrpcClient
from dagster._serdes import deserialize_value

from deploy.stack.processes import guarded, spare, watch
from deploy.stack.tests.test_paced import answers, started
from deploy.stack.tests.test_supervisor import wait_for
from shared_ops.pipeline import checks
from shared_ops.refused import refused_code
from shared_ops.settings import Settings

NAME = "small"
WORKS = """import dagster

@dagster.op
def work(): ...

@dagster.job
def first(): work()

@dagster.asset_check(asset=dagster.AssetKey(["prod", "small"]), name="code_loads")
def code_loads(): return dagster.AssetCheckResult(passed=True)

jobs = [first]

defs = dagster.Definitions(jobs=jobs, asset_checks=[code_loads])
"""
SECOND = WORKS.replace("jobs = [first]", '@dagster.job(name="second")\ndef another(): work()\n\njobs = [another]')
SYNTAX = WORKS + "def broken(:\n"
IMPORT = WORKS.replace("import dagster", "import dagster\nimport nosuch_module", 1)
TWICE = SECOND.replace('"second"', '"first"').replace("[another]", "[first, another]")
UNRESOLVED = WORKS.replace("jobs = [first]", 'jobs = [dagster.define_asset_job("one", selection="nosuch")]')
ENDS = WORKS.replace("import dagster", "import dagster, os; os._exit(3)", 1)


@dataclass
class Location:
    """A code location of one file, its code server's port, and what a Dagit would have been told."""

    home: Path
    port: int
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = DagsterGrpcClient(host="127.0.0.1", port=self.port)

    @property
    def record(self) -> Path:
        return self.home / "code" / f"{NAME}.json"

    @property
    def modules(self) -> set[str]:
        return set((self.home / "code" / f"{NAME}.modules").read_text().splitlines())

    def save(self, code: str) -> None:
        (self.home / "location.py").write_text(code)

    def reload(self, code: str) -> None:
        self.save(code)
        self.client.reload_code(timeout=60)

    def jobs(self) -> list[str]:
        (symbol,) = sync_list_repositories_grpc(self.client).repository_symbols
        origin = GrpcServerCodeLocationOrigin("127.0.0.1", self.port, location_name=NAME)
        asked = self.client.external_repository(RemoteRepositoryOrigin(origin, symbol.repository_name))
        names = [job.name for job in deserialize_value(asked, RepositorySnap).job_datas]
        return [name for name in names if not name.startswith("__")]  # Dagster's own, of assets and their checks

    def command(self) -> list[str]:
        start = ["-m", "deploy.stack.processes.paced", "dagster", "code-server", "start", "--heartbeat-ttl", "20"]
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-m", "location", "-d", str(self.home)]
        return [sys.executable, "-W", "ignore", *start, *where, "--location-name", NAME]


@pytest.fixture
def location(tmp_path: Path) -> Iterator[Location]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Location(tmp_path, probe.getsockname()[1])

    class ReportHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.told.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: str) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), ReportHandler) as server, pytest.MonkeyPatch.context() as environment:
        Thread(target=server.serve_forever, daemon=True).start()
        environment.setenv("DAGSTER_HOME", str(tmp_path))
        environment.setenv("SEARCHLOOP_HOME", str(tmp_path))
        environment.setenv("SEARCHLOOP_DAGIT_URL", f"http://127.0.0.1:{server.server_port}")
        yield made
        server.shutdown()


@pytest.mark.slow
def test_code_that_does_not_load_never_replaces_code_that_does(location: Location) -> None:
    location.save(WORKS)
    with started(location.command(), dict(os.environ)) as proxy:
        wait_for(lambda: answers(location.client), 60)
        works, (inner,) = location.client.get_server_id(), inner_servers(proxy)
        assert location.jobs() == ["first"] and not location.record.exists() and location.told == []
        for code, place, words in (
            (SYNTAX, "location.py:15", "SyntaxError: invalid syntax"),
            (IMPORT, "location.py:2", "ModuleNotFoundError: No module named 'nosuch_module'"),
            (TWICE, "location.py:17", "Duplicate job definition found for job 'first'"),
            (UNRESOLVED, "location.py:14", "AssetKey(s) ['nosuch'] were selected"),
            (ENDS, None, "gRPC server exited with return code 3 while starting up"),
        ):
            location.told.clear()
            location.reload(code)
            assert location.jobs() == ["first"] and location.client.get_server_id() == works
            refused = refused_code(NAME, Settings(home=location.home))
            assert refused.place == place and words in refused.message
            wait_for(lambda: location.told)
            kept = json.loads(location.record.read_text())
            report = {"check_name": checks.CODE_LOADS, "passed": False, "metadata": kept}
            assert location.told == [("/report_asset_check/prod/small", report)]
            wait_for(lambda: inner_servers(proxy) == [inner])
        location.told.clear()
        location.save(SECOND)
        with ThreadPoolExecutor(2) as both:  # the second waits for the first, and loads the code once more
            for done in [both.submit(location.client.reload_code, 60) for _ in range(2)]:
                done.result()
        assert location.jobs() == ["second"] and location.client.get_server_id() != works
        assert not location.record.exists()
        wait_for(lambda: [told["passed"] for _, told in location.told][-1:] == [True])
        wait_for(lambda: len(inner_servers(proxy)) == 1 and inner not in inner_servers(proxy))
        assert [path.name for path in location.record.parent.iterdir()] == [f"{NAME}.modules"]


@pytest.mark.slow
def test_where_there_is_nothing_to_keep_the_error_is_shown(location: Location) -> None:
    """A location that starts with code that does not load is broken, as what was refused before says no more."""
    location.save(SYNTAX)
    location.record.parent.mkdir()
    location.record.write_text("{}")
    with started(location.command(), dict(os.environ)) as proxy:
        wait_for(lambda: answers(location.client), 60)
        for _ in range(2):
            with pytest.raises(DagsterUserCodeProcessError, match="SyntaxError: invalid syntax"):
                location.jobs()
            assert not location.record.exists()
            location.reload(SYNTAX)
        location.reload(WORKS)
        assert location.jobs() == ["first"]
        wait_for(lambda: [told["passed"] for _, told in location.told] == [True])
        wait_for(lambda: len(inner_servers(proxy)) == 1)


@pytest.mark.slow
def test_who_works_on_the_code_finds_a_process_that_is_warm(location: Location) -> None:
    """It holds none of the checkout's own code, and becomes the inner server; what does not load replaces nothing."""
    location.save("import colorsys\n" + WORKS)
    with started(location.command(), dict(os.environ)) as proxy:
        wait_for(lambda: answers(location.client), 60)
        assert {"colorsys", "dagster"} < location.modules and "location" not in location.modules
        assert spares(proxy) == []
        (inner,), warm = inner_servers(proxy), held_by(location, proxy)
        seen: dict[int, psutil.Process] = {}
        assert watch.orphaned({NAME: proxy.pid}, seen) == [] and seen == {proxy.pid: inner}
        location.reload(SECOND)
        assert location.jobs() == ["second"]
        wait_for(lambda: inner_servers(proxy) == [warm])
        works, another = location.client.get_server_id(), held_by(location, proxy)
        location.reload(SYNTAX)
        assert location.jobs() == ["second"] and location.client.get_server_id() == works
        assert refused_code(NAME, Settings(home=location.home)).place == "location.py:15"
        wait_for(lambda: inner_servers(proxy) == [warm] and not another.is_running())
        held_by(location, proxy).kill()  # one that was lost is done without
        wait_for(lambda: not spares(proxy))
        location.reload(WORKS)
        assert location.jobs() == ["first"]
        last = held_by(location, proxy)
        proxy.terminate()
        proxy.wait(60)
        assert not last.is_running()


@pytest.mark.slow
def test_a_spare_is_let_go_when_nobody_works_on_the_code_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "HELD_SECONDS", 3)
    held, before = spare.Spare(None), set(psutil.Process().children())
    held.replenish()
    assert held.take(["--version"]) is None, "nobody asked for one"
    held.hold()
    held.replenish()
    (process,) = set(psutil.Process().children()) - before
    wait_for(lambda: not process.is_running(), 60)
    assert held.take(["--version"]) is None


def held_by(location: Location, proxy: subprocess.Popen[bytes]) -> psutil.Process:
    """The spare that a code server holds for who works on the code, once it has been started."""
    location.client.heartbeat(spare.HEARTBEAT)
    wait_for(lambda: spares(proxy), 60)
    (process,) = spares(proxy)
    return process


def spares(proxy: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [child for child in living(proxy) if spare.is_spare(child.pid)]


def living(proxy: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(proxy.pid).children()
    return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]


def inner_servers(proxy: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The servers behind a proxy that have not ended."""
    return [child for child in living(proxy) if not spare.is_spare(child.pid)]


def test_the_check_has_one_name() -> None:
    """The guard imports nothing of ours, so it says the name itself."""
    assert guarded.CHECK == checks.CODE_LOADS
