"""A run whose end the event log has told of, and not yet the table of runs, is tried again all the same."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRecord
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.auto_run_reexecution import event_log_consumer
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry

from deploy.stack.processes import lost_runs


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path), {"run_retries": {"enabled": True, "max_retries": 1}}) as instance:
        yield instance


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each run that the daemon gets to see, whether it would be tried again."""
    answers: list[bool] = []

    def consume(workspace: SimpleNamespace, records: Sequence[RunRecord], logger: logging.Logger) -> Iterator[None]:
        answers.extend(should_retry(record.dagster_run, workspace.instance) for record in records)
        yield None

    monkeypatch.setattr(event_log_consumer, "consume_new_runs_for_automatic_reexecution", consume)
    return answers


def record_of_a_run_that_is_about_to_fail(instance: DagsterInstance) -> RunRecord:
    run = create_run_for_test(instance, status=DagsterRunStatus.STARTED)
    record = instance.get_run_record_by_id(run.run_id)
    failure = DagsterEvent(DagsterEventType.RUN_FAILURE.value, run.job_name, message="its process was killed")

    def fail() -> None:
        time.sleep(0.3)
        instance.report_dagster_event(failure, run.run_id)

    threading.Thread(target=fail).start()
    return record


def consumed(instance: DagsterInstance, record: RunRecord) -> None:
    consumer: Any = event_log_consumer
    workspace = SimpleNamespace(instance=instance)
    list(consumer.consume_new_runs_for_automatic_reexecution(workspace, [record], logging.getLogger()))


def test_the_daemon_waits_for_the_table_of_runs(instance: DagsterInstance, seen: list[bool]) -> None:
    consumed(instance, record_of_a_run_that_is_about_to_fail(instance))
    assert seen == [False], "Dagster alone passes over it"
    lost_runs.overlook_none()
    consumed(instance, record_of_a_run_that_is_about_to_fail(instance))
    assert seen == [False, True]


def test_a_run_that_does_not_end_is_not_waited_for_for_ever(
    instance: DagsterInstance, seen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_runs, "TABLE_SECONDS", 0.2)
    lost_runs.overlook_none()
    run = create_run_for_test(instance, status=DagsterRunStatus.STARTED)
    consumed(instance, instance.get_run_record_by_id(run.run_id))
    assert seen == [False]


def test_a_code_server_that_was_started_anew_is_waited_for_until_the_daemon_sees_its_jobs() -> None:
    place = SimpleNamespace(code_location_origin=SimpleNamespace(location_name="keyword"))
    failed = SimpleNamespace(is_failure=True, remote_job_origin=SimpleNamespace(repository_origin=place))
    looks = iter([False, False, True])
    context = SimpleNamespace(has_code_location=lambda name: name == "keyword" and next(looks))
    lost_runs._await_location(SimpleNamespace(create_request_context=lambda: context), failed)
    assert list(looks) == []
