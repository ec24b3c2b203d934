"""What one team saves is its own: new code comes into Dagit, and code that does not load disturbs nobody.

Each location is broken in turn, and all that is not its own goes on at work: the others' trainings, the learning from
clicks, promotion, rollback, and the alerts of failed runs. A reload alone breaks nothing: the location is broken once
its code server has been started anew. The stack runs from a copy of the checkout.
"""

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from dagster import AssetKey
from dagster._grpc.client import DagsterGrpcClient

from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.training import FORCE
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.data.feedback import Feedbacks
from shared_ops.pipeline.checks import CODE_LOADS
from shared_ops.pipeline.lineage import feedback_key, live_set_key, release_key, snapshot_key
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import live_repository, ranking_families, repositories, search_families
from tests.conftest import Stack, asked_graphql, until
from tests.drills.checkouts import Checkout
from tests.drills.conftest import finish

pytestmark = pytest.mark.slow

MISTAKE = 'raise RuntimeError("this team broke its code")\n'
SECONDS = 300
RANKER = ranking_families()[0]


DEFINED = """
query ($location: String!) {
  repositoryOrError(repositorySelector: {repositoryLocationName: $location, repositoryName: "__repository__"}) {
    ... on Repository { jobs { name } sensors { name } schedules { name } }
  }
}"""
CHECKED = """
query ($key: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $key, checkName: $check, limit: 1) { status }
}"""


def asset_of(name: str) -> AssetKey:
    """The asset that bears the check of a repository's code."""
    makes = {"data": snapshot_key, "feedback": feedback_key, "live": live_set_key}.get(repositories()[name].role)
    return makes("prod") if makes else release_key("prod", name)


ANOTHER_JOB = """

from dagster import Definitions, job


@job
def saved() -> None: ...


defs = Definitions.merge(defs, Definitions(jobs=[saved]))
"""


class Company:
    """The teams' repositories and the one stack that runs them all."""

    def __init__(self, checkout: Checkout, stack: Stack) -> None:
        self.checkout, self.stack = checkout, stack
        self.dagit = Dagit(stack.settings.url("dagit"))
        url = stack.settings.staging_url("prod")
        self.sets, self.staging = LiveSets(url), Staging(url)

    @contextmanager
    def broken(self, name: str) -> Iterator[None]:
        """The code of a repository does not load while the block runs, nor has its code server any of before."""
        definitions = f"repos/{name}/definitions.py"
        path, before = self.checkout.root / definitions, self.defined(name)
        path.write_text(MISTAKE + path.read_text())
        try:
            self.fails_to_load(name, "and the code of before stays in Dagit")
            assert self.defined(name) == before
            until(lambda: self.code_loads(name) == "FAILED", SECONDS, "Dagit shows that the code does not load")
            self.end_code_server(name)
            self.fails_to_load(name, "code server runs, and its code does not load")
            assert "this team broke its code" in (self.dagit.load_errors()[name] or "")
            yield
        finally:
            self.checkout.restore(definitions)
            self.stack.make("code-server", f"REPO={name}")
        assert self.defined(name) == before
        until(lambda: self.code_loads(name) == "SUCCEEDED", SECONDS, "Dagit shows that the code loads")

    def fails_to_load(self, name: str, how: str) -> None:
        """Have a repository's code server started or reloaded, which says how its code does not load."""
        said = self.stack.make("code-server", f"REPO={name}", check=False)
        assert said.returncode != 0 and "this team broke its code" in said.stdout and how in said.stdout, said.stdout

    def end_code_server(self, name: str) -> None:
        """Kill the process that holds a code server's port; the supervisor starts another, with the code as it is."""
        server = psutil.Process(Supervisor(self.stack.settings).states()[f"code-{name}"].pid)
        server.kill()
        server.wait(30)

    def defined(self, name: str) -> dict[str, list[str]]:
        """The names of a repository's jobs, sensors and schedules in Dagit."""
        found = asked_graphql(self.stack, DEFINED, location=name)["repositoryOrError"]
        return {kind: [each["name"] for each in found[kind]] for kind in ("jobs", "sensors", "schedules")}

    def code_loads(self, name: str) -> str | None:
        """The newest result of the check whether a repository's code loads, as Dagit shows it."""
        key = {"path": list(asset_of(name).path)}
        found = asked_graphql(self.stack, CHECKED, key=key, check=CODE_LOADS)["assetCheckExecutions"]
        status: str | None = found[0]["status"] if found else None
        return status

    @contextmanager
    def watched(self, log: Path) -> Iterator[Callable[[], list[str]]]:
        """`make dev` while the block runs; yields what tells the lines that it has said. It ends by Ctrl-C."""
        command = ["make", "--no-print-directory", "dev"]
        # What a shell starts in the background ignores Ctrl-C, and so would what that starts.
        heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        where: dict[str, Any] = {"cwd": self.stack.root, "env": self.stack.environment, "process_group": 0}
        with (
            log.open("w") as out,
            subprocess.Popen(command, stdout=out, stderr=out, preexec_fn=heeds, **where) as make,
        ):
            try:
                until(lambda: "watching" in log.read_text(), SECONDS, "make dev watches")
                yield lambda: log.read_text().splitlines()
            finally:
                os.killpg(make.pid, signal.SIGINT)
        assert log.read_text().splitlines()[-1] == "the watching has ended, and the stack goes on: make down ends it"

    def server_ids(self) -> dict[str, str]:
        """What each code server calls itself: another one for each time that it has loaded code."""
        url, ports = self.stack.settings.url_host, self.stack.settings.ports
        clients = {name: DagsterGrpcClient(ports[f"code-{name}"], host=url) for name in repositories()}
        return {name: client.get_server_id() for name, client in clients.items()}

    def jobs(self, broken: str) -> dict[str, str]:
        """Launch a run of each other repository, after somebody has clicked; returns the runs by job."""
        launched = {}
        self.click()
        for name, repository in repositories().items():
            if name not in (broken, live_repository()):
                config = FORCE if repository.role == "rank" else {}  # so that there is something to promote
                launched[f"{name}_prod"] = self.dagit.launch(name, f"{name}_prod", config)
        return launched

    def click(self) -> None:
        """Somebody searches, and opens the first hit."""
        app = self.stack.settings.url("search")
        answer = self.stack.search("sort an array")
        click = {
            "action_name": "click",
            "event_id": uuid.uuid4().hex,
            "query_id": answer["query_id"],
            "session_id": uuid.uuid4().hex,
            "event_attributes": {"object": {"object_id": answer["hits"][0]["doc_id"]}, "position": {"ordinal": 1}},
        }
        assert httpx.post(f"{app}/events", json=click, timeout=30).status_code == 202

        def waiting() -> int:
            clicks: int = self.stack.get("search", "/health").json()["feedback"]["waiting"]
            return clicks

        until(lambda: not waiting(), 30, "the click is stored")

    def learned_until(self) -> int:
        """The transaction up to which clicks were learned from."""
        return Feedbacks(self.stack.settings.feedback_url("prod")).watermark()

    def failure(self, broken: str) -> str:
        """The id of a run of another repository that fails."""
        family = next(each for each in search_families() if each != broken)
        config = {"ops": {"load_inputs": {"config": {"snapshot_id": "of-nowhere"}}}}
        run = self.dagit.launch(family, f"{family}_prod", config)
        assert finish(self.dagit, run, SECONDS) == "FAILURE"
        return run

    def promoted(self) -> bool:
        """Whether the accepted ranker is live."""
        return self.sets.live().releases[RANKER] == self.staging.accepted(RANKER)

    def told(self, run: str) -> bool:
        """Whether somebody was told that a run failed."""
        return run in (self.stack.settings.home / "logs" / f"code-{live_repository()}.log").read_text()

    def goes_back_and_forth(self, how: str) -> None:
        """A rollback to another set, and to the present one again."""
        now = self.sets.live()
        then = next(number for number in reversed(self.sets.numbers()) if number != now.number)
        for number in (then, now.number):
            if how == "make":
                self.stack.make("rollback", f"SET={number}")
            else:
                config = {"ops": {"set_of_the_past": {"config": {"set_number": number}}}}
                run = self.dagit.launch(live_repository(), "rollback_prod", config)
                assert finish(self.dagit, run, SECONDS) == "SUCCESS"
            assert self.sets.live().number == number


@pytest.fixture(scope="module")
def company(copied: tuple[Checkout, Stack]) -> Company:
    made = Company(*copied)
    if len(made.sets.numbers()) < 2:  # there is a set to go back to
        made.stack.make("train", f"REPO={RANKER}", "FORCE=1")
    made.dagit.settle()
    return made


def test_what_is_saved_is_loaded_where_it_loads(company: Company, tmp_path: Path, say: Callable[[str], None]) -> None:
    """And a run that is in flight ends on the code that it began with."""
    name, root = search_families()[0], company.checkout.root
    path, shared = root / "repos" / name / "definitions.py", root / "shared_ops" / "src" / "shared_ops" / "waiting.py"
    definitions, before, servers = path.read_text(), company.defined(name)["jobs"], company.server_ids()
    try:
        with company.watched(tmp_path / "dev.log") as said:
            run = company.dagit.launch(name, f"{name}_prod", FORCE)
            until(lambda: company.dagit.run(run).status == "STARTED", SECONDS, "the run has started")
            path.write_text(definitions + ANOTHER_JOB)
            until(lambda: "saved" in company.defined(name)["jobs"], SECONDS, "Dagit shows the job that was saved")
            assert finish(company.dagit, run, SECONDS) == "SUCCESS"
            path.write_text(f"{definitions}def broken(:\n")
            place = f"repos/{name}/definitions.py:{len(definitions.splitlines()) + 1}"
            told = f"{name:<17} not taken: {place}: SyntaxError: invalid syntax (the code of before stays)"
            until(lambda: said()[-1] == told, SECONDS, "make dev says what does not load")
            assert "saved" in company.defined(name)["jobs"]
            until(lambda: company.code_loads(name) == "FAILED", SECONDS, "Dagit shows that the code does not load")
            lines = len(said())
            for number in range(100):
                (path.parent / f"switched_{number}.py").touch()
            path.write_text(definitions)
            until(lambda: len(said()) > lines, SECONDS, "make dev says that the code was reloaded")
            assert company.defined(name)["jobs"] == before
            until(lambda: company.code_loads(name) == "SUCCEEDED", SECONDS, "Dagit shows that the code loads")
            assert [line.split()[:2] for line in said()[lines:]] == [[name, "reloaded"]], "a hundred files, one reload"
            ids = company.server_ids()
            assert [each for each in servers if ids[each] != servers[each]] == [name], "no other location was touched"
            lines = len(said())
            shared.write_text(f"{shared.read_text()}\n")
            until(lambda: len(said()) == lines + len(servers), SECONDS, "make dev says that all were reloaded")
            assert [line.split()[:2] for line in said()[lines:]] == [[each, "reloaded"] for each in repositories()]
            assert not set(company.server_ids().values()) & set(ids.values())
    finally:
        company.checkout.restore(str(path.relative_to(root)), str(shared.relative_to(root)))
        for switched in path.parent.glob("switched_*.py"):
            switched.unlink()
    say("\n".join(said()))
    company.stack.make("code-servers")


@pytest.mark.parametrize("name", [name for name in repositories() if name not in (live_repository(), RANKER)])
def test_what_one_team_breaks_is_no_one_else_s(company: Company, name: str, say: Callable[[str], None]) -> None:
    with company.broken(name):
        learned, failed, runs = company.learned_until(), company.failure(name), company.jobs(name)
        ended = {job: finish(company.dagit, run, SECONDS) for job, run in runs.items()}
        assert set(ended.values()) == {"SUCCESS"}, ended
        assert company.learned_until() > learned or repositories()[name].role == "feedback"
        until(company.promoted, SECONDS, "the ranker that was trained is promoted")
        company.goes_back_and_forth("Dagit")
        until(lambda: company.told(failed), SECONDS, "somebody is told of the failed run")
    number = company.sets.live().number
    say(f"{name} broken: {', '.join(ended)} ended well, set {number} promoted, gone back from and taken again; told")


def test_what_moves_the_live_set_belongs_to_no_model_and_no_model_to_it(
    company: Company, say: Callable[[str], None]
) -> None:
    """While it is broken trainings go on, and `make rollback`; what waits is promoted then, with the ranker broken."""
    live, ranker = live_repository(), RANKER
    with ExitStack() as later:
        with company.broken(live):
            company.goes_back_and_forth("make")
            ended = {job: finish(company.dagit, run, SECONDS) for job, run in company.jobs(live).items()}
            assert set(ended.values()) == {"SUCCESS"} and not company.promoted(), ended
            later.enter_context(company.broken(ranker))
        until(company.promoted, SECONDS, "the ranker that waited is promoted")
        failed, runs = company.failure(ranker), company.jobs(ranker)
        assert {finish(company.dagit, run, SECONDS) for run in runs.values()} == {"SUCCESS"}
        company.goes_back_and_forth("Dagit")
        until(lambda: company.told(failed), SECONDS, "somebody is told of the failed run")
    say(
        f"{live} broken: {', '.join(ended)} ended well, and make rollback; {ranker} broken: promoted, rolled back; told"
    )
