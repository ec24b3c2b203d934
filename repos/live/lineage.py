"""The assets that this repository's runs make, as Dagit shows them: the proposed set and the live one."""

from typing import Any

from dagster import AssetSpec

from shared_ops.pipeline.lineage import live_set_key, made_by, owners, proposed_set_key, release_key, snapshot_key
from shared_ops.settings import DEPLOYMENTS, families, repository_of

REPOSITORY = repository_of(__name__)


def live_set_specs() -> list[AssetSpec]:
    """The proposed and the live set in each deployment: one release of every family."""
    specs = []
    for deployment in DEPLOYMENTS:
        shared: dict[str, Any] = {
            "owners": owners(REPOSITORY),
            "group_name": deployment,
            "metadata": made_by(REPOSITORY, f"promotion_{deployment}"),
        }
        specs += [
            AssetSpec(
                proposed_set_key(deployment),
                deps=[snapshot_key(deployment), *(release_key(deployment, family) for family in families())],
                description="The newest set that was put before the end-to-end gate, accepted or rejected.",
                **shared,
            ),
            AssetSpec(
                live_set_key(deployment),
                deps=[snapshot_key(deployment), proposed_set_key(deployment)],
                description="The releases and the snapshot that answer queries.",
                **shared,
            ),
        ]
    return specs
