"""Workers come with the sets that need them, and go with them: the real supervisor, with processes that only sleep."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Never

import psutil
import pytest

from deploy.stack.processes import workers
from deploy.stack.processes.listing import Process, environment_variables
from deploy.stack.processes.supervisor import Supervisor
from deploy.stack.processes.workers import Workers, required_runtimes
from deploy.stack.tests.test_supervisor import sleeper, wait_for
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release import runtimes
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import Settings, families, repositories

SNAPSHOT = SnapshotRef(id="s", url="file:///s")
LOCK = "the lock of all releases"
ENVIRONMENT = hashlib.sha256(LOCK.encode()).hexdigest()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", postgres_url=None, grace_seconds=0)


@pytest.fixture
def sets(settings: Settings, tmp_path: Path) -> LiveSets:
    """The sets of a staging area with releases v1 and v2 of every family, made with two codes."""
    staging, folder = Staging(settings.staging_url("prod")), tmp_path / "release"
    folder.mkdir()
    for family in families():
        for version in ("v1", "v2"):
            manifest = ReleaseManifest(
                family=family, version=version, created_at=datetime.now(UTC), snapshot=SNAPSHOT, parameters={},
                hyperparameters={}, metrics={}, gate={}, environment=ENVIRONMENT, code=f"code of {version}",
                code_version="", deployment="prod", run_id="r",
            )  # fmt: skip
            staging.publish(folder, manifest)
    return LiveSets(staging.url)


@pytest.fixture
def supervisor(settings: Settings) -> Iterator[Supervisor]:
    made = Supervisor(settings)
    made.start([sleeper("search")], environment_variables(settings))
    yield made
    made.shut_down()


@pytest.fixture
def sleepers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker's process only sleeps."""
    monkeypatch.setattr(workers, "worker", lambda _, runtime: sleeper(runtime.worker))


def of(**versions: str) -> dict[str, str]:
    return dict.fromkeys(families(), "v1") | versions


def named(**versions: str) -> set[str]:
    return {Runtime(family, f"code of {version}", ENVIRONMENT).worker for family, version in of(**versions).items()}


def running(supervisor: Supervisor) -> set[str]:
    return {name for name, state in supervisor.states().items() if state.pid and name != "search"}


@pytest.mark.slow
def test_a_worker_comes_with_a_proposal_stays_for_the_way_back_and_goes_when_no_set_needs_it(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, sleepers: None
) -> None:
    held = Workers(settings)
    held.look()
    assert supervisor.workers() == [], "no set asks for any"
    first = sets.propose(of(), SNAPSHOT, "first")
    held.look()
    wait_for(lambda: running(supervisor) == named())
    sets.go_live(first)
    second = sets.propose(of(keyword="v2"), SNAPSHOT, "second")
    held.look()
    wait_for(lambda: running(supervisor) == named() | named(keyword="v2"))
    sets.go_live(second)
    for _ in range(3):
        held.look()
    assert running(supervisor) == named() | named(keyword="v2"), "the set before can be gone back to"
    sets.go_live(sets.propose(of(keyword="v2"), SnapshotRef(id="t", url="file:///t"), "third"))
    for _ in range(3):
        held.look()
    wait_for(lambda: running(supervisor) == named(keyword="v2"))
    assert set(supervisor.workers()) == named(keyword="v2")


def test_families_that_share_their_code_with_the_set_before_need_one_worker(sets: LiveSets) -> None:
    sets.go_live(sets.propose(of(), SNAPSHOT, "first"))
    assert {each.worker for each in required_runtimes(sets)} == named()


def test_a_family_that_is_listed_no_more_answers_until_a_set_does_without_it(
    sets: LiveSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, everybody = of(), named()
    fewer = {family: version for family, version in of(ranker="v2").items() if family != "keyword"}
    sets.go_live(sets.propose(first, SNAPSHOT, "first"))
    entries = {name: each for name, each in repositories().items() if name != "keyword"}
    monkeypatch.setattr("shared_ops.settings.repositories", lambda: entries)
    assert {each.worker for each in required_runtimes(sets)} == everybody
    sets.go_live(sets.propose(fewer, SNAPSHOT, "without it"))
    assert "keyword" not in {each.family for each in required_runtimes(sets)}
    sets.offer(sets.past(1))
    assert {each.worker for each in required_runtimes(sets)} >= everybody, "a rollback brings it back"


def environment(folder: Path, lock: str) -> Path:
    """Make an environment from a lock of this content; returns its Python."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / runtimes.STAMP).touch()
    (folder / runtimes.LOCK).write_text(lock)
    return folder / "bin" / "python"


def test_what_no_set_needs_any_more_is_removed(
    settings: Settings, sets: LiveSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ROOT", tmp_path)
    sets.go_live(sets.propose(of(), SNAPSHOT, "first"))
    copies = [settings.home / "cache" / "code" / name for name in ("code of v1", "code of v0")]
    for copy in copies:
        copy.mkdir(parents=True)
    beside, again = tmp_path / "envs" / "search" / ".venvs", settings.home / "environments"
    made = {beside / "linked": "new", beside / "run": "old", beside / "needed": LOCK, beside / "idle": "old"}
    made |= {beside / "another stack's": "old", beside / "another stack's no more": "older"}
    made |= {again / "needed": LOCK, again / "idle": "old"}
    pythons = {folder.name: environment(folder, lock) for folder, lock in made.items()}
    (beside / "half").mkdir()
    others_locks = tmp_path / "another home" / "staging" / "locks"
    for name in ("another stack's", "another stack's no more"):
        (beside / name / runtimes.KEPT_IN).write_text(f"file://{others_locks}\n")
    (kept := others_locks / hashlib.sha256(b"old").hexdigest()).mkdir(parents=True)
    (kept / runtimes.LOCK).touch()
    beside.with_name(".venv").symlink_to(beside / "linked")
    elsewhere = environment(tmp_path / "another checkout" / "envs" / "search" / ".venv", "old")
    with (
        subprocess.Popen([pythons["run"], "-c", "input()"], stdin=subprocess.PIPE) as running,
        subprocess.Popen(
            [elsewhere.relative_to(elsewhere.parents[4]), "-c", "input()"],
            cwd=elsewhere.parents[4],
            stdin=subprocess.PIPE,
        ) as others,
    ):
        workers.tidy(settings, [])
        running.communicate(b"\n")
        others.communicate(b"\n")
    assert [copy.name for copy in copies if copy.exists()] == ["code of v1"]
    assert {folder.name for folder in beside.iterdir()} == {"linked", "run", "needed", "another stack's"}
    assert [folder.name for folder in again.iterdir()] == ["needed"]


def test_an_environment_that_is_only_half_removed_is_not_made(
    settings: Settings, sets: LiveSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ROOT", tmp_path)
    folder = settings.home / "environments" / "idle"
    environment(folder, "old")
    monkeypatch.setattr(shutil, "rmtree", lambda _: None)  # as when it is killed there
    workers.tidy(settings, [])
    assert folder.exists() and runtimes.made_from(folder) is None


def test_an_environment_whose_python_is_gone_is_not_made(tmp_path: Path) -> None:
    python = environment(tmp_path / "made", "lock")
    assert runtimes.made_from(tmp_path / "made") == hashlib.sha256(b"lock").hexdigest()
    python.unlink()
    python.symlink_to(tmp_path / "gone")
    assert runtimes.made_from(tmp_path / "made") is None


def test_why_a_worker_cannot_be_is_written_for_who_waits_for_it(settings: Settings, sets: LiveSets) -> None:
    runtime = Runtime("keyword", "code of v1", "lock")
    assert workers.worker_processes(settings, [runtime]) == []
    assert "is not in" in runtime.problem(settings).read_text()


def test_what_could_not_be_started_is_tried_again(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Workers(settings)
    held._settings = settings.model_copy(update={"retry_seconds": 0.0})
    sets.propose(of(), SNAPSHOT, "first")
    held.look()
    assert supervisor.workers() == [], "no such code is kept"
    monkeypatch.setattr(workers, "worker", lambda _, runtime: sleeper(runtime.worker))
    held.look()
    wait_for(lambda: running(supervisor) == named())


def test_a_worker_whose_code_was_removed_while_it_ran_is_given_it_again(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, started = tmp_path / "code.py", tmp_path / "started"
    started.mkdir()

    def provided(_: object, runtime: Runtime) -> Process:
        code.write_text("import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)")
        command = [sys.executable, str(code), str(started / runtime.worker)]
        return Process(runtime.worker, command, ready=lambda: None, phase=0)

    monkeypatch.setattr(workers, "worker", provided)
    monkeypatch.setattr(workers, "BROKEN_SECONDS", 0.0)
    held = Workers(settings.model_copy(update={"retry_seconds": 0.0}))
    sets.propose(of(), SNAPSHOT, "first")
    held.look()
    wait_for(lambda: {path.name for path in started.iterdir()} == named())  # each has read its code
    code.unlink()
    for name in named():
        psutil.Process(supervisor.states()[name].pid).kill()

    def answering_again() -> bool:
        held.look()
        return code.exists() and running(supervisor) == named()

    wait_for(answering_again)


def test_what_cannot_be_started_is_tried_ever_less_often_counted_from_the_end_of_a_try(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, clock, tries = Workers(settings), SimpleNamespace(now=0.0), []
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def fail(_: object) -> Never:
        clock.now += 1000  # an environment that cannot be made says so after minutes
        tries.append(clock.now)
        raise OSError("no space left on device")

    monkeypatch.setattr(held, "_start", fail)
    sets.propose(of(), SNAPSHOT, "first")
    for _ in range(12):
        with pytest.raises(OSError, match="no space"):
            held.look()
        clock.now = held._retry_at - 1
        held.look()  # and tries nothing yet
        clock.now += 1
    pauses = [after - before - 1000 for before, after in pairwise(tries)]
    assert pauses[:3] == [10, 20, 40] and pauses[-1] == 3600


@pytest.mark.slow
def test_one_that_cannot_be_started_keeps_no_other_from_it(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(_: object, runtime: Runtime) -> Process:
        if runtime.family == "keyword":
            raise OSError("no space left on device")
        return sleeper(runtime.worker)

    monkeypatch.setattr(workers, "worker", made)
    sets.propose(of(), SNAPSHOT, "first")
    Workers(settings).look()
    wait_for(lambda: running(supervisor) == {name for name in named() if not name.startswith("keyword")})
    assert "no space" in Runtime("keyword", "code of v1", ENVIRONMENT).problem(settings).read_text()


def test_those_whose_environment_is_here_come_first_then_in_the_order_of_the_sets(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Runtime] = []

    def none_made(_: Settings, wanted: Iterable[Runtime]) -> list[Process]:
        asked.extend(wanted)
        return []

    monkeypatch.setattr(Runtime, "is_here", lambda runtime, _: runtime.family != "keyword")
    monkeypatch.setattr(workers, "worker_processes", none_made)
    sets.go_live(sets.propose(of(), SNAPSHOT, "first"))
    sets.propose(of(keyword="v2"), SNAPSHOT, "second")
    Workers(settings).look()
    assert len(asked) == len(families()) + 1
    assert asked[-2:] == [Runtime("keyword", f"code of {version}", ENVIRONMENT) for version in ("v1", "v2")]


@pytest.mark.slow
@pytest.mark.parametrize("held", [True, False], ids=["held and not started", "written and not held"])
def test_a_worker_whose_start_was_cut_short_is_started(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, sleepers: None, held: bool
) -> None:
    sets.propose(of(), SNAPSHOT, "first")
    (name, *_) = sorted(named())
    supervisor.add(sleeper(name), worker=True)
    if not held:
        supervisor._call("removeProcessGroup", name)
    Workers(settings).look()
    wait_for(lambda: running(supervisor) == named())


@pytest.mark.slow
def test_a_worker_that_is_written_and_not_held_keeps_nothing_from_going_on(
    settings: Settings, sets: LiveSets, supervisor: Supervisor, sleepers: None
) -> None:
    supervisor.add(sleeper("keyword-old"), worker=True)
    supervisor._call("removeProcessGroup", "keyword-old")
    sets.propose(of(), SNAPSHOT, "first")
    held = Workers(settings)
    for _ in range(3):
        held.look()
    wait_for(lambda: running(supervisor) == named())


def test_a_start_waits_for_what_answers_alone(settings: Settings, sets: LiveSets) -> None:
    """What can be gone back to, or is proposed, and cannot be started, keeps no stack from it."""
    sets.go_live(sets.propose(of(), SNAPSHOT, "first"))
    sets.go_live(sets.propose(of(keyword="v2"), SNAPSHOT, "second"))
    sets.propose(of(ranker="v2"), SNAPSHOT, "third")
    assert {runtime.worker for runtime in workers.first(settings)} == named(keyword="v2")


def test_before_any_set_the_checkout_s_own_code_is_kept_and_run(settings: Settings) -> None:
    first = workers.first(settings)
    assert [runtime.family for runtime in first] == list(families()) and all(runtime.code for runtime in first)
    assert [process.name for process in workers.worker_processes(settings, first)] == [
        runtime.worker for runtime in first
    ]
