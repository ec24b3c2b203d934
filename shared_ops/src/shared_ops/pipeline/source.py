"""A source's part of Dagster: its graph, its jobs and what its code server loads.

    read → validate → publish → materialize

All are made from a function that reads the source, and its parameters. What it gives is published as a snapshot of the
source's own, which the corpus merges with its other sources.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetMaterialization,
    Config,
    Definitions,
    Failure,
    GraphDefinition,
    In,
    MetadataValue,
    OpDefinition,
    OpExecutionContext,
    Out,
    Output,
    asset_check,
    graph,
    op,
)
from pydantic import BaseModel

from shared_ops.data import storage
from shared_ops.data.snapshots import TABLES, Snapshot, SnapshotRef, Snapshots
from shared_ops.data.source_tables import SourceRows, typed_tables
from shared_ops.pipeline.checks import code_check
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.lineage import DATA_VERSION, source_key, source_specs
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.triggers import every_night, nightly
from shared_ops.pipeline.types import ValidSnapshot, check_content, check_snapshot
from shared_ops.settings import DEPLOYMENTS, Deployment, current, repository_of

Read = Callable[[Any, Callable[[str], None]], SourceRows]
"""Reads a source by its parameters, and tells its progress line by line."""
TABLES_HOLD = "tables"
"""The name of the check of what a source gives. Dagit keeps its results under this name."""
HOURS = -1
"""When in the night a source is read, from the beginning of it on: before the corpus is built."""


def source_definitions(module: str, parameters: type[BaseModel], read: Read) -> Definitions:
    """What the code server of a source loads.

    Args:
        module: the calling module's name, `repos.<source>.definitions`.
        parameters: of the reading, which can be edited in the launchpad.
        read: reads the source; Dagit shows its docstring.
    """
    source = repository_of(module)
    dev, prod = family_jobs(source_graph(source, parameters, read))
    return Definitions(
        jobs=[dev, prod],
        assets=source_specs(source),
        asset_checks=[
            *(_tables_check(source, deployment) for deployment in DEPLOYMENTS),
            code_check(source, source_key("prod", source)),
        ],
        schedules=[
            every_night(
                f"{source}_daily",
                prod,
                nightly(HOURS),
                because="the source is read once a day",
                description="Reads the source once a day; where it says something new, the corpus follows.",
            )
        ],
    )


def source_graph(source: str, parameters: type[BaseModel], read: Read) -> GraphDefinition:
    """The graph of a source: from what it says now to the newest published tables."""
    read_op, validate, publish, materialize = _read_op(source, parameters, read), *_ops_of(source)

    @graph(name=source, description="From the source as it is now to the newest tables that the corpus reads.")
    def reading() -> None:
        materialize(publish(validate(read_op())))

    return reading


def _read_op(source: str, parameters: type[BaseModel], read: Read) -> OpDefinition:
    class ReadConfig(parameters, Config):  # type: ignore[valid-type, misc] # it is a class, known when this is called
        """The parameters of the reading, as they can be edited in the launchpad."""

    @op(name="read", description=inspect.getdoc(read), pool=source)
    def read_op(context: OpExecutionContext, config: ReadConfig, deployment: DeploymentResource) -> SnapshotRef:
        rows = read(config, context.log.info)
        url = storage.join(deployment.source(source).url, ".drafts", context.run_id)
        with storage.written_folder(url) as folder:
            for name, frame in typed_tables(rows, source).items():
                frame.write_parquet(folder / f"{name}.parquet")
        counts = f"{len(rows.documents)} documents, {len(rows.queries)} queries, {len(rows.qrels)} judgements"
        context.log.info(f"{source}: {counts}")
        return SnapshotRef(id="draft", url=url)

    return read_op


def _ops_of(source: str) -> tuple[OpDefinition, OpDefinition, OpDefinition]:
    """What comes after the reading: validate, publish, materialize."""

    @op(out=Out(SnapshotRef))
    def validate(
        deployment: DeploymentResource, draft: SnapshotRef
    ) -> Iterator[AssetCheckEvaluation | Output[SnapshotRef]]:
        """Check the tables that were read; where they do not hold, the run stops and what was published stays."""
        result = check_content(Snapshot(draft))
        yield AssetCheckEvaluation(  # yielded, as what a step has logged is lost where it fails
            asset_key=source_key(deployment.deployment, source),
            check_name=TABLES_HOLD,
            passed=bool(result.success),
            description=result.description,
            metadata=result.metadata,
        )
        if not result.success:
            storage.remove(draft.url)
            raise Failure(f"Nothing was published: {result.description}", result.metadata, allow_retries=False)
        yield Output(draft)

    @op(out=Out(ValidSnapshot))
    def publish(context: OpExecutionContext, deployment: DeploymentResource, draft: SnapshotRef) -> SnapshotRef:
        """Publish the tables, named by their content: equal tables give what exists already."""
        content = {name: getattr(Snapshot(draft), name)() for name in TABLES}
        published = deployment.source(source).publish(content)
        storage.remove(draft.url)
        context.log.info(f"{source}: {published.id} at {published.url}")
        return published

    @op(ins={"published": In(ValidSnapshot)})
    def materialize(context: OpExecutionContext, deployment: DeploymentResource, published: SnapshotRef) -> SnapshotRef:
        """Make these the newest tables, which the corpus reads, and record them as materialized in Dagster."""
        area = deployment.source(source)
        before = area.latest()
        area.point_to(published)
        metadata: dict[str, Any] = {
            "path": MetadataValue.path(str(storage.local_path(published.url) or published.url)),
            "changed": before is None or before.id != published.id,
            "run": MetadataValue.dagster_run(context.run_id),
            **check_snapshot(published).metadata,
        }
        key, version = source_key(deployment.deployment, source), {DATA_VERSION: published.id}
        context.log_event(AssetMaterialization(asset_key=key, metadata=metadata, tags=version))
        context.add_output_metadata(metadata)
        return published

    return validate, publish, materialize


def _tables_check(source: str, deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=source_key(deployment, source),
        name=TABLES_HOLD,
        description="Whether what was read last holds to the schemas. Run it to look at what is published again.",
    )
    def tables() -> AssetCheckResult:
        latest = Snapshots(current().source_url(deployment, source)).latest()
        if latest is None:
            return AssetCheckResult(passed=False, description=f"{source} has published nothing in {deployment}.")
        result = check_snapshot(latest)
        return AssetCheckResult(passed=bool(result.success), description=result.description, metadata=result.metadata)

    return tables
