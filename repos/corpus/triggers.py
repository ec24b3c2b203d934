"""What starts builds of the corpus: a sensor when a source's content has changed, and a schedule once a day.

The sensor compares the sources with what was read for the latest snapshot, not with its own last tick: so it notices
what changed while nothing ran, and does not build again what was already built by hand.
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

from repos.corpus.fingerprints import Fingerprints, differences, recall, take
from repos.corpus.graph import jobs
from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.files import FileState
from shared_ops.pipeline.cursors import restored
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import PROD
from shared_ops.pipeline.triggers import IN_FLIGHT, nightly
from shared_ops.settings import current

QUIET_SECONDS = 2.0
"""How long no local file may have been written: files that belong together are written one after another."""

_, corpus_prod = jobs


class SensorState(BaseModel):
    """What the sensor remembers. People see it as its cursor, so it holds no URL; older cursors did, in `files`."""

    known: dict[str, FileState] = {}
    """The states of the files at the last tick, by the hashes of their URLs."""
    decided: dict[str, str] | None = None
    """The sources' fingerprints at the last decision: to request a build, or that none is needed for them."""
    asked: str | None = None
    """The key of the last run requested."""
    requests: int = 0


@sensor(
    job=corpus_prod,
    minimum_interval_seconds=17,  # sources change by hand, or by the day
    default_status=DefaultSensorStatus.RUNNING,
    description="Builds the corpus when a source, or what the sources file says of it, has changed.",
)
def sources_changed(context: SensorEvaluationContext) -> SensorResult:
    """Compare every source's fingerprint with what was read for the latest snapshot."""
    state = restored(SensorState, context.cursor)
    try:
        fingerprints = take(current().sources, state.known)
    except SourceError as error:
        return _unreadable(str(error), state)
    if fingerprints.missing:
        return _unreadable(" ".join(fingerprints.missing), state)
    state.known = fingerprints.states_by_hash()
    decision = _decide(context, state, fingerprints)
    cursor = state.model_dump_json()
    if isinstance(decision, SkipReason):
        return SensorResult(skip_reason=decision, cursor=cursor)
    context.log.info(decision.tags[BECAUSE])
    return SensorResult(run_requests=[decision], cursor=cursor)


@schedule(
    name="corpus_daily",
    job=corpus_prod,
    cron_schedule=nightly(),
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Reads every source once a day, those too whose change nothing else tells.",
)
def daily(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
    """Ask for a build, unless one is under way."""
    return daily_build(context.instance)


def daily_build(instance: DagsterInstance) -> RunRequest | SkipReason:
    """A request for the daily build, or why there is none."""
    if run := _in_flight(instance):
        return SkipReason(f"Run {run[:8]} reads the sources already.")
    return RunRequest(tags={BECAUSE: "every source is read once a day"})


def _unreadable(what: str, state: SensorState) -> SensorResult:
    reason = f"Nothing is built while a source cannot be read: {what}"
    return SensorResult(skip_reason=reason, cursor=state.model_dump_json())


def _decide(
    context: SensorEvaluationContext, state: SensorState, fingerprints: Fingerprints
) -> RunRequest | SkipReason:
    """Decide whether the sources as they are now need a build; updates `state`."""
    # The context opens its instance when it is first used: most ticks return before, and ask no database.
    latest = PROD.snapshots.latest()
    if latest is None:
        return SkipReason("There is no snapshot yet; `make up` or `make train REPO=corpus` builds the first.")
    built = recall(PROD.snapshots.url, latest.id)
    if fingerprints.sources == built:
        state.decided = fingerprints.sources
        return SkipReason(f"Nothing changed since snapshot {latest.id} was built: {_compared_sources(fingerprints)}.")
    if state.decided is None and built is None:
        state.decided = fingerprints.sources
        return SkipReason(f"Nobody wrote down what snapshot {latest.id} was read from; changes from now on count.")
    if fingerprints.sources == state.decided:
        result = _result(context.instance, state)
        return SkipReason(f"Nothing changed since the last decision: {_compared_sources(fingerprints)}. {result}")
    changed = "; ".join(differences(state.decided or built or {}, fingerprints.sources))
    if run := _in_flight(context.instance):
        return SkipReason(f"{changed}. Waits for the end of run {run[:8]}.")
    if url := _still_written(fingerprints):
        return SkipReason(f"{changed}. Waits until {url} has not been written for {QUIET_SECONDS:g} s.")
    state.requests += 1
    # Numbered, because sources that change and change back have to be built each time.
    state.asked = f"sources-{state.requests}-{'-'.join(fingerprints.sources.values())}"
    state.decided = fingerprints.sources
    return RunRequest(run_key=state.asked, tags={BECAUSE: changed})


def _compared_sources(fingerprints: Fingerprints) -> str:
    compared = ", ".join(name for name in fingerprints.sources if name not in fingerprints.unobserved)
    unobserved = ", ".join(fingerprints.unobserved)
    note = unobserved and f"{unobserved} (no changed_query: read by the daily schedule only)"
    return "; ".join(part for part in (compared, note) if part)


def _result(instance: DagsterInstance, state: SensorState) -> str:
    """What became of the last run requested."""
    runs = instance.get_runs(RunsFilter(tags={"dagster/run_key": state.asked}), limit=1) if state.asked else []
    if not runs:
        return "The latest snapshot was built from other sources by hand."
    return f"Run {runs[0].run_id[:8]} was asked for then: {runs[0].status.value}."


def _in_flight(instance: DagsterInstance) -> str | None:
    runs = instance.get_runs(RunsFilter(job_name=corpus_prod.name, statuses=IN_FLIGHT), limit=1)
    return runs[0].run_id if runs else None


def _still_written(fingerprints: Fingerprints) -> str | None:
    now = time.time()
    for url, file in fingerprints.files.items():
        if file.modified is not None and 0 <= now - file.modified < QUIET_SECONDS:
            return url
    return None
