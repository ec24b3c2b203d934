"""The supervisor: the real supervisord, with small processes of the tests' own."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Never

import psutil
import pytest
from supervisor.xmlrpc import Faults

from deploy.stack.processes import keeper, shares, supervisor
from deploy.stack.processes.listing import STACK_MARK, Process, processes, worker
from deploy.stack.processes.supervisor import NotRunningError, Supervisor
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import Settings, families, repositories
from shared_ops.waiting import until

SLEEPS = "import time; print('here', flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def _sockets_in_the_test_s_own_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("s")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(folder))


def sleeper(name: str, code: str = SLEEPS) -> Process:
    return Process(name, [sys.executable, "-c", code], ready=lambda: None, phase=0)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor of two sleepers, both started."""
    settings = Settings(home=tmp_path, postgres_url=None)
    made = Supervisor(settings)
    made.start([sleeper("one"), sleeper("two")], {STACK_MARK: str(tmp_path)})
    for name in ("one", "two"):
        made.start_process(name)
    wait_for(lambda: all(state.pid for state in made.states().values()))
    yield made
    if made.running():
        made.shut_down()
    supervisor.end(supervisor.leftovers(settings))


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until a condition holds; the test fails where it does not in time."""
    assert until(condition, every=0.05, seconds=seconds)


def test_what_is_killed_comes_back_and_nothing_else_is_touched(running: Supervisor) -> None:
    one, two = (running.states()[name].pid for name in ("one", "two"))
    os.kill(one, signal.SIGKILL)
    wait_for(lambda: running.states()["one"].pid not in (0, one))
    assert running.states()["two"].pid == two


@pytest.mark.slow
def test_starting_what_runs_changes_nothing(running: Supervisor) -> None:
    before = {name: state.pid for name, state in running.states().items()}
    running.start_process("one")
    assert {name: state.pid for name, state in running.states().items()} == before


@pytest.mark.slow
def test_stopping_one_leaves_the_other(running: Supervisor) -> None:
    running.stop_processes(["one"])
    assert running.states()["one"].state == "STOPPED"
    assert running.states()["two"].pid


@pytest.mark.slow
def test_what_would_be_run_in_another_way_today_is_changed(running: Supervisor) -> None:
    assert not running.changed(sleeper("one"))
    assert running.changed(sleeper("one", "import time; time.sleep(601)"))


@pytest.mark.slow
def test_processes_come_and_go_and_nothing_else_is_touched(running: Supervisor) -> None:
    before = {name: running.states()[name].pid for name in ("one", "two")}
    running.add(sleeper("three"))
    running.add(sleeper("four"), worker=True)
    for name in ("three", "four"):
        running.start_process(name)
    wait_for(lambda: all(state.pid for state in running.states().values()))
    assert running.workers() == ["four"]
    pid = running.states()["three"].pid
    running.drop("three")
    assert not psutil.pid_exists(pid) and set(running.states()) == {"one", "two", "four"}
    running.add(sleeper("three"))
    running.start_process("three")
    wait_for(lambda: running.states()["three"].pid)
    assert {name: running.states()[name].pid for name in before} == before


def test_what_two_add_at_once_is_held_once_and_what_is_not_held_can_be_dropped(running: Supervisor) -> None:
    for _ in range(2):
        running.add(sleeper("three"), worker=True)
    running._call("startProcess", "three", False)
    running._call("startProcess", "three", False, but=Faults.ALREADY_STARTED)
    running._call("removeProcessGroup", "two", but=Faults.STILL_RUNNING)
    running.stop_processes(["three"])
    running._call("removeProcessGroup", "three")
    running.drop("three")
    assert running.workers() == [] and set(running.states()) == {"one", "two"}


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_that_keeps_others_from_being_added(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, content: str) -> Never:
        with path.open("w") as file:
            file.write(content[: len(content) // 2].rpartition("\n")[0] + "\n[")
        raise OSError("No space left on device")

    with monkeypatch.context() as full, pytest.raises(OSError, match="No space"):
        full.setattr(Path, "write_text", half)
        running.add(sleeper("three"), worker=True)
    running.add(sleeper("four"), worker=True)
    assert running.workers() == ["four"] and set(running.states()) == {"one", "two", "four"}


def test_shutting_down_ends_everything(running: Supervisor) -> None:
    pids = [state.pid for state in running.states().values()]
    running.shut_down()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not running.running()
    with pytest.raises(NotRunningError, match="make up"):
        running.states()


def test_what_a_killed_supervisor_leaves_behind_is_found_and_nothing_of_another_stack(running: Supervisor) -> None:
    other = subprocess.Popen([sys.executable, "-c", SLEEPS], env=os.environ | {STACK_MARK: "/another/home"})
    pids = {state.pid for state in running.states().values()}
    psutil.Process(int((running.folder / "supervisord.pid").read_text())).kill()
    wait_for(lambda: not running.running())
    leftovers = supervisor.leftovers(running.settings)
    assert {process.pid for process in leftovers} == pids
    supervisor.end(leftovers)
    assert supervisor.leftovers(running.settings) == []
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.fixture
def succeeded(running: Supervisor) -> tuple[Supervisor, dict[str, int]]:
    """A supervisor that took the place of a killed one, and each process's pid of before."""
    before = {name: state.pid for name, state in running.states().items()}
    wait_for(lambda: all(keeper.living(running._record(name)) for name in before))
    psutil.Process(int((running.folder / "supervisord.pid").read_text())).kill()
    wait_for(lambda: not running.running())
    running.start([sleeper("one"), sleeper("two")], {STACK_MARK: str(running.settings.home)})
    for name in before:
        running.start_process(name)
    wait_for(lambda: all(state.state == "RUNNING" for state in running.states().values()))
    return running, before


@pytest.mark.slow
def test_what_a_killed_supervisor_leaves_behind_is_kept_by_the_next(
    succeeded: tuple[Supervisor, dict[str, int]],
) -> None:
    running, before = succeeded
    assert {name: state.pid for name, state in running.states().items()} == before
    os.kill(before["one"], signal.SIGKILL)
    wait_for(lambda: running.states()["one"].pid not in (0, before["one"]))
    assert running.states()["two"].pid == before["two"]


@pytest.mark.slow
def test_a_worker_that_lives_still_is_held_by_the_next_supervisor_whoever_needs_it(running: Supervisor) -> None:
    for name in ("old", "ended"):
        running.add(sleeper(name), worker=True)
        running.start_process(name)
    wait_for(lambda: all(keeper.living(running._record(name)) for name in running.states()))
    pids = {name: running.states()[name].pid for name in ("old", "ended")}
    psutil.Process(int((running.folder / "supervisord.pid").read_text())).kill()
    wait_for(lambda: not running.running())
    psutil.Process(pids["ended"]).kill()
    wait_for(lambda: keeper.living(running._record("ended")) is None)
    running.start([sleeper("one"), sleeper("two")], {STACK_MARK: str(running.settings.home)}, [sleeper("new")])
    assert running.workers() == ["new", "old"]
    wait_for(lambda: running.states()["old"].state == "RUNNING")
    assert running.states()["old"].pid == pids["old"]
    running.drop("old")
    assert not psutil.pid_exists(pids["old"])


@pytest.mark.slow
def test_what_was_kept_is_stopped_like_the_rest(succeeded: tuple[Supervisor, dict[str, int]]) -> None:
    running, _ = succeeded
    running.shut_down()
    assert supervisor.leftovers(running.settings) == []


@pytest.mark.slow
def test_what_is_to_be_forgotten_is_started_anew(running: Supervisor) -> None:
    pid = running.states()["one"].pid
    wait_for(lambda: keeper.living(running._record("one")))
    running.forget("one")
    assert keeper.living(running._record("one")) is None
    assert psutil.pid_exists(pid)


def test_a_process_is_told_from_a_later_one_with_its_number_and_from_another_home_s(tmp_path: Path) -> None:
    record, me = tmp_path / "home" / "supervisor" / "one.json", psutil.Process()
    record.parent.mkdir(parents=True)
    entry = {"pid": me.pid, "started": me.create_time(), "home": str(tmp_path / "home")}
    record.write_text(json.dumps(entry))
    assert keeper.living(record) == me
    for other in ({"started": me.create_time() - 60}, {"home": str(tmp_path / "original")}):
        record.write_text(json.dumps(entry | other))
        assert keeper.living(record) is None
    del entry["home"]
    record.write_text(json.dumps(entry))
    assert keeper.living(record) is None, "whose it is, is not known"


@pytest.mark.slow
def test_a_home_that_was_copied_while_its_stack_ran_has_processes_of_its_own(running: Supervisor) -> None:
    """Nothing of the original is taken over, held as a worker, or ended."""
    original = running.settings.home
    running.add(sleeper("worker"), worker=True)
    running.start_process("worker")
    wait_for(lambda: all(keeper.living(running._record(name)) for name in running.states()))
    before = {name: state.pid for name, state in running.states().items()}
    home = original.with_name(f"{original.name}-copy")
    subprocess.run(["cp", "-r", str(original), str(home)], check=True)
    copy = Supervisor(Settings(home=home, postgres_url=None))
    copy.start([sleeper("one"), sleeper("two")], {STACK_MARK: str(home)})
    try:
        assert copy.workers() == []
        for name in ("one", "two"):
            copy.start_process(name)
        wait_for(lambda: all(keeper.living(copy._record(name)) for name in ("one", "two")))
        own = {state.pid for state in copy.states().values()}
        assert len(own) == 2 and own.isdisjoint(before.values())
    finally:
        copy.shut_down()
        supervisor.end(supervisor.leftovers(copy.settings))
    assert {name: state.pid for name, state in running.states().items()} == before
    assert all(psutil.pid_exists(pid) for pid in before.values()) and not any(map(psutil.pid_exists, own))


@pytest.mark.slow
def test_a_process_that_does_not_heed_the_signal_is_killed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, postgres_url=None)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEPS
    made = Supervisor(settings)
    made.start([sleeper("stubborn", stubborn)], {STACK_MARK: str(tmp_path)})
    made.start_process("stubborn")
    log = tmp_path / "logs" / "stubborn.log"
    wait_for(lambda: log.exists() and "here" in log.read_text())
    pid = made.states()["stubborn"].pid
    made.stop_processes(["stubborn"])
    assert not psutil.pid_exists(pid)
    made.shut_down()


def test_odd_paths_and_commands_reach_the_process_as_they_are(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "an odd home", postgres_url=None)
    made = Supervisor(settings)
    made.start([sleeper("odd", f"print('50% \"off\"', flush=True);{SLEEPS}")], {})
    made.start_process("odd")
    log = settings.home / "logs" / "odd.log"
    wait_for(lambda: log.exists() and '50% "off"' in log.read_text())
    made.shut_down()


def _is_told_program(words: list[str]) -> bool:
    return "python" in "".join(words[:1]) and words[1:2] == ["-c"]


@pytest.mark.slow
def test_services_come_first_then_the_control_plane_then_trainings(tmp_path: Path) -> None:
    """The priorities of all processes, their threads and their memory, as the kernel and they see them."""
    settings = Settings(home=tmp_path, postgres_url=None, training_gib=1.5)
    kinds = {"search": shares.SERVING, "daemon": shares.CONTROL, "code-keyword": shares.TRAINING}
    made = Supervisor(settings)
    made.start([replace(sleeper(name), share=share) for name, share in kinds.items()], {STACK_MARK: str(tmp_path)})
    try:
        for name in kinds:
            made.start_process(name)
        wait_for(lambda: all(state.pid for state in made.states().values()))
        running = {name: psutil.Process(made.states()[name].pid) for name in kinds}
        # Each is nice(1) first, then a keeper, which becomes what it was told to run.
        wait_for(lambda: all(_is_told_program(each.cmdline()) for each in running.values()))
        own = psutil.Process().nice()
        assert {name: each.nice() - own for name, each in running.items()} == {
            name: min(share.nice, 19 - own) for name, share in kinds.items()
        }
        threads = {name: each.environ()["OPENBLAS_NUM_THREADS"] for name, each in running.items()}
        assert threads == {name: str(share.threads) for name, share in kinds.items()}
        bounds = {name: resource.prlimit(each.pid, resource.RLIMIT_DATA)[0] for name, each in running.items()}
        own_bound = resource.getrlimit(resource.RLIMIT_DATA)[0]
        assert bounds == {"search": own_bound, "daemon": own_bound, "code-keyword": 1.5 * 2**30}
        scores = {name: int(Path(f"/proc/{each.pid}/oom_score_adj").read_text()) for name, each in running.items()}
        assert scores == {name: share.given_up for name, share in kinds.items()}
    finally:
        made.shut_down()
        supervisor.end(supervisor.leftovers(settings))


def test_a_training_that_takes_more_than_it_may_ends_itself(tmp_path: Path) -> None:
    takes = "import numpy; print('begins', flush=True); numpy.ones(2**27)"  # 1 GiB
    command = [
        sys.executable,
        "-m",
        "deploy.stack.processes.keeper",
        str(tmp_path / "home" / "supervisor" / "one.json"),
    ]
    (tmp_path / "home" / "supervisor").mkdir(parents=True)
    ended = {}
    for gib in (0.5, 4):
        log, bounds = tmp_path / f"{gib}.log", [str(shares.TRAINING.given_up), str(int(gib * 2**30))]
        done = subprocess.run([*command, str(log), *bounds, sys.executable, "-c", takes], check=False)
        ended[gib] = done.returncode, log.read_text()
    assert ended[4] == (0, "begins\n")
    assert ended[0.5][0] == 1 and "MemoryError: Unable to allocate 1.00 GiB" in ended[0.5][1]


def test_every_process_of_a_stack_has_its_share() -> None:
    settings = Settings(postgres_url=None)
    listed = {process.name: process.share for process in processes(settings)}
    assert listed["search"] == shares.SERVING
    assert all(worker(settings, Runtime(family, "", "")).share == shares.SERVING for family in families())
    assert all(listed[name].nice > 0 for name in ("postgres", "dagit", "daemon"))
    lowest = max(share.nice for share in listed.values())
    assert all(listed[f"code-{name}"].nice == lowest for name in repositories())
