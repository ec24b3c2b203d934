"""The ops of the corpus, around `build`. They pass references; the tables lie in a draft folder until published.

read_sources → validate → publish → materialize
"""

from pathlib import Path
from typing import Any

import polars as pl
from dagster import (
    AssetMaterialization,
    Config,
    DagsterType,
    In,
    MetadataValue,
    OpExecutionContext,
    Out,
    TypeCheck,
    TypeCheckContext,
    op,
)
from pydantic import BaseModel, ConfigDict, Field

from repos.corpus import fingerprints
from repos.corpus.build import build, check, summary
from repos.corpus.sources import config as sources_file
from repos.corpus.sources.collected import SourceError, SourceReport
from shared_ops.data import snapshots, storage, tables
from shared_ops.data.home_urls import HomeUrl
from shared_ops.data.snapshots import Snapshot, SnapshotRef
from shared_ops.pipeline.checks import log_check
from shared_ops.pipeline.lineage import DATA_VERSION, snapshot_key, source_key
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidSnapshot, check_snapshot
from shared_ops.settings import current, repository_of


class Draft(BaseModel):
    """Tables that are not yet a snapshot, in the folder at `url`, and the reports on the sources they come from."""

    model_config = ConfigDict(frozen=True)

    url: HomeUrl
    reports: list[SourceReport]
    rows: dict[str, int] = {}
    """By a table's name, how many rows it has."""
    fingerprints: dict[str, str] = {}
    """By a source's name, its fingerprint from before it was read."""


def check_draft(_: TypeCheckContext, draft: object) -> TypeCheck:
    """The type check of a draft: no source has more bad rows than it may, and the tables are there.

    That they hold to their schemas was checked when they were made, and is again when they are published.
    """
    if not isinstance(draft, Draft):
        return TypeCheck(False, f"Expected a Draft, got {type(draft).__name__}.")
    metadata = report_metadata(draft.reports) | draft.rows
    try:
        check(draft.reports)
    except SourceError as error:
        return TypeCheck(False, str(error), metadata=metadata)
    if not storage.exists(draft.url):
        return TypeCheck(False, "The draft was published or given up before. Run read_sources again.")
    return TypeCheck(True, "Every source was read.", metadata=metadata)


ValidDraft = DagsterType(
    type_check_fn=check_draft,
    name="ValidDraft",
    description="Tables read from the sources, of which no more was bad than may be.",
    typing_type=Draft,
)


class ReadSourcesConfig(Config):
    """Which sources to read."""

    sources: str = Field(default="", description="a sources file; empty takes the stack's (SEARCHLOOP_SOURCES)")


@op(pool=repository_of(__name__))
def read_sources(context: OpExecutionContext, config: ReadSourcesConfig, deployment: DeploymentResource) -> Draft:
    """Read every source of the sources file, and what repositories have published, into this run's draft folder."""
    path = Path(config.sources) if config.sources else current().sources
    context.log.info(f"Sources: {path}")
    # Taken before reading, so that a source that changes meanwhile differs from its fingerprint afterwards.
    before = fingerprints.take(path, {})
    built = build(sources_file.load(path), log=context.log.info)
    url = storage.join(deployment.snapshots.url, ".drafts", context.run_id)
    with storage.written_folder(url) as folder:
        for name, frame in built.tables.items():
            frame.write_parquet(folder / f"{name}.parquet")
    rows = {name: len(frame) for name, frame in built.tables.items()}
    return Draft(url=url, reports=built.reports, rows=rows, fingerprints=before.sources)


@op(out=Out(ValidDraft))
def validate(context: OpExecutionContext, deployment: DeploymentResource, draft: Draft) -> Draft:
    """Report the bad rows of the sources; the output's type stops the run where there are too many."""
    try:
        check(draft.reports)
        problem = None
    except SourceError as error:
        problem = str(error)
        storage.remove(draft.url)
    description = problem or "No more of any source is bad than may be."
    result = TypeCheck(problem is None, description, metadata=report_metadata(draft.reports))
    _log_check(context, deployment, "sources", result)
    return draft


class PublishConfig(Config):
    """How much of the corpus becomes the snapshot."""

    sample_documents: int | None = Field(default=None, description="0 takes all; unset takes the deployment's sample")
    sample_seed: int = Field(default=0, description="which sample: the same seed draws the same documents")


@op(ins={"draft": In(ValidDraft)}, out=Out(ValidSnapshot))
def publish(
    context: OpExecutionContext, config: PublishConfig, deployment: DeploymentResource, draft: Draft
) -> SnapshotRef:
    """Publish the tables as a snapshot, named by their content: equal tables give the snapshot that exists already."""
    sources = [report.model_dump(mode="json") for report in draft.reports]
    size = deployment.sample_documents if config.sample_documents is None else config.sample_documents
    if size:
        content = snapshots.sample(Snapshot(SnapshotRef(id="draft", url=draft.url)), size, config.sample_seed)
        sources.append({"sample_of": "all sources", "documents": size, "seed": config.sample_seed})
    else:
        content = _tables(draft)
    ref = deployment.snapshots.publish(content, sources)
    fingerprints.remember(deployment.snapshots.url, ref.id, draft.fingerprints)
    storage.remove(draft.url)
    context.log.info(f"Snapshot {ref.id} at {ref.url}")
    return ref


@op(ins={"snapshot": In(ValidSnapshot)})
def materialize(context: OpExecutionContext, deployment: DeploymentResource, snapshot: SnapshotRef) -> SnapshotRef:
    """Make the snapshot the latest one, and record it and the sources file's sources as materialized in Dagster."""
    before = deployment.snapshots.latest()
    manifest, checked = Snapshot(snapshot).manifest(), check_snapshot(snapshot)
    reports = [SourceReport.model_validate(source) for source in manifest.sources if "sample_of" not in source]
    deployment.snapshots.point_to(snapshot)
    for report in (each for each in reports if each.kind != "repository"):  # such a one tells of itself
        key = source_key(deployment.deployment, report.name)
        context.log_event(AssetMaterialization(asset_key=key, metadata=report_metadata([report])))
    metadata: dict[str, Any] = {
        "path": MetadataValue.path(str(storage.local_path(snapshot.url) or snapshot.url)),
        "changed": before is None or before.id != snapshot.id,
        "run": MetadataValue.dagster_run(context.run_id),
        **checked.metadata,  # its id, and how many rows its tables have
        **report_metadata(reports),
        "manifest": MetadataValue.json(manifest.model_dump(mode="json")),
    }
    context.log_event(
        AssetMaterialization(
            asset_key=snapshot_key(deployment.deployment), metadata=metadata, tags={DATA_VERSION: snapshot.id}
        )
    )
    _log_check(context, deployment, "tables", checked)
    context.add_output_metadata(metadata)
    return snapshot


def _log_check(context: OpExecutionContext, deployment: DeploymentResource, name: str, result: TypeCheck) -> None:
    """Record a result of the snapshot's asset check of this name in Dagster."""
    log_check(
        context,
        snapshot_key(deployment.deployment),
        name,
        passed=bool(result.success),
        description=result.description,
        metadata=result.metadata,
    )


def report_metadata(reports: list[SourceReport]) -> dict[str, Any]:
    """Reports as metadata: a table to read, numbers that Dagit plots over time, and all of it as JSON."""
    return {
        "sources": MetadataValue.md(summary(reports)),
        "documents read": sum(report.documents for report in reports),
        "bad rows": sum(bad.count for report in reports for bad in report.bad.values()),
        "reports": MetadataValue.json([report.model_dump(mode="json") for report in reports]),
    }


def _tables(draft: Draft) -> dict[str, pl.DataFrame]:
    return {name: tables.read(storage.join(draft.url, f"{name}.parquet")) for name in snapshots.TABLES}
