"""The sensor that tells people of failed runs in every code location. Only one location includes it."""

from collections.abc import Iterator

from dagster import DefaultSensorStatus, RunFailureSensorContext, SensorDefinition, run_failure_sensor
from dagster_shared.error import SerializableErrorInfo

from shared_ops.causes import message
from shared_ops.notifications import notify
from shared_ops.settings import current


def failure_sensor() -> SensorDefinition:
    """A sensor, on by default, that notifies of every failed run: its job, its step, the cause, and its address."""

    @run_failure_sensor(
        name="failed_runs",
        description="Notifies of every failed run of every code location: a log line, and SEARCHLOOP_NOTIFY.",
        monitor_all_code_locations=True,
        minimum_interval_seconds=27,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def failed_runs(context: RunFailureSensorContext) -> None:
        title, body = describe(context)
        notify(title, body, "failure")
        context.log.info("%s: %s", title, body)

    return failed_runs


def describe(context: RunFailureSensorContext) -> tuple[str, str]:
    """The title and the text of the notification of a failed run."""
    run = context.dagster_run
    causes = list(_causes(context)) or [context.failure_event.message or "no reason was given"]
    again = ["Dagster tries it again."] if run.tags.get("dagster/will_retry") == "true" else []
    address = f"{current().url('dagit')}/runs/{run.run_id}"
    return f"{run.job_name} failed", "\n".join([*causes, *again, address])


def _causes(context: RunFailureSensorContext) -> Iterator[str]:
    for event in context.get_step_failure_events():
        if error := event.step_failure_data.error:
            yield f"{event.step_key}: {message([each.message for each in _chain(error)])}"


def _chain(error: SerializableErrorInfo | None) -> Iterator[SerializableErrorInfo]:
    while error:
        yield error
        error = error.cause
