"""What starts the feedback's jobs: enough new clicks, and the time of day. Every tick says why it starts one or not."""

import psycopg2
from dagster import (
    DagsterInstance,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    ScheduleEvaluationContext,
    SensorEvaluationContext,
    SkipReason,
    schedule,
    sensor,
)

from repos.feedback.graph import feedback_prod, forget_prod
from repos.feedback.ops import reading_up_to, store
from shared_ops.data.ubi import Window
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import PROD
from shared_ops.pipeline.triggers import IN_FLIGHT, LATER, every_night, nightly
from shared_ops.settings import current


@sensor(
    job=feedback_prod,
    minimum_interval_seconds=LATER,  # clicks gather in minutes
    default_status=DefaultSensorStatus.RUNNING,
    description="Makes feedback when there are SEARCHLOOP_ENOUGH_CLICKS new clicks.",
)
def enough_clicks(context: SensorEvaluationContext) -> RunRequest | SkipReason:
    """Ask for feedback each time that enough clicks are new."""
    request = due(context, current().enough_clicks)
    if isinstance(request, RunRequest):
        context.log.info(request.tags[BECAUSE])
    return request


@schedule(
    job=feedback_prod,
    cron_schedule=nightly(),
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Makes feedback of what is new, be it little.",
)
def daily_feedback(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
    """Ask for feedback once a day, when any click is new."""
    return due(context, enough=1)


daily_forget = every_night(
    "daily_forget",
    forget_prod,
    nightly(-1, 30),
    because="events that are too old are deleted once a day",
    description="Deletes searches and clicks older than SEARCHLOOP_RETENTION_DAYS.",
)

sensors = [enough_clicks]
schedules = [daily_feedback, daily_forget]


def due(context: SensorEvaluationContext | ScheduleEvaluationContext, enough: int) -> RunRequest | SkipReason:
    """A run of feedback_prod when `enough` clicks are new and none is under way, else why not.

    It reads the events up to those that are counted here, however long it waits for its turn. A run that failed is not
    asked for again until `enough` more clicks came: its key is the same until then.
    """
    if current().postgres_url is None:
        return SkipReason("SEARCHLOOP_POSTGRES_URL is not set: there is no database of searches and clicks.")
    latest, events = PROD.feedback.latest(), store()
    since = f"feedback {latest.id}" if latest else "the start: there is no feedback yet"
    try:
        if not events.prepared():
            return SkipReason("Nobody has searched yet: the database holds no table of searches and clicks.")
        window = events.window(PROD.feedback.watermark())
        replaced = window.after > window.before
        clicks = events.clicks(Window(0, window.before) if replaced else window)
    except psycopg2.Error as error:
        return SkipReason(f"Postgres cannot be asked, the next tick tries again: {str(error).strip()}")
    why = f"{clicks} of {enough} new clicks since {since}"
    if replaced:
        why = f"The database was replaced: it is at transaction {window.before}, {since} read up to {window.after}."
    elif clicks < enough:
        return SkipReason(f"{why}; waiting")
    # The context opens its instance when it is first used: most ticks return before.
    running = context.instance.get_runs(RunsFilter(job_name=feedback_prod.name, statuses=IN_FLIGHT), limit=1)
    if running:
        return SkipReason(f"Run {running[0].run_id[:8]} of {feedback_prod.name} is under way; waiting for its end.")
    if PROD.feedback.latest() != latest:
        return SkipReason("Feedback was made just now; the next tick looks at what is new since.")
    return _once(context.instance, f"feedback-{window.after}-{clicks // enough * enough}", why, window.before)


def _once(instance: DagsterInstance, key: str, why: str, before: int) -> RunRequest | SkipReason:
    """A request for a run with this key that reads up to the transaction `before`, unless there was one already."""
    earlier = instance.get_runs(RunsFilter(tags={"dagster/run_key": key}), limit=1)
    if earlier:
        ended = earlier[0].status.value
        return SkipReason(f"{why}; run {earlier[0].run_id[:8]} for them ended with {ended}, see there")
    return RunRequest(run_key=key, run_config=reading_up_to(before), tags={BECAUSE: why})
