"""Asset checks of challengers and releases that can be run again at any time from the UI."""

from collections.abc import Mapping
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    MetadataValue,
    OpExecutionContext,
    asset_check,
)

from shared_ops.pipeline.lineage import challenger_key, release_key
from shared_ops.refused import refused_code
from shared_ops.release.releases import ReleaseError, Staging
from shared_ops.settings import DEPLOYMENTS, Deployment, current

GATE, INTEGRITY = "gate", "integrity"
"""The names of the checks of a challenger and of a release. Dagit keeps their results under these names."""
CODE_LOADS = "code_loads"
"""The name of the check whether a repository's code loads, which its code server reports (deploy/stack), too."""


def log_check(
    context: OpExecutionContext,
    key: AssetKey,
    name: str,
    passed: bool,
    description: str | None,
    metadata: Mapping[str, Any] | None = None,
    severity: AssetCheckSeverity = AssetCheckSeverity.ERROR,
) -> None:
    """Tell Dagster the result of an asset's check that an op has evaluated."""
    context.log_event(
        AssetCheckEvaluation(  # type: ignore[arg-type] # the annotation lags behind what is accepted
            asset_key=key,
            check_name=name,
            passed=passed,
            severity=severity,
            description=description,
            metadata=metadata or {},
        )
    )


def release_checks(family: str) -> list[AssetChecksDefinition]:
    """A family's checks in each deployment: its challenger's verdict, and whether its release's files are as published.

    The verdict belongs to the challenger: a rejection says nothing of the release that was accepted before. That the
    family's code loads is a check of its release in prod.
    """
    of_releases = [make(family, deployment) for deployment in DEPLOYMENTS for make in (_gate, _integrity)]
    return [*of_releases, code_check(family, release_key("prod", family))]


def code_check(repository: str, asset: AssetKey) -> AssetChecksDefinition:
    """The check whether a repository's code location runs the newest code that it was to load; on one of its assets.

    Its code server reports the result of each reload as this check's. Run from Dagit, it reads the last one again.
    """

    @asset_check(
        asset=asset,
        name=CODE_LOADS,
        description="Whether the code location runs the code that was last saved and loaded, or the code of before, as "
        "the newer one does not load.",
    )
    def code_loads() -> AssetCheckResult:
        refused = refused_code(repository, current())
        return AssetCheckResult(
            passed=refused is None,
            description=refused.told if refused else None,
            metadata=refused.model_dump(mode="json", exclude_none=True) if refused else {},
        )

    return code_loads


def _gate(family: str, deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=challenger_key(deployment, family),
        name=GATE,
        description="The verdict on the newest challenger. Run it to read it again.",
    )
    def gate() -> AssetCheckResult:
        staging = Staging(current().staging_url(deployment))
        versions = staging.versions(family)
        if not versions:
            return AssetCheckResult(passed=False, description=f"No challenger of {family} was judged in {deployment}.")
        manifest = staging.manifest(family, versions[-1])
        return AssetCheckResult(
            passed=manifest.accepted,
            description=" ".join(manifest.gate["reasons"]) or None,
            metadata={"version": manifest.version, "verdict": MetadataValue.json(manifest.gate)},
        )

    return gate


def _integrity(family: str, deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=release_key(deployment, family),
        name=INTEGRITY,
        description="Whether every file of the accepted release has the SHA-256 that its manifest says.",
    )
    def integrity() -> AssetCheckResult:
        staging = Staging(current().staging_url(deployment))
        version = staging.accepted(family)
        if version is None:
            return AssetCheckResult(passed=False, description=f"No release of {family} was accepted in {deployment}.")
        problem = damage(staging, family, version)
        return AssetCheckResult(passed=problem is None, description=problem, metadata={"version": version})

    return integrity


def damage(staging: Staging, family: str, version: str) -> str | None:
    """What is wrong with the files of a release; None where every one is as published."""
    try:
        staging.fetch(family, version)
    except ReleaseError as error:
        return str(error)
    return None
