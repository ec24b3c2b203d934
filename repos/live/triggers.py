"""What moves the live set by itself: sensors that compare what is live with what it should be.

Like the trainings' sensors, they look at the state, not at events; every tick says in words why it acted or did not.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from repos.live.graph import promotion_prod, rollback_prod, show_snapshot_prod
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import PROD
from shared_ops.pipeline.triggers import ENDED, IDLE, LATER, SOON, in_flight
from shared_ops.release import promotion
from shared_ops.release.livesets import NOTHING_LIVE
from shared_ops.settings import ranking_family

MOVES = "searchloop/moves"
"""The tag of a run that is to move the live set; its value says to what, and over which set."""
FIRST_RETRY, LAST_RETRY = 60.0, 3600.0
"""Seconds until a move that came to nothing is tried again: at first, and at most; the wait doubles each time."""
TRIES = 100
JOBS = (promotion_prod.name, show_snapshot_prod.name, rollback_prod.name)
"""One of them at a time moves the live set."""


@sensor(
    job=promotion_prod,
    minimum_interval_seconds=SOON,
    tags=IDLE,
    default_status=DefaultSensorStatus.RUNNING,
    description="Judges and promotes the set of the accepted ranker where nothing has decided upon it.",
)
def new_accepted_ranker(context: SensorEvaluationContext) -> RunRequest | SkipReason:
    """Propose the set of the accepted ranker, whatever made it: the one way of promotion there is."""
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
    ranker = ranking_family()
    what = f"{ranker}/{PROD.staging.accepted(ranker)}"
    return _decided() or _move(instance, promotion_prod.name, what, "its gate accepted it")


def to_show(instance: DagsterInstance) -> RunRequest | SkipReason:
    """The run that shows the newest snapshot in prod, or why there is none."""
    newest = PROD.input_snapshots.latest()
    what = f"snapshot {newest.id if newest else '(none)'}"
    return _shown() or _move(instance, show_snapshot_prod.name, what, "it is the newest")


def _decided() -> SkipReason | None:
    """Why there is no set to promote, where files alone tell it: most ticks end here, and ask no database."""
    reason = promotion.decided(PROD.staging, PROD.live_sets, ranking_family())
    return SkipReason(reason) if reason else None


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
    return None


def _move(instance: DagsterInstance, job: str, what: str, because: str) -> RunRequest | SkipReason:
    """A run that moves the live set to `what`; or why not: one is in flight, just failed, or settled the matter."""
    for other in JOBS:
        if run := in_flight(instance, other.removesuffix("_prod")):
            return SkipReason(f"Run {run[:8]} of {other} is in flight.")
    live = PROD.live_sets.live()
    # With the set's time: a new home numbers its sets from 1 again, and Dagster's database may outlive the home.
    over = f"{what} over set {f'{live.number} of {live.created_at:%Y-%m-%d %H:%M:%S}' if live else 0}"
    tried = instance.get_run_records(RunsFilter(job_name=job, tags={MOVES: over}, statuses=ENDED), limit=TRIES)
    if tried:
        last, again = tried[0].dagster_run, _again_at(tried)
        if job == show_snapshot_prod.name and last.status == DagsterRunStatus.SUCCESS:
            return SkipReason(f"Run {last.run_id[:8]} has left {what} to a ranker of it: see there.")
        if again > time.time():
            return SkipReason(
                f"The live set was not moved to {what} by run {last.run_id[:8]}, which ended {last.status.value}: "
                f"tried again at {datetime.fromtimestamp(again, UTC):%H:%M:%S} UTC."
            )
    after = tried[0].dagster_run.run_id if tried else "nothing"
    return RunRequest(run_key=f"{over} after {after}", tags={MOVES: over, BECAUSE: because})


def _again_at(tried: Sequence[RunRecord]) -> float:
    """When a move that these runs (newest first) did not bring about is tried again, in seconds since 1970."""
    return tried[0].update_timestamp.timestamp() + min(FIRST_RETRY * 2.0 ** (len(tried) - 1), LAST_RETRY)
