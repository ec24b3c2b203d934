"""Has the daemon overlook no run that is to be tried again.

Dagster gives up a run for good in two moments that pass by themselves, and that a busy machine makes long:

- It writes the end of a run into the event log first, and then into the table of runs. Its daemon reads the log, and
  passes over a run that the table does not call failed yet.
- The daemon looks at the code servers every few seconds. One that was started anew has no jobs for it until then.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shared_ops.waiting import until

TABLE_SECONDS = 10.0
"""How long the table of runs may lag behind the log; past that, what wrote the log has died in between."""
LOCATION_SECONDS = 60.0
"""How long a code location may take to be seen by the daemon again; past that, its code does not load."""


def overlook_none() -> None:
    """Make this process's daemon wait for both before it decides which runs are tried again."""
    from dagster._daemon.auto_run_reexecution import event_log_consumer

    consumer: Any = event_log_consumer
    consumer.consume_new_runs_for_automatic_reexecution = _patient(consumer.consume_new_runs_for_automatic_reexecution)


def _patient(consume: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A replacement of Dagster's `consume`, which gets the records of runs whose end the log has told of."""

    def consume_patiently(workspace: Any, records: Sequence[Any], *arguments: Any) -> Iterator[Any]:
        ended = [_ended(workspace.instance, record) for record in records]
        for record in ended:
            _await_location(workspace, record.dagster_run)
        yield from consume(workspace, ended, *arguments)

    return consume_patiently


def _ended(instance: Any, record: Any) -> Any:
    """The record of a run once the table says that it has ended; as it is where that does not come."""
    run_id = record.dagster_run.run_id
    return until(
        lambda: instance.get_run_record_by_id(run_id) or record,
        lambda each: each.dagster_run.is_finished,
        every=0.05,
        seconds=TABLE_SECONDS,
    )


def _await_location(workspace: Any, run: Any) -> None:
    """Wait until the daemon sees the code location of a failed run."""
    if not run.is_failure or not run.remote_job_origin:
        return
    name = run.remote_job_origin.repository_origin.code_location_origin.location_name
    until(lambda: workspace.create_request_context().has_code_location(name), every=0.5, seconds=LOCATION_SECONDS)
