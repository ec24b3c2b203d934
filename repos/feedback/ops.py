"""The ops that make feedback of searches and clicks, and the op that deletes old searches and clicks.

read_events → learn_clicks → materialize_feedback        (feedback_dev, feedback_prod)
forget_events                                            (forget_prod)
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from dagster import (
    AssetCheckSeverity,
    AssetMaterialization,
    Config,
    In,
    MetadataValue,
    OpExecutionContext,
    Out,
    Output,
    op,
)
from pydantic import BaseModel, ConfigDict, Field

from repos.feedback.learning import LearningParameters, learn
from repos.feedback.parts import Parts, flat
from repos.feedback.sessions import BURST_REASONS
from shared_ops.data import markdown, storage
from shared_ops.data.feedback import Feedback, FeedbackManifest, FeedbackRef, Feedbacks
from shared_ops.data.home_urls import HomeUrl
from shared_ops.data.ubi import SIMULATED, SIMULATION, Store, Window
from shared_ops.pipeline.checks import log_check
from shared_ops.pipeline.lineage import DATA_VERSION, feedback_key
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidFeedback
from shared_ops.release.releases import Staging
from shared_ops.settings import DEPLOYMENTS, current, repository_of

POOL = repository_of(__name__)
"""The pool of the ops that read events or delete them. Of all runs with such an op Dagster lets one go at a time, so no
run deletes a part that another is reading."""
SETTLED = timedelta(days=1)
"""How long after its newest search a run under way may still learn from feedback."""
BURSTS = "bursts"
"""The name of the asset check that reports bursts."""


class EventBatch(BaseModel):
    """What there is to learn from: every event before the transaction `watermark`, in the parts at `url`."""

    model_config = ConfigDict(frozen=True)

    url: HomeUrl
    watermark: int
    searches: int = Field(description="new ones")
    clicks: int = Field(description="new ones")


class ReadEventsConfig(Config):
    """Up to where events are read, and whether to learn even if none is new."""

    before: int | None = Field(
        default=None, description="the transaction before which events are read, as a trigger found it; unset: now"
    )
    again: bool = Field(default=False, description="compute the tables again, as after a change of their parameters")


def store() -> Store:
    """The stack's searches and clicks: one `Store` for the whole process, since it keeps a connection.

    Raises:
        RuntimeError: when no database is set.
    """
    url = current().postgres_url
    if url is None:
        raise RuntimeError(
            "SEARCHLOOP_POSTGRES_URL is not set: the database of searches and clicks. `make up` sets it."
        )
    return _store_at(url)


_store_at = cache(Store)


def parts(feedback_url: str) -> Parts:
    """The parts beside a deployment's feedback."""
    return Parts(storage.join(feedback_url, "parts"))


@op(pool=POOL, out=Out(EventBatch, is_required=False))
def read_events(
    context: OpExecutionContext, config: ReadEventsConfig, deployment: DeploymentResource
) -> Iterator[Output[EventBatch]]:
    """Write the events stored since the last feedback as a new part. Without any, the run ends here."""
    events, feedback = store(), deployment.feedback
    events.prepare()
    latest, watermark = feedback.latest(), feedback.watermark()
    window = _unread(events, watermark, config.before)
    replaced = window.after < watermark
    if replaced:
        context.log.warning(
            f"The database is another one than before: it is at transaction {window.before}, the last feedback read up "
            f"to {watermark}. Reading it from its start; what was read from the other stays until it is too old."
        )
    new = flat(events.each_query(window), events.each_event(window))
    searches, clicks = len(new.searches), len(new.clicks)
    context.log.info(f"{searches} searches and {clicks} clicks in transactions {window.after} to {window.before}")
    all_parts = parts(feedback.url)
    if searches or clicks:
        context.log.info(f"Part {all_parts.add(window, new)}")
    elif not (replaced and latest) and not config.again:
        context.log.info(f"Nothing new since feedback {latest.id if latest else '(none yet)'}; nothing is published.")
        return
    yield Output(EventBatch(url=all_parts.url, watermark=window.before, searches=searches, clicks=clicks))


def _unread(events: Store, watermark: int, before: int | None) -> Window:
    """The events from the transaction `watermark`, where the last feedback ends, up to `before`; None: up to now.

    They begin there whatever a trigger found: another run may have read some of them since. A database that was
    replaced is read from its start, and up to now where `before` is a later transaction, which was of the former one.
    """
    unread = events.window(watermark)
    after = 0 if unread.after > unread.before else unread.after
    return Window(after, max(after, unread.before if before is None else min(before, unread.before)))


def reading_up_to(before: int) -> dict[str, Any]:
    """The configuration of a run that reads the events stored before this transaction, whatever has come since."""
    return {"ops": {read_events.name: {"config": {"before": before}}}}


class LearnConfig(LearningParameters, Config):
    """The parameters of computing feedback from events, as they can be edited in the launchpad."""


@op(out=Out(ValidFeedback))
def learn_clicks(
    context: OpExecutionContext, config: LearnConfig, deployment: DeploymentResource, batch: EventBatch
) -> FeedbackRef:
    """Compute the tables from all events that are not too old, and publish them: equal tables are published once."""
    events = Parts(batch.url).read(since=oldest_kept())
    content = learn(events, batch.watermark, config)
    ref = deployment.feedback.publish(content.tables, content.manifest)
    log_check(
        context,
        feedback_key(deployment.deployment),
        BURSTS,
        severity=AssetCheckSeverity.WARN,
        # By this run's manifest: where all new events were left out, the tables equal the published ones, and that
        # feedback keeps its older manifest.
        **burst_check(content.manifest),
    )
    held_back = content.manifest.held_back_sessions
    context.log.info(
        f"The {held_back} newest sessions are held back to measure by."
        if held_back
        else f"Nothing is held back: there are less than {config.fewest_sessions} sessions."
    )
    context.log.info(f"Feedback {ref.id} at {ref.url}")
    return ref


@op(ins={"feedback": In(ValidFeedback), "batch": In(EventBatch)}, out=Out(ValidFeedback))
def materialize_feedback(
    context: OpExecutionContext, deployment: DeploymentResource, feedback: FeedbackRef, batch: EventBatch
) -> FeedbackRef:
    """Make the feedback the latest one, and record it as materialized in Dagster."""
    before = deployment.feedback.latest()
    deployment.feedback.point_to(feedback, batch.watermark)
    metadata: dict[str, Any] = {
        "path": MetadataValue.path(str(storage.local_path(feedback.url) or feedback.url)),
        "feedback": feedback.id,
        "changed": before is None or before.id != feedback.id,
        "run": MetadataValue.dagster_run(context.run_id),
        "new searches": batch.searches,
        "new clicks": batch.clicks,
        **manifest_metadata(Feedback(feedback).manifest()),
    }
    key = feedback_key(deployment.deployment)
    context.log_event(AssetMaterialization(asset_key=key, metadata=metadata, tags={DATA_VERSION: feedback.id}))
    context.add_output_metadata(metadata)
    return feedback


def burst_check(manifest: FeedbackManifest) -> dict[str, Any]:
    """The result of the check of bursts, as arguments of `log_check` and AssetCheckResult; a burst fails it."""
    if not manifest.bursts:
        return {"passed": True, "description": "No more sessions of one query or one document came than people make."}
    first = manifest.bursts[0]
    return {
        "passed": False,
        "description": (
            f"{_left_out_in_bursts(manifest)} searches and clicks teach nothing: more sessions of one query or one "
            f"document came than people make. The most in an hour: {first.sessions} for {_cell(first.text)} at "
            f"{first.hour:%Y-%m-%d %H:%M}. Somebody may be clicking a document up: docs/feedback.md, Invented clicks."
        ),
        "metadata": {"left out": MetadataValue.md(_bursts(manifest))},
    }


def _left_out_in_bursts(manifest: FeedbackManifest) -> int:
    return sum(manifest.left_out.get(why, 0) for why in BURST_REASONS)


def manifest_metadata(manifest: FeedbackManifest) -> dict[str, Any]:
    """A manifest as metadata: numbers that Dagit plots over time, tables to read, and all of it as JSON."""
    totals = {
        count: sum(getattr(each, count) for each in manifest.applications.values())
        for count in ("sessions", "searches", "clicks")
    }
    by_application = {
        f"{count} of {application}": getattr(counts, count)
        for application, counts in manifest.applications.items()
        for count in totals
    }
    simulated = manifest.applications.get(SIMULATION)
    return {
        **totals,
        **by_application,
        "simulated share": simulated.clicks / max(totals["clicks"], 1) if simulated else 0.0,
        "where it comes from": MetadataValue.md(_applications(manifest)),
        "propensities": MetadataValue.md(_propensities(manifest.propensities)),
        "events left out": sum(manifest.left_out.values()),
        "left out": MetadataValue.md(markdown.table(("why", "events"), manifest.left_out.items())),
        "events left out for their number": _left_out_in_bursts(manifest),
        "left out for their number": MetadataValue.md(_bursts(manifest)),
        "sessions held back": manifest.held_back_sessions,
        **{f"rows of {table}": entry.rows for table, entry in manifest.tables.items()},
        "manifest": MetadataValue.json(manifest.model_dump(mode="json")),
    }


def _applications(manifest: FeedbackManifest) -> str:
    rows = [
        (name, SIMULATED if name == SIMULATION else "people", counts.sessions, counts.searches, counts.clicks)
        for name, counts in manifest.applications.items()
    ]
    return markdown.table(("application", "who", "sessions", "searches", "clicks"), rows)


def _bursts(manifest: FeedbackManifest) -> str:
    rows = [
        (_cell(burst.text), f"{burst.hour:%Y-%m-%d %H:%M}", burst.sessions, burst.clicks) for burst in manifest.bursts
    ]
    return markdown.table(("query", "hour", "sessions left out", "their clicks"), rows)


def _cell(text: str) -> str:
    """What somebody typed, as one cell of a table."""
    return f"`{text[:80].replace('`', ' ').replace('|', ' ')}`"


def _propensities(chances: list[float]) -> str:
    rows = [(position, f"{chance:.3f}") for position, chance in enumerate(chances, start=1)]
    return markdown.table(("position", "the chance that it is looked at"), rows)


def oldest_kept() -> datetime:
    """The moment before which events are deleted and not learned from."""
    return datetime.now(UTC) - timedelta(days=current().retention_days)


@op(pool=POOL)
def forget_events(context: OpExecutionContext) -> None:
    """Delete the searches and clicks that are too old, from the database and from the parts of both deployments.

    Also delete the feedback that no release learned from: it holds what events taught that are now too old.
    """
    before, events = oldest_kept(), store()
    events.prepare()
    searches, clicks = events.forget(before)
    removed = {deployment: parts(current().feedback_url(deployment)).forget(before) for deployment in DEPLOYMENTS}
    counts = ", ".join(f"{len(names)} parts of {deployment}" for deployment, names in removed.items())
    context.log.info(
        f"Deleted what is older than {before:%Y-%m-%d %H:%M}: {searches} searches, {clicks} clicks, {counts}."
    )
    unused = {each: Feedbacks(current().feedback_url(each)).tidy(_learned_from(), _settled()) for each in DEPLOYMENTS}
    for deployment, ids in unused.items():
        context.log.info(f"Removed {len(ids)} feedback of {deployment} that no release learned from.")
    numbers = {f"parts of {deployment}": len(names) for deployment, names in removed.items()}
    numbers |= {f"feedback of {deployment}": len(ids) for deployment, ids in unused.items()}
    context.add_output_metadata({"before": str(before), "searches": searches, "clicks": clicks, **numbers})


def _settled() -> datetime:
    """No run that is still under way learns from feedback whose newest search is older than this."""
    return datetime.now(UTC) - SETTLED


def _learned_from() -> set[str]:
    """The ids of the feedback that releases in staging learned from: they can be trained again with it."""
    manifests = (
        staging.manifest(family, version)
        for staging in (Staging(current().staging_url(deployment)) for deployment in DEPLOYMENTS)
        for family in staging.families()
        for version in staging.versions(family)
    )
    return {manifest.feedback.id for manifest in manifests if manifest.feedback}
