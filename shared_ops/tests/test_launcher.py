"""Runs that lose their process, their code server or both: a real daemon, real code servers, deploy/dagster.yaml."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import psutil
import pytest
import yaml
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter, job
from dagster._cli.job import execute_launch_command
from dagster._core.launcher import WorkerStatus
from dagster_shared.cli import WorkspaceOpts

from shared_ops import waiting
from shared_ops.pipeline import launcher
from shared_ops.settings import ROOT

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent
PATIENCE = 180
"""Seconds: a busy machine takes its time."""

Seen = TypeVar("Seen")
Starting = tuple[DagsterInstance, str, Callable[[int], object]]


def until(condition: Callable[[], Seen], seconds: float) -> Seen:
    seen = waiting.until(condition, every=0.2, seconds=seconds)
    assert seen, f"not within {seconds} s"
    return seen


class DagsterStack:
    """A daemon and the code server of sleeping.py, on a SQLite instance that deploy/dagster.yaml configures."""

    instance: DagsterInstance

    def __init__(self, home: Path) -> None:
        configuration = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
        del configuration["storage"]
        (home / "dagster.yaml").write_text(yaml.safe_dump(configuration))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        server = {"location_name": "sleeping", "host": "127.0.0.1", "port": self.port}
        self.workspace = home / "workspace.yaml"
        self.workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        self.home, self.environment = home, os.environ | {"DAGSTER_HOME": str(home)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start_daemon(self) -> None:
        self._start("dagster-daemon", "run", "-w", str(self.workspace), paced=True)

    def start_server(self) -> None:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-f", str(HERE / "sleeping.py"), "-d", str(HERE)]
        options = ["--location-name", "sleeping", "--use-python-environment-entry-point", "--heartbeat-ttl", "15"]
        self.server = self._start("dagster", "code-server", "start", *where, *options)
        until(self._listens, PATIENCE)

    def kill_server(self) -> None:
        """Kill the proxy and the process that holds the code, but not the runs that this process has started."""
        (inner,) = (each for each in psutil.Process(self.server.pid).children() if "grpc" in each.cmdline())
        self.server.kill()
        inner.kill()
        self.server.wait()
        until(lambda: not inner.is_running() or inner.status() == psutil.STATUS_ZOMBIE, 10)

    def launch(self, seconds: float, stubborn: bool = False, tags: dict[str, str] | None = None) -> str:
        """Launch a run; returns its id once it sleeps."""
        run: DagsterRun = execute_launch_command(
            instance=self.instance,
            workspace_opts=WorkspaceOpts(workspace=[str(self.workspace)]),
            job_name="sleeper",
            config_json=json.dumps({"ops": {"sleep": {"config": {"seconds": seconds, "stubborn": stubborn}}}}),
            tags=json.dumps(tags or {}),
        )
        until(lambda: self.status(run.run_id) == DagsterRunStatus.STARTED, PATIENCE)
        return run.run_id

    def status(self, run_id: str) -> DagsterRunStatus:
        return self.instance.get_run_by_id(run_id).status

    def worker(self, run_id: str) -> psutil.Process:
        launcher: Any = self.instance.run_launcher
        ((pid, _),) = launcher._started(self.instance.get_run_by_id(run_id))
        return psutil.Process(pid)

    def retries(self, run_id: str) -> list[str]:
        """The ids of the started runs that try this one again."""
        filters = RunsFilter(tags={"dagster/parent_run_id": run_id}, statuses=[DagsterRunStatus.STARTED])
        return [run.run_id for run in self.instance.get_runs(filters)]

    def fails_and_is_tried_again(self, run_id: str) -> None:
        until(lambda: self.status(run_id) == DagsterRunStatus.FAILURE, PATIENCE)
        (retry,) = until(lambda: self.retries(run_id), PATIENCE)
        self.instance.run_coordinator.cancel_run(retry)
        until(lambda: self.status(retry) == DagsterRunStatus.CANCELED, PATIENCE)

    def end(self) -> None:
        """End the processes, and what they have started, however they are related by now."""
        for process in self.processes:
            process.kill()
            process.wait()
        for each in psutil.process_iter():
            try:
                if each.environ().get("DAGSTER_HOME") == str(self.home):
                    each.kill()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def _start(self, command: str, *arguments: str, paced: bool = False) -> subprocess.Popen[bytes]:
        """Start one of Dagster's commands; `paced` as a stack starts it."""
        program = [sys.executable, "-m", "deploy.stack.processes.paced", command] if paced else [str(BIN / command)]
        with (self.home / f"{command}.log").open("a") as log:
            process = subprocess.Popen([*program, *arguments], cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterStack]:
    running = DagsterStack(tmp_path_factory.mktemp("dagster"))
    with DagsterInstance.from_config(str(running.home)) as running.instance:
        running.start_server()
        running.start_daemon()
        yield running
        running.end()


@pytest.mark.slow
def test_a_run_whose_process_is_killed_fails_and_is_tried_again(stack: DagsterStack) -> None:
    run_id = stack.launch(seconds=600)
    stack.worker(run_id).kill()
    stack.fails_and_is_tried_again(run_id)


@pytest.mark.slow
def test_a_run_whose_process_and_code_server_are_killed_fails_and_is_tried_again(stack: DagsterStack) -> None:
    run_id = stack.launch(seconds=600)
    worker = stack.worker(run_id)
    stack.kill_server()
    worker.kill()
    time.sleep(8)  # as a supervisor takes to start the server anew: a retry without one would be given up for good
    stack.start_server()
    stack.fails_and_is_tried_again(run_id)


@pytest.mark.slow
def test_a_run_that_lives_on_without_its_code_server_is_left_alone(stack: DagsterStack) -> None:
    run_id = stack.launch(seconds=25)
    stack.kill_server()
    stack.start_server()
    until(lambda: stack.status(run_id) != DagsterRunStatus.STARTED, PATIENCE)
    assert stack.status(run_id) == DagsterRunStatus.SUCCESS
    assert stack.instance.get_runs(RunsFilter(tags={"dagster/parent_run_id": run_id})) == []


@pytest.mark.slow
def test_a_run_that_its_code_server_has_forgotten_can_be_cancelled(stack: DagsterStack) -> None:
    run_id = stack.launch(seconds=600)
    worker = stack.worker(run_id)
    stack.kill_server()
    stack.start_server()
    assert stack.instance.run_coordinator.cancel_run(run_id)
    until(lambda: stack.status(run_id) == DagsterRunStatus.CANCELED, PATIENCE)
    until(lambda: not worker.is_running(), PATIENCE)


@pytest.mark.slow
def test_a_run_that_does_not_heed_its_interruption_is_killed(
    stack: DagsterStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "INTERRUPT_SECONDS", 2)
    run_id = stack.launch(seconds=600, stubborn=True)
    worker = stack.worker(run_id)
    assert stack.instance.run_coordinator.cancel_run(run_id)
    until(lambda: not worker.is_running(), PATIENCE)
    assert stack.status(run_id) == DagsterRunStatus.CANCELED


@pytest.mark.slow
def test_a_run_past_its_maximum_time_is_ended(stack: DagsterStack) -> None:
    run_id = stack.launch(seconds=600, tags={"dagster/max_runtime": "5", "dagster/max_retries": "0"})
    worker = stack.worker(run_id)
    until(lambda: stack.status(run_id) == DagsterRunStatus.FAILURE, PATIENCE)
    until(lambda: not worker.is_running(), PATIENCE)
    assert stack.status(run_id) == DagsterRunStatus.FAILURE
    (failure,) = stack.instance.all_logs(run_id, of_type=DagsterEventType.RUN_FAILURE)
    assert "Exceeded maximum runtime of 5 seconds" in failure.message


def test_a_run_that_was_started_elsewhere_is_left_alone(tmp_path: Path) -> None:
    @job
    def nothing() -> None:
        pass

    settings = {"run_launcher": {"module": "shared_ops.pipeline.launcher", "class": "LocalRunLauncher"}}
    with DagsterInstance.local_temp(str(tmp_path), overrides=settings) as instance:
        run = instance.create_run_for_job(nothing)
        assert instance.run_launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Starting]:
    """An instance, the id of a starting run, and a function that reports the pid of the run's process."""

    @job
    def nothing() -> None:
        pass

    settings = {"run_launcher": {"module": "shared_ops.pipeline.launcher", "class": "LocalRunLauncher"}}
    with DagsterInstance.local_temp(str(tmp_path), overrides=settings) as instance:
        run = instance.create_run_for_job(nothing, status=DagsterRunStatus.STARTING)
        started = lambda pid: instance.report_engine_event(f"Started process for run (pid: {pid}).", run)  # noqa: E731
        yield instance, run.run_id, started


def test_a_run_whose_process_ends_before_it_begins_has_failed(
    starting: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(launcher, "SERVER_SECONDS", 0)
    instance, run_id, started = starting
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    started(gone.pid)
    assert isinstance(instance.run_launcher, launcher.LocalRunLauncher)
    instance.run_launcher._see_it_begin(run_id)
    assert instance.get_run_by_id(run_id).status == DagsterRunStatus.FAILURE


def test_a_run_whose_process_lives_is_waited_for(starting: Starting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "LOOK_SECONDS", 0.1)
    instance, run_id, started = starting
    started(os.getpid())
    assert isinstance(instance.run_launcher, launcher.LocalRunLauncher)
    waiting = Thread(target=instance.run_launcher._see_it_begin, args=(run_id,))
    waiting.start()
    time.sleep(1)
    assert waiting.is_alive() and instance.get_run_by_id(run_id).status == DagsterRunStatus.STARTING
    instance.report_run_canceled(instance.get_run_by_id(run_id))
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_machine_that_is_ten_times_too_busy_starts_runs_in_time() -> None:
    """A run begins after about six seconds on an idle machine, and after a minute or two on such a one."""
    configuration = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    assert configuration["run_monitoring"]["start_timeout_seconds"] >= 600


def test_a_process_is_told_from_a_later_one_with_its_number() -> None:
    me = psutil.Process()
    assert launcher._living([(me.pid, time.time())]) == me
    assert launcher._living([(me.pid, me.create_time() - 2 * launcher.CLOCK_SECONDS)]) is None


def test_a_dead_process_is_not_taken_for_a_living_one() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, 20)
        assert launcher._living([(child.pid, time.time())]) is None
    assert launcher._living([(child.pid, time.time())]) is None


def test_of_several_processes_the_living_one_counts() -> None:
    me, gone = psutil.Process(), subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    assert launcher._living([(me.pid, time.time()), (gone.pid, time.time())]) == me
