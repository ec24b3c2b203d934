"""The asset check whether serving and training see the same features: run with every training, and from the UI."""

from collections.abc import Iterable
from typing import Any

import polars as pl
from dagster import AssetCheckResult, AssetChecksDefinition, MetadataValue, asset_check

from repos.ranker.features import FeatureSpace
from repos.ranker.skew import compare
from shared_ops.data.feedback import Feedback, Feedbacks
from shared_ops.pipeline.lineage import release_key
from shared_ops.release.codes import code_version
from shared_ops.release.releases import ReleaseError, Staging
from shared_ops.settings import DEPLOYMENTS, Deployment, current, repository_of

FEATURES_CHECK = "served_features"
FAMILY = repository_of(__name__)


def logged_spaces(releases: Iterable[str], staging: str) -> dict[str, FeatureSpace]:
    """The feature spaces of the rankers that logged features.

    Releases that staging no longer keeps are left out, those of another ranker, and those of other code: their
    features, and perhaps their files, differ on purpose.
    """
    spaces, area = {}, Staging(staging)
    for release in releases:
        try:
            manifest = area.manifest(FAMILY, release)
            if manifest.code_version == code_version(FAMILY):
                spaces[release] = FeatureSpace.load(area.fetch(FAMILY, release))
        except ReleaseError:
            continue
    return spaces


def comparison(requests: pl.DataFrame, staging: str) -> tuple[bool, str, dict[str, Any]]:
    """Compare served features with those computed again: whether all are equal, a sentence on it, and the numbers."""
    skew = compare(requests, logged_spaces(requests["ranker"].unique(), staging).get)
    metadata: dict[str, Any] = {
        "requests compared": skew.compared,
        "requests unequal": skew.unequal,
        "requests of releases that are gone, of other code or of another ranker": skew.skipped,
        "largest difference": skew.largest_difference,
        "first unequal": MetadataValue.json([vars(each) for each in skew.examples]),
    }
    description = (
        f"{skew.compared} served requests compared, {skew.unequal} unequal, "
        f"{skew.skipped} of releases that are gone, of other code or of another ranker; "
        f"largest difference {skew.largest_difference:g}."
    )
    return skew.unequal == 0, description, metadata


def feature_checks() -> list[AssetChecksDefinition]:
    """The check in each deployment."""
    return [_served_features(deployment) for deployment in DEPLOYMENTS]


def _served_features(deployment: Deployment) -> AssetChecksDefinition:
    @asset_check(
        asset=release_key(deployment, FAMILY),
        name=FEATURES_CHECK,
        description="Whether the features that were served equal those that training computes for the same requests.",
    )
    def served_features() -> AssetCheckResult:
        # Both deployments learn from prod's feedback, which prod's rankers logged.
        latest = Feedbacks(current().input_feedback_url("prod")).latest()
        if latest is None:
            return AssetCheckResult(passed=True, description="There is no feedback yet: nothing to compare.")
        passed, description, metadata = comparison(Feedback(latest).requests(), current().input_staging_url("prod"))
        return AssetCheckResult(passed=passed, description=description, metadata=metadata)

    return served_features
