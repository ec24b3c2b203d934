"""What moves the live set by itself: sensors that compare what is live with what it should be.

Like the trainings' sensors, they look at the state, not at events; every tick says in words why it acted or did not.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    OpDefinition,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from repos.live.graph import moving, promotion_prod, show_snapshot_prod
from repos.live.ops import accepted_ranker, newest_snapshot
from shared_ops.pipeline.references import BECAUSE, BY_HAND, HELD, OVERTAKEN
from shared_ops.pipeline.resources import PROD
from shared_ops.pipeline.triggers import ENDED, IDLE, LATER, SOON, in_flight
from shared_ops.release import inputs, promotion
from shared_ops.release.livesets import NOTHING_LIVE

MOVES = "searchloop/moves"
"""The tag of a run that is to move the live set; its value says to what, and over which set."""
FIRST_RETRY, LAST_RETRY = 60.0, 3600.0
"""Seconds until a move that came to nothing is tried again: at first, and at most; the wait doubles each time."""
TRIES = 100
JOBS = tuple(job.name for job in moving)
"""One of them at a time moves the live set."""


@sensor(
    job=promotion_prod,
    minimum_interval_seconds=SOON,
    tags=IDLE,
    default_status=DefaultSensorStatus.RUNNING,
    description="Judges and promotes the set of an accepted ranker where nothing has decided upon it.",
)
def new_accepted_ranker(context: SensorEvaluationContext) -> RunRequest | SkipReason:
    """Propose the set of an accepted ranker, whatever made it: the one way of promotion there is."""
    return _decided() or to_promote(context.instance)


@sensor(
    job=show_snapshot_prod,
    minimum_interval_seconds=LATER,  # a snapshot takes its time anyway
    tags=IDLE,
    default_status=DefaultSensorStatus.RUNNING,
    description="Lets the live set show the newest snapshot, so that what left the corpus leaves the results.",
)
def new_snapshot(context: SensorEvaluationContext) -> RunRequest | SkipReason:
    """Have the newest snapshot shown by the releases that are live, before any of them has learned it."""
    return _shown() or to_show(context.instance)


sensors = [new_accepted_ranker, new_snapshot]


def to_promote(instance: DagsterInstance) -> RunRequest | SkipReason:
    """The promotion that is due in prod, or why there is none."""
    if settled := _decided():
        return settled
    obstacles = promotion.promotion_obstacles(PROD.staging, PROD.live_sets)
    asked = [_promotion(instance, ranker) for ranker, obstacle in obstacles.items() if obstacle is None]
    due = [each for each in asked if isinstance(each, RunRequest)]
    # One that waits for its next try holds up no other.
    return (due or asked or [SkipReason("No ranker is accepted any more.")])[0]


def _promotion(instance: DagsterInstance, ranker: str) -> RunRequest | SkipReason:
    """The run that promotes the set of this ranker's accepted release, or why there is none."""
    version = PROD.staging.accepted(ranker)
    if version is None:
        return SkipReason(f"No release of {ranker} is accepted any more.")
    found = _found(accepted_ranker, family=ranker, version=version)
    because = f"its gate accepted it{_trained_because(instance, ranker, version)}"
    return _move(instance, promotion_prod.name, f"{ranker}/{version}", because, found)


def _trained_because(instance: DagsterInstance, ranker: str, version: str) -> str:
    """Why a release was trained, for the history of the sets; empty where Dagster knows its run no more."""
    run = instance.get_run_by_id(PROD.staging.manifest(ranker, version).run_id)
    return f" (trained because: {run.tags.get(BECAUSE, BY_HAND)})" if run else ""


def to_show(instance: DagsterInstance) -> RunRequest | SkipReason:
    """The run that shows the newest snapshot in prod, or why there is none."""
    if settled := _shown():
        return settled
    newest = inputs.newest_snapshot(PROD.input_snapshots)
    found = _found(newest_snapshot, snapshot_id=newest.id)
    return _move(instance, show_snapshot_prod.name, f"snapshot {newest.id}", "it is the newest", found)


def _found(first: OpDefinition, **config: str | None) -> dict[str, Any]:
    """The configuration of a run whose first op takes what a trigger found, whatever has come since."""
    return {"ops": {first.name: {"config": config}}}


def _decided() -> SkipReason | None:
    """Why there is no set to promote, where files alone tell it: most ticks end here, and ask no database."""
    reasons = promotion.promotion_obstacles(PROD.staging, PROD.live_sets).values()
    return None if None in reasons else SkipReason(" ".join(filter(None, reasons)))


def _shown() -> SkipReason | None:
    """Why there is no snapshot to show, where files alone tell it."""
    live, newest = PROD.live_sets.live(), PROD.input_snapshots.latest()
    if live is None or newest is None:
        return SkipReason(f"{NOTHING_LIVE}." if live is None else "There is no snapshot yet.")
    if live.snapshot == newest:
        return SkipReason(f"Set {live.number} shows the newest snapshot, {newest.id}.")
    if taken_back := PROD.live_sets.taken_back_snapshot(newest):
        return SkipReason(
            f"Snapshot {newest.id} was shown by set {taken_back.number}, which was rolled back: it waits for a ranker "
            "of it, or for a newer one."
        )
    held = PROD.live_sets.hold().refusal(live.releases, live.releases)
    return SkipReason(held) if held else None


def _move(
    instance: DagsterInstance, job: str, what: str, because: str, run_config: dict[str, Any]
) -> RunRequest | SkipReason:
    """A run that moves the live set to `what`; or why not: one is in flight, just failed, or settled the matter."""
    for other in JOBS:
        if run := in_flight(instance, other.removesuffix("_prod")):
            return SkipReason(f"Run {run[:8]} of {other} is in flight.")
    live = PROD.live_sets.live()
    # With the set's time: a new home numbers its sets from 1 again, and Dagster's database may outlive the home.
    over = f"{what} over set {f'{live.number} of {live.created_at:%Y-%m-%d %H:%M:%S}' if live else 0}"
    ended = instance.get_run_records(RunsFilter(job_name=job, tags={MOVES: over}, statuses=ENDED))
    tried = [record for record in ended if not {OVERTAKEN, HELD} & record.dagster_run.tags.keys()][:TRIES]
    if tried:
        last, again = tried[0].dagster_run, _again_at(tried)
        if job == show_snapshot_prod.name and last.status == DagsterRunStatus.SUCCESS:
            return SkipReason(f"Run {last.run_id[:8]} has left {what} to a ranker of it: see there.")
        if again > time.time():
            return SkipReason(
                f"The live set was not moved to {what} by run {last.run_id[:8]}, which ended {last.status.value}: "
                f"tried again at {datetime.fromtimestamp(again, UTC):%H:%M:%S} UTC."
            )
    after = ended[0].dagster_run.run_id if ended else "nothing"
    return RunRequest(run_key=f"{over} after {after}", run_config=run_config, tags={MOVES: over, BECAUSE: because})


def _again_at(tried: Sequence[RunRecord]) -> float:
    """When a move that these runs (newest first) did not bring about is tried again, in seconds since 1970.

    No library's back-off: those wait within one process. This wait lies between runs, and is told by what Dagster has
    recorded of them, whichever process asks.
    """
    return tried[0].update_timestamp.timestamp() + min(FIRST_RETRY * 2.0 ** (len(tried) - 1), LAST_RETRY)
