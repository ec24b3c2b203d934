"""What starts trainings by itself: sensors that look for data from which no release has learned, and a daily schedule.

Sensors look at the state, not at events: nothing is missed while the stack is down, and a burst of changes leads to one
training. Every tick says in words why it acted or did not.
"""

import time
from typing import Any

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    JobDefinition,
    RunRecord,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from shared_ops.pipeline.references import AGAIN, BECAUSE, NO_FEEDBACK
from shared_ops.pipeline.resources import PROD
from shared_ops.release import acceptance
from shared_ops.release.inputs import Inputs, MissingInputError, find, result_of
from shared_ops.settings import current, repositories

SOON, LATER = 2, 7
"""The least seconds between two ticks of a sensor: the daemon looks every 5 s, so they come every 5 and every 10 s."""
IDLE_SECONDS = "searchloop/idle_seconds"
"""The tag of a sensor with the greatest number of seconds between two of its ticks while no folder and no run of the
stack changes (deploy/stack/processes/calm.py)."""
IDLE = {IDLE_SECONDS: "30"}
DATA = "searchloop/data"
"""The tag of a run that a trigger started: the key of the data that it was to learn from."""
RETRY_SECONDS = 600
"""The time within which Dagster tries a failed run again, if it does."""
WILL_RETRY = "dagster/will_retry"
RETRY_RUN = "dagster/auto_retry_run_id"
ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
IN_FLIGHT = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def retrain_sensor(family: str, job: JobDefinition) -> SensorDefinition:
    """The sensor that trains `family` in prod when there is data that no release of it learned from."""
    # Clicks take effect through these families, soon; a snapshot takes its time anyway.
    repository = repositories()[family]
    often = repository.feedback or repository.role == "rank"

    @sensor(
        name=f"{family}_new_data",
        job=job,
        minimum_interval_seconds=SOON if often else LATER,
        tags=IDLE,
        default_status=DefaultSensorStatus.RUNNING,
        description=f"Trains {family} when its snapshot, feedback or upstream releases are new.",
    )
    def new_data(context: SensorEvaluationContext) -> RunRequest | SkipReason:
        return nothing_new(family) or due(context.instance, family)

    return new_data


def nothing_new(family: str) -> SkipReason | None:
    """Why nothing is due, if files alone can tell: most ticks end here, without asking a database."""
    try:
        learned = _learned(_newest(family))
    except MissingInputError as error:
        return SkipReason(str(error))
    return SkipReason(learned) if learned else None


def _newest(family: str) -> Inputs:
    """What a training of `family` would learn from now."""
    return find(family, PROD.input_snapshots, PROD.input_feedback.latest(), PROD.input_staging)


def due(instance: DagsterInstance, family: str) -> RunRequest | SkipReason:
    """The training of `family` that is due in prod, or why none is."""
    if run := in_flight(instance, family):
        return SkipReason(f"Run {run[:8]} of {family} is in flight.")
    try:
        inputs = _newest(family)
    except MissingInputError as error:
        return SkipReason(str(error))
    for upstream in inputs.releases:
        if reason := _unsettled(instance, upstream):
            return SkipReason(f"Waits for {upstream}: {reason}")
    if settled := _settled(instance, inputs):
        return SkipReason(settled)
    what = ", ".join(
        [
            f"snapshot {inputs.snapshot.id}",
            *([f"feedback {inputs.feedback.id}"] if inputs.feedback else []),
            *(f"{name}/{version}" for name, version in inputs.releases.items()),
        ]
    )
    key, last = _key(inputs), _last_run(instance, inputs)
    run_key = f"{key} after {last.run_id}" if last else key
    return RunRequest(run_key=run_key, run_config=_learning(inputs), tags={DATA: key, BECAUSE: f"new: {what}"[:250]})


def _learning(inputs: Inputs) -> dict[str, Any]:
    """The configuration of a run that learns from just these inputs, whatever has come since."""
    chosen = {
        "snapshot_id": inputs.snapshot.id,
        "feedback_id": inputs.feedback.id if inputs.feedback else NO_FEEDBACK,
        "releases": dict(inputs.releases),
    }
    return {"ops": {"load_inputs": {"config": chosen}}}


def _key(inputs: Inputs) -> str:
    """The key of a run's data; data that is back after another release replaced its result gets a new key."""
    came_before = result_of(inputs, PROD.staging) is not None
    if not came_before:
        return inputs.data_key
    replaced_by = f"{PROD.staging.accepted(inputs.family)} of {PROD.staging.accepted_at(inputs.family)}"
    return f"{inputs.data_key} after {replaced_by}"


def _learned(inputs: Inputs) -> str | None:
    """Why these inputs need no training; None where they need one, or their release is to be accepted again."""
    result = result_of(inputs, PROD.staging)
    if result is None:
        return _taken_back(inputs)
    if acceptance.comes_back(result, PROD.staging, PROD.live_sets):
        return None
    verdict = "accepted" if result.accepted else "rejected"
    return f"{result.family}/{result.version} ({verdict}) already learned from snapshot {inputs.snapshot.id}" + (
        f" and feedback {inputs.feedback.id}." if inputs.feedback else "."
    )


def _taken_back(inputs: Inputs) -> str | None:
    """The message that a rollback took back the result of this snapshot and feedback, and no data is new; else None.

    A ranker that learned the same data on top of the restored releases would undo the rollback.
    """
    live = PROD.live_sets.live()
    if live is None or not inputs.releases or not inputs.releases.items() <= live.releases.items():
        return None
    for version in reversed(PROD.staging.versions(inputs.family)):
        past = PROD.live_sets.taken_back_release(inputs.family, version)
        manifest = PROD.staging.manifest(inputs.family, version) if past else None
        if past and manifest and (manifest.snapshot, manifest.feedback) == (inputs.snapshot, inputs.feedback):
            return (
                f"{inputs.family}/{version} learned from this data and was taken back with set {past.number}: new data "
                f"starts a training, or make train REPO={inputs.family}."
            )
    return None


def _settled(instance: DagsterInstance, inputs: Inputs) -> str | None:
    """What these inputs have led to already; None when they are still to be learned from."""
    if learned := _learned(inputs):
        return learned
    last = _last_run(instance, inputs)
    if last is None or AGAIN in last.tags:
        return None
    return (
        f"Run {last.run_id[:8]} was to learn from this data and ended {last.status.value}; it is not tried "
        f"again by itself: make train REPO={inputs.family}."
    )


def _last_run(instance: DagsterInstance, inputs: Inputs) -> DagsterRun | None:
    """The newest run of a trigger that was to learn from these inputs and has ended.

    A run that has not ended does not count: it may have been created after the look for runs in flight.
    """
    filters = RunsFilter(job_name=f"{inputs.family}_prod", tags={DATA: _key(inputs)}, statuses=ENDED)
    return next(iter(instance.get_runs(filters, limit=1)), None)


def _unsettled(instance: DagsterInstance, family: str) -> str | None:
    """Why a release of `family` may come soon; None when none is to be expected."""
    if run := in_flight(instance, family):
        return f"run {run[:8]} is in flight."
    try:
        inputs = _newest(family)
    except MissingInputError as error:
        return str(error)
    return None if _settled(instance, inputs) else f"it has still to learn from snapshot {inputs.snapshot.id}."


def in_flight(instance: DagsterInstance, job: str) -> str | None:
    """The id of a prod run of a job that is queued or running, or is about to be tried again."""
    name = f"{job}_prod"
    runs = instance.get_runs(RunsFilter(job_name=name, statuses=IN_FLIGHT), limit=1)
    if not runs:
        last = instance.get_run_records(RunsFilter(job_name=name, statuses=[DagsterRunStatus.FAILURE]), limit=1)
        runs = [record.dagster_run for record in last if _comes_again(record)]
    return runs[0].run_id if runs else None


def _comes_again(record: RunRecord) -> bool:
    """Whether Dagster is about to try a failed run again.

    Its tag says so. But Dagster never does it where the job lies in another code location by now.
    """
    tags = record.dagster_run.tags
    late = time.time() - record.update_timestamp.timestamp() > RETRY_SECONDS
    return tags.get(WILL_RETRY) == "true" and RETRY_RUN not in tags and not late


def nightly(hours: int = 0, minutes: int = 0) -> str:
    """The cron schedule (UTC) of what runs every night so long after SEARCHLOOP_NIGHTLY_HOUR, -1 hours: before it."""
    return f"{minutes} {(current().nightly_hour + hours) % 24} * * *"


def every_night(name: str, job: JobDefinition, at: str, because: str, description: str) -> ScheduleDefinition:
    """A schedule that launches a job every night, at what `nightly` gave, and tells each run why it started."""
    return ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=at,
        execution_timezone="UTC",
        tags={BECAUSE: because},
        default_status=DefaultScheduleStatus.RUNNING,
        description=description,
    )


def daily_schedule(family: str, job: JobDefinition, hours: int = 1) -> ScheduleDefinition:
    """The daily training, for changes that are no data: new code, another environment. Without any it ends at once.

    It comes so many `hours` after the night begins, when the data of the day is there.
    """
    return every_night(
        f"{family}_daily",
        job,
        nightly(hours),
        because="every day, for new code or another environment",
        description="Every day, for new code or another environment; where nothing changed nothing is trained.",
    )
