"""Asset checks of the latest snapshot that can be run again at any time from the UI."""

from dagster import AssetCheckResult, AssetChecksDefinition, asset_check

from repos.corpus.build import check
from repos.corpus.ops import report_metadata
from repos.corpus.sources.collected import SourceError, SourceReport
from shared_ops.data.snapshots import Snapshots, load
from shared_ops.pipeline.checks import code_check
from shared_ops.pipeline.lineage import snapshot_key
from shared_ops.pipeline.types import check_snapshot
from shared_ops.settings import DEPLOYMENTS, Deployment, current, repository_of


def snapshot_checks() -> list[AssetChecksDefinition]:
    """Two checks of each deployment's snapshot: the bad rows of its sources, and whether its tables hold together.

    And whether the code that makes snapshots loads, in prod.
    """
    of_tables = [make(deployment) for deployment in DEPLOYMENTS for make in (_sources, _tables)]
    return [*of_tables, code_check(repository_of(__name__), snapshot_key("prod"))]


def _sources(deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=snapshot_key(deployment),
        name="sources",
        description="The bad rows of the newest build. Run it to read the latest snapshot's again.",
    )
    def sources() -> AssetCheckResult:
        latest = Snapshots(current().snapshots_url(deployment)).latest()
        if latest is None:
            return AssetCheckResult(passed=False, description=f"No snapshot was built in {deployment}.")
        listed = load(latest).manifest().sources
        reports = [SourceReport.model_validate(source) for source in listed if "sample_of" not in source]
        try:
            check(reports)
        except SourceError as error:
            return AssetCheckResult(passed=False, description=str(error), metadata=report_metadata(reports))
        return AssetCheckResult(passed=True, metadata=report_metadata(reports))

    return sources


def _tables(deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=snapshot_key(deployment),
        name="tables",
        description="Whether the latest snapshot's tables hold to their schemas and to each other.",
    )
    def tables() -> AssetCheckResult:
        latest = Snapshots(current().snapshots_url(deployment)).latest()
        if latest is None:
            return AssetCheckResult(passed=False, description=f"No snapshot was built in {deployment}.")
        result = check_snapshot(latest)
        return AssetCheckResult(passed=bool(result.success), description=result.description, metadata=result.metadata)

    return tables
