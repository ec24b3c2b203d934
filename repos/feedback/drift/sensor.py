"""The sensor that looks for drift: people search for other things than before, or click less.

Every look is an observation of the feedback in the UI, with its numbers; an alarm starts the making of feedback.
"""

import time
from datetime import timedelta
from typing import Any

import psycopg2
from dagster import (
    AssetObservation,
    DefaultSensorStatus,
    MetadataValue,
    RunRequest,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from repos.feedback.drift.comparison import Look, SearchOutline, compare, to_embed
from repos.feedback.drift.periods import DriftState
from repos.feedback.drift.vectors import VectorsError, embed
from repos.feedback.graph import feedback_prod
from repos.feedback.ops import reading_up_to, store
from shared_ops.data import markdown
from shared_ops.data.ubi import Store, Window
from shared_ops.pipeline.cursors import restored
from shared_ops.pipeline.lineage import feedback_key
from shared_ops.pipeline.references import BECAUSE
from shared_ops.settings import Settings, current

MOST = 5_000
"""How many searches of a period are compared at most, its newest ones: a tick has a minute."""


@sensor(
    job=feedback_prod,
    minimum_interval_seconds=27,
    default_status=DefaultSensorStatus.RUNNING,
    description="Compares each period of searches with the one before: terms, embeddings, click-through by position.",
)
def drift(context: SensorEvaluationContext) -> SensorResult:
    """Look at one application's newest period where it is full, and ask for feedback where it differs."""
    settings, state = current(), restored(DriftState, context.cursor)
    if settings.postgres_url is None:
        return SensorResult(skip_reason="SEARCHLOOP_POSTGRES_URL is not set: there is no database of searches.")
    events = store()
    try:
        if not events.prepared():
            return SensorResult(skip_reason="Nobody has searched yet: the database holds no table of searches.")
        result = _tick(state, events, settings)
    except psycopg2.Error as error:
        return SensorResult(skip_reason=f"Postgres cannot be asked, the next tick tries again: {str(error).strip()}")
    for request in result.run_requests or []:
        context.log.warning(request.tags[BECAUSE])
    return result._replace(cursor=state.model_dump_json())


def _tick(state: DriftState, store: Store, settings: Settings) -> SensorResult:
    now = time.time()
    state.count(store, settings.drift_searches, now)
    application = state.due(settings.drift_settle_seconds, now)
    if application is None:
        return SensorResult(skip_reason=_waiting(state, settings))
    period = state.periods[application]
    if period.before is None:
        state.begin_next(application, store)
        return SensorResult(
            skip_reason=f"{application}: the first {period.searches} searches are what the next will be compared with."
        )
    within = timedelta(seconds=settings.drift_settle_seconds)
    before, new = (
        [SearchOutline(*each) for each in store.outlines(window, application, MOST, within)]
        for window in (Window(period.before, period.begins), period.window)
    )
    state.begin_next(application, store)
    request = RunRequest(run_key=f"drift-{application}-{period.window.before}", run_config=reading_up_to(state.counted))
    return _look(application, before, new, request, settings)


def _waiting(state: DriftState, settings: Settings) -> str:
    if not state.periods:
        return "Nobody has searched yet."
    counts = (
        f"{application}: {period.searches} of {settings.drift_searches} new searches"
        + (f", looked at {settings.drift_settle_seconds:g} s after the last of them" if period.ends else "")
        for application, period in sorted(state.periods.items())
    )
    return f"Waits for a full period. {'; '.join(counts)}."


def _look(
    application: str, before: list[SearchOutline], new: list[SearchOutline], request: RunRequest, settings: Settings
) -> SensorResult:
    """What comparing two periods comes to: an observation, and where they differ `request`, with its reason."""
    try:
        texts = to_embed(before, new)
    except ValueError as error:  # retention has deleted the period before, or one session made all the searches
        return SensorResult(skip_reason=f"{application}: nothing to compare. {error}")
    left_out = ""
    try:
        vectors = embed(texts)
    except VectorsError as error:
        vectors, left_out = None, f" Query embeddings were left out. {error}."
    look = compare(before, new, vectors, alpha=settings.drift_alpha, permutations=settings.drift_permutations)
    sentence = f"{application}: {look.sentence}{left_out}"
    observation = AssetObservation(
        asset_key=feedback_key("prod"),
        description=f"{'Drift' if look.alarms else 'No drift'} of the searches. {sentence}",
        metadata=_metadata(application, look, left_out),
    )
    if not look.alarms:
        return SensorResult(skip_reason=f"No drift. {sentence}", asset_events=[observation])
    reason = f"drift: {', '.join(look.alarms)} of {application}"
    return SensorResult(run_requests=[request.with_replaced_attrs(tags={BECAUSE: reason})], asset_events=[observation])


def _metadata(application: str, look: Look, left_out: str) -> dict[str, Any]:
    """A look as a table to read, and as numbers that Dagit plots over time."""
    rows = [
        (each.name, f"{each.value:.4f}", f"{each.threshold:.4f}", f"{each.p_value:.4f}", "yes" if each.alarm else "no")
        for each in look.measures
    ]
    table = markdown.table(("measure", "value", "by chance up to", "p", "alarm"), rows)
    metadata: dict[str, Any] = {
        "drift": MetadataValue.md(f"{table}\n\n{left_out.strip()}"),
        "application": application,
        "sessions in each period": look.sessions,
        "searches before": look.searches[0],
        "searches now": look.searches[1],
        "alarms": len(look.alarms),
        "look": MetadataValue.json(look.model_dump(mode="json")),
    }
    for each in look.measures:
        metadata |= {f"{each.name}: value": each.value, f"{each.name}: p": each.p_value}
    return metadata
