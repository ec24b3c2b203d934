"""The ops that move the live set: to a new ranker and what it learned from, or to a new snapshot."""

from typing import Any

from dagster import AssetMaterialization, Config, MetadataValue, OpExecutionContext, op
from pydantic import Field

from shared_ops.lineage import live_set_key
from shared_ops.livesets import LiveSet
from shared_ops.ops import plotted
from shared_ops.promotion import promote as promote_set
from shared_ops.references import Staged
from shared_ops.resources import DeploymentResource
from shared_ops.snapshots import SnapshotRef, load


class PromoteConfig(Config):
    """How a set goes live."""

    timeout_s: float = Field(default=300.0, description="how long the services may take to load and check the set")


@op
def promote(
    context: OpExecutionContext, config: PromoteConfig, deployment: DeploymentResource, staged: Staged
) -> Staged:
    """Make the ranker's release and those whose hits it learned from the live set; a rejected one changes nothing."""
    manifest = deployment.staging.manifest(staged.family, staged.version)
    if not staged.accepted:
        context.log.warning(f"{staged.family}/{staged.version} was rejected; the live set stays as it is.")
        return staged
    live = promote_set(
        deployment.live_sets,
        {**manifest.learned_from, staged.family: staged.version},
        manifest.snapshot,
        note=f"{staged.family} {staged.version}",
        services=deployment.services,
        timeout_s=config.timeout_s,
        log=context.log.info,
    )
    _materialize(context, deployment, live, plotted(manifest.metrics))
    return staged


class ShowConfig(Config):
    """When a new snapshot is shown by the models that are live, before any of them has learned it."""

    max_removed_share: float = Field(
        default=0.2, ge=0, le=1, description="past this share of documents gone, the change waits for new models"
    )
    timeout_s: float = Field(default=300.0, description="how long the services may take to load the snapshot")


@op
def show(
    context: OpExecutionContext, config: ShowConfig, deployment: DeploymentResource, snapshot: SnapshotRef
) -> SnapshotRef:
    """Let the live set show the new snapshot, so that what left the corpus leaves the results at once.

    Its releases stay: what is new in the corpus is found once models have learned it.
    """
    live = deployment.live_sets.live()
    if live is None or live.snapshot == snapshot:
        context.log.info("No live set shows another snapshot; nothing to change.")
        return snapshot
    shown, kept = (load(ref).documents().select("doc_id") for ref in (live.snapshot, snapshot))
    removed = len(shown.join(kept, on="doc_id", how="anti")) / max(len(shown), 1)
    if removed > config.max_removed_share:
        context.log.warning(
            f"{removed:.1%} of the documents that are shown are not in snapshot {snapshot.id}, more than "
            f"{config.max_removed_share:.1%}. The live set keeps {live.snapshot.id} until a ranker of the new one is "
            "accepted; raise max_removed_share to show it now."
        )
        return snapshot
    moved = promote_set(
        deployment.live_sets,
        live.releases,
        snapshot,
        note=f"snapshot {snapshot.id}",
        services=deployment.services,
        timeout_s=config.timeout_s,
        log=context.log.info,
    )
    _materialize(context, deployment, moved, {"share of documents removed": removed})
    return snapshot


def _materialize(
    context: OpExecutionContext, deployment: DeploymentResource, live: LiveSet, numbers: dict[str, float]
) -> None:
    metadata: dict[str, Any] = {
        "set": live.number,
        "releases": MetadataValue.json(live.releases),
        "snapshot": live.snapshot.id,
        "note": live.note,
        **numbers,
    }
    context.log_event(AssetMaterialization(asset_key=live_set_key(deployment.deployment), metadata=metadata))
