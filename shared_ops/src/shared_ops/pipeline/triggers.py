"""What starts trainings by itself: sensors that compare what is there with what it should lead to.

They look at the state, not at events, so nothing is missed while the stack is down, and whatever comes in a burst leads
to one training. Every tick says in words why it acted or did not.
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

from shared_ops.pipeline.references import AGAIN, NO_FEEDBACK
from shared_ops.pipeline.resources import PROD
from shared_ops.release import acceptance, inputs
from shared_ops.release.inputs import Inputs, MissingInputError
from shared_ops.settings import repositories

SOON, LATER = 2, 7
"""Between two ticks of a sensor, at least: the daemon looks every 5 s, so they come every 5 and every 10 s."""
IDLE_SECONDS = "searchloop/idle_seconds"
"""The tag of a sensor that says how many seconds it may let pass between two ticks where no folder and no run of the
stack has changed (deploy/stack/processes/calm.py)."""
IDLE = {IDLE_SECONDS: "30"}
BECAUSE = "searchloop/because"
"""The tag of a run that says what started it."""
DATA = "searchloop/data"
"""The tag of a run that a trigger started: the key of the data that it was to learn from."""


RETRY_SECONDS = 600
"""In which a run that is to be tried again has been."""
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
    """Trains `family` in prod when there is data that no release of it learned from."""
    # What people click reaches them through these; a snapshot takes its time anyway.
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
    """Why nothing is due, where files alone tell it: most ticks end here, and ask no database."""
    try:
        learned = _learned(_newest(family))
    except MissingInputError as error:
        return SkipReason(str(error))
    return SkipReason(learned) if learned else None


def _newest(family: str) -> Inputs:
    """What a training of `family` would learn from now."""
    return inputs.find(family, PROD.input_snapshots, PROD.input_feedback.latest(), PROD.input_staging)


def due(instance: DagsterInstance, family: str) -> RunRequest | SkipReason:
    """The training of `family` that is due in prod, or why none is."""
    if run := in_flight(instance, family):
        return SkipReason(f"Run {run[:8]} of {family} is in flight.")
    try:
        found = _newest(family)
    except MissingInputError as error:
        return SkipReason(str(error))
    for upstream in found.releases:
        if reason := _unsettled(instance, upstream):
            return SkipReason(f"Waits for {upstream}: {reason}")
    if settled := _settled(instance, found):
        return SkipReason(settled)
    what = ", ".join(
        [
            f"snapshot {found.snapshot.id}",
            *([f"feedback {found.feedback.id}"] if found.feedback else []),
            *(f"{name}/{version}" for name, version in found.releases.items()),
        ]
    )
    key, tried = _key(found), _tried(instance, found)
    run_key = f"{key} after {tried.run_id}" if tried else key
    return RunRequest(run_key=run_key, run_config=_learning(found), tags={DATA: key, BECAUSE: f"new: {what}"[:250]})


def _learning(found: Inputs) -> dict[str, Any]:
    """The configuration of a run that learns from just these inputs, whatever has come since."""
    chosen = {
        "snapshot_id": found.snapshot.id,
        "feedback_id": found.feedback.id if found.feedback else NO_FEEDBACK,
        "releases": dict(found.releases),
    }
    return {"ops": {"load_inputs": {"config": chosen}}}


def _key(found: Inputs) -> str:
    """Names the data of a run; once more where what it led to was replaced since, and the data has come back."""
    came_before = inputs.result_of(found, PROD.staging) is not None
    if not came_before:
        return found.data_key
    replaced_by = f"{PROD.staging.accepted(found.family)} of {PROD.staging.accepted_at(found.family)}"
    return f"{found.data_key} after {replaced_by}"


def _learned(found: Inputs) -> str | None:
    """The release that learned from these inputs already; None where there is none, or it is to be accepted again."""
    result = inputs.result_of(found, PROD.staging)
    if result is None:
        return _taken_back(found)
    if acceptance.comes_back(result, PROD.staging, PROD.live_sets):
        return None
    verdict = "accepted" if result.accepted else "rejected"
    return f"{result.family}/{result.version} ({verdict}) already learned from snapshot {found.snapshot.id}" + (
        f" and feedback {found.feedback.id}." if found.feedback else "."
    )


def _taken_back(found: Inputs) -> str | None:
    """That a rollback took back what this snapshot and feedback led to, and nothing has come since; else None.

    A ranker that learned the same over the releases that were gone back to would undo the rollback.
    """
    live = PROD.live_sets.live()
    if live is None or not found.releases or not found.releases.items() <= live.releases.items():
        return None
    for version in reversed(PROD.staging.versions(found.family)):
        past = PROD.live_sets.taken_back_release(found.family, version)
        manifest = PROD.staging.manifest(found.family, version) if past else None
        if past and manifest and (manifest.snapshot, manifest.feedback) == (found.snapshot, found.feedback):
            return (
                f"{found.family}/{version} learned from this data and was taken back with set {past.number}: new data "
                f"starts a training, or make train REPO={found.family}."
            )
    return None


def _settled(instance: DagsterInstance, found: Inputs) -> str | None:
    """What these inputs have led to already, None when they are still to be learned from."""
    if learned := _learned(found):
        return learned
    tried = _tried(instance, found)
    if tried is None or AGAIN in tried.tags:
        return None
    return (
        f"Run {tried.run_id[:8]} was to learn from this data and ended {tried.status.value}; it is not tried "
        f"again by itself: make train REPO={found.family}."
    )


def _tried(instance: DagsterInstance, found: Inputs) -> DagsterRun | None:
    """The newest run of a trigger that was to learn from these inputs and has ended.

    Ended ones alone: a run may have been created since somebody looked for those in flight.
    """
    filters = RunsFilter(job_name=f"{found.family}_prod", tags={DATA: _key(found)}, statuses=ENDED)
    return next(iter(instance.get_runs(filters, limit=1)), None)


def _unsettled(instance: DagsterInstance, family: str) -> str | None:
    """Why a release of `family` may come soon, None when none is to be expected."""
    if run := in_flight(instance, family):
        return f"run {run[:8]} is in flight."
    try:
        found = _newest(family)
    except MissingInputError as error:
        return str(error)
    return None if _settled(instance, found) else f"it has still to learn from snapshot {found.snapshot.id}."


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

    It says that it will, and never does where the job lies in another location by now.
    """
    tags = record.dagster_run.tags
    late = time.time() - record.update_timestamp.timestamp() > RETRY_SECONDS
    return tags.get(WILL_RETRY) == "true" and RETRY_RUN not in tags and not late


def daily_schedule(family: str, job: JobDefinition, hour: int = 3) -> ScheduleDefinition:
    """Trains every day, for what is no data: new code, another environment. Unchanged inputs end the run at once."""
    return ScheduleDefinition(
        name=f"{family}_daily",
        job=job,
        cron_schedule=f"0 {hour} * * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Every day, for new code or another environment; where nothing changed nothing is trained.",
    )
