"""Sensors that have nothing new to see tick seldom, and at once again when anything goes on; some wait for code."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import DagsterInstance, job, op
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon import sensor

from deploy.stack.processes import calm
from deploy.stack.processes.calm import IdleWatch
from deploy.stack.tests.test_supervisor import wait_for
from shared_ops.data import storage
from shared_ops.refused import RefusedCode
from shared_ops.settings import Settings, file_url

LOCATION = """
import dagster

@dagster.sensor(tags={"searchloop/idle_seconds": "600"}, minimum_interval_seconds=1, default_status=ON)
def patient():
    return dagster.SkipReason("nothing is new")

@dagster.sensor(minimum_interval_seconds=1, default_status=ON)
def eager():
    return dagster.SkipReason("nothing is new")

@dagster.sensor(job_name="nothing", minimum_interval_seconds=1, default_status=ON)
def starts():
    return dagster.SkipReason("nothing is new")

@dagster.op
def done(): ...

@dagster.job
def nothing(): done()

defs = dagster.Definitions(jobs=[nothing], sensors=[patient, eager, starts])
""".replace("ON", "dagster.DefaultSensorStatus.RUNNING")


@op
def done() -> None:
    pass


@job
def nothing() -> None:
    done()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging" / "prod"
    (folder / "keyword").mkdir(parents=True)
    return folder


@pytest.fixture
def look(staging: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Looks at the stack, and says whether it is idle."""
    monkeypatch.setattr(calm, "IDLE_AFTER_SECONDS", 0.3)
    watch = IdleWatch([staging])

    def now() -> bool:
        watch.look(instance)
        return watch.is_idle

    return now


@pytest.mark.parametrize("pointer", ["live.json", "keyword/accepted.json"])
def test_a_pointer_that_moves_and_a_run_that_ends_are_seen_at_once(
    look: Callable[[], bool], staging: Path, instance: DagsterInstance, pointer: str
) -> None:
    storage.write_json(file_url(staging / pointer), {"version": "1"})
    assert not look()
    wait_for(look, 5)
    storage.write_json(file_url(staging / pointer), {"version": "2"})
    assert not look()
    wait_for(look, 5)
    nothing.execute_in_process(instance=instance)
    assert not look()
    wait_for(look, 5)


def test_only_folders_of_this_machine_tell_a_change(tmp_path: Path) -> None:
    assert calm.idle_watch(Settings(home=tmp_path)) is not None
    assert calm.idle_watch(Settings(home=tmp_path, staging="memory://staging")) is None


@pytest.mark.slow
def test_the_daemon_asks_a_patient_sensor_seldom_where_nothing_goes_on(
    tmp_path: Path, staging: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("execute_sensor_iteration", "is_under_min_interval"):
        monkeypatch.setattr(sensor, name, getattr(sensor, name))  # put back afterwards
    monkeypatch.setattr(calm, "IDLE_AFTER_SECONDS", 0.0)
    file = tmp_path / "sensors.py"
    file.write_text(LOCATION)
    calm.slow_down_by(IdleWatch([staging]))
    target = PythonFileTarget(str(file), attribute=None, working_directory=None, location_name="sensors")
    with create_test_daemon_workspace_context(target, instance) as context:
        for _ in range(3):
            iterate(context)
        assert ticks(context) == {"patient": 1, "eager": 3, "starts": 3}


@pytest.mark.slow
def test_a_sensor_that_starts_runs_waits_while_its_location_s_code_does_not_load(
    tmp_path: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run starts from the files as they are, and would fail; what the sensor waits with is found once they load."""
    monkeypatch.setattr(sensor, "is_under_min_interval", sensor.is_under_min_interval)  # put back afterwards
    file, record = tmp_path / "sensors.py", tmp_path / "code" / "sensors.json"
    file.write_text(LOCATION)
    record.parent.mkdir()
    refused = RefusedCode(location="sensors", at=datetime.now(UTC), place=None, message="SyntaxError: invalid syntax")
    record.write_text(refused.model_dump_json())
    calm.hold_where_runs_would_fail(Settings(home=tmp_path))
    target = PythonFileTarget(str(file), attribute=None, working_directory=None, location_name="sensors")
    with create_test_daemon_workspace_context(target, instance) as context:
        for _ in range(2):
            iterate(context)
        assert ticks(context) == {"patient": 2, "eager": 2, "starts": 0}
        record.unlink()
        iterate(context)
        assert ticks(context) == {"patient": 3, "eager": 3, "starts": 1}


def iterate(context: WorkspaceProcessContext) -> None:
    """Let the daemon look at all sensors once, and their least interval pass."""
    for _ in sensor.execute_sensor_iteration(context, logging.getLogger("test"), None, None):
        pass
    time.sleep(1.1)


def ticks(context: WorkspaceProcessContext) -> dict[str, int]:
    """How often each sensor of the location was asked."""
    repository = context.create_request_context().get_code_location("sensors").get_repository("__repository__")
    return {
        each.name: len(context.instance.get_ticks(each.get_remote_origin_id(), each.selector_id))
        for each in repository.get_sensors()
    }
