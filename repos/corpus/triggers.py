"""What starts a build of the corpus by itself: a source's content changed, or the day began.

The sensor compares the sources with what was read for the latest snapshot, not with its own last tick: what changes
while nothing runs is noticed, and what somebody else built is not built again.
"""

import time

from dagster import (
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    ScheduleEvaluationContext,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    schedule,
    sensor,
)
from pydantic import BaseModel

from repos.corpus.graph import jobs
from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.files import FileState
from repos.corpus.sources.fingerprints import Fingerprints, differences, recall, take
from shared_ops.pipeline.cursors import restored
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import PROD
from shared_ops.pipeline.triggers import IN_FLIGHT
from shared_ops.settings import current

QUIET_SECONDS = 2.0
"""How long a local file must have stayed as it is: files that belong together are written one after another."""

_, corpus_prod = jobs


class Seen(BaseModel):
    """What the sensor remembers. It is shown to people, and so names no URL; cursors of before did, under `files`."""

    known: dict[str, FileState] = {}
    """The files as last seen, by the marks of their URLs."""
    decided: dict[str, str] | None = None
    """The fingerprints that a build was asked for last, or was found to be there for."""
    asked: str | None = None
    """The key of the last run asked for."""
    requests: int = 0


@sensor(
    job=corpus_prod,
    minimum_interval_seconds=17,  # sources change by hand, or by the day
    default_status=DefaultSensorStatus.RUNNING,
    description="Builds the corpus when a source, or what the sources file says of it, has changed.",
)
def sources_changed(context: SensorEvaluationContext) -> SensorResult:
    """Compare every source's fingerprint with what was read for the latest snapshot."""
    seen = restored(Seen, context.cursor)
    try:
        found = take(current().sources, seen.known)
    except SourceError as error:
        return _unreadable(str(error), seen)
    if found.missing:
        return _unreadable(" ".join(found.missing), seen)
    seen.known = found.known()
    decision = _decide(context, seen, found)
    cursor = seen.model_dump_json()
    if isinstance(decision, SkipReason):
        return SensorResult(skip_reason=decision, cursor=cursor)
    context.log.info(decision.tags[BECAUSE])
    return SensorResult(run_requests=[decision], cursor=cursor)


@schedule(
    name="corpus_daily",
    job=corpus_prod,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Reads every source once a day, those too whose change nothing else tells.",
)
def daily(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
    """Ask for a build, unless one is under way."""
    return daily_build(context.instance)


def daily_build(instance: DagsterInstance) -> RunRequest | SkipReason:
    """The day's build, or why there is none."""
    if run := _in_flight(instance):
        return SkipReason(f"Run {run[:8]} reads the sources already.")
    return RunRequest(tags={BECAUSE: "every source is read once a day"})


def _unreadable(what: str, seen: Seen) -> SensorResult:
    told = f"Nothing is built while a source cannot be read: {what}"
    return SensorResult(skip_reason=told, cursor=seen.model_dump_json())


def _decide(context: SensorEvaluationContext, seen: Seen, found: Fingerprints) -> RunRequest | SkipReason:
    """What to do about the sources as they are now; `seen` is brought up to date."""
    # Where nothing changed the context's instance is not made: most ticks ask no database.
    latest = PROD.snapshots.latest()
    if latest is None:
        return SkipReason("There is no snapshot yet; `make up` or `make train REPO=corpus` builds the first.")
    built = recall(PROD.snapshots.url, latest.id)
    if found.sources == built:
        seen.decided = found.sources
        return SkipReason(f"Nothing changed since snapshot {latest.id} was built: {_described(found)}.")
    if seen.decided is None and built is None:
        seen.decided = found.sources
        return SkipReason(f"Nobody wrote down what snapshot {latest.id} was read from; changes from now on count.")
    if found.sources == seen.decided:
        result = _result(context.instance, seen)
        return SkipReason(f"Nothing changed since the last decision: {_described(found)}. {result}")
    changed = "; ".join(differences(seen.decided or built or {}, found.sources))
    if run := _in_flight(context.instance):
        return SkipReason(f"{changed}. Waits for the end of run {run[:8]}.")
    if url := _still_written(found):
        return SkipReason(f"{changed}. Waits until {url} has not been written for {QUIET_SECONDS:g} s.")
    seen.requests += 1
    # A number, because sources that change there and back have to be built each time.
    seen.asked = f"sources-{seen.requests}-{'-'.join(found.sources.values())}"
    seen.decided = found.sources
    return RunRequest(run_key=seen.asked, tags={BECAUSE: changed})


def _described(found: Fingerprints) -> str:
    told = ", ".join(name for name in found.sources if name not in found.untold)
    untold = f"{', '.join(found.untold)} (no changed_query: read by the daily schedule only)" if found.untold else ""
    return "; ".join(part for part in (told, untold) if part)


def _result(instance: DagsterInstance, seen: Seen) -> str:
    """What became of the last run that was asked for."""
    runs = instance.get_runs(RunsFilter(tags={"dagster/run_key": seen.asked}), limit=1) if seen.asked else []
    if not runs:
        return "The latest snapshot was built from other sources by hand."
    return f"Run {runs[0].run_id[:8]} was asked for then: {runs[0].status.value}."


def _in_flight(instance: DagsterInstance) -> str | None:
    runs = instance.get_runs(RunsFilter(job_name=corpus_prod.name, statuses=IN_FLIGHT), limit=1)
    return runs[0].run_id if runs else None


def _still_written(found: Fingerprints) -> str | None:
    now = time.time()
    for url, file in found.files.items():
        if file.modified is not None and 0 <= now - file.modified < QUIET_SECONDS:
            return url
    return None
