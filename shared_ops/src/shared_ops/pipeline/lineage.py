"""The keys of the assets that the jobs make, and their lineage across code locations.

The deployment is part of every key: an asset of a dev run triggers nothing in prod.
"""

from collections.abc import Sequence
from typing import Any

from dagster import AssetKey, AssetSpec, MetadataValue

from shared_ops.release.livesets import asset_path
from shared_ops.settings import DEPLOYMENTS, Deployment, repositories

DATA_VERSION = "dagster/data_version"
"""The tag by which Dagster sees that a materialization changed nothing."""


def snapshot_key(deployment: Deployment) -> AssetKey:
    """The key of a deployment's snapshot."""
    return AssetKey([deployment, "snapshot"])


def feedback_key(deployment: Deployment) -> AssetKey:
    """The key of a deployment's feedback."""
    return AssetKey([deployment, "feedback"])


def source_key(deployment: Deployment, source: str) -> AssetKey:
    """The key of one source of the corpus: of the sources file, or what a repository with the role source gives."""
    return AssetKey([deployment, "source", source])


def source_specs(repository: str) -> list[AssetSpec]:
    """What a repository with the role source gives in each deployment."""
    return [
        AssetSpec(
            source_key(deployment, repository),
            owners=owners(repository),
            kinds={"polars", "parquet"},
            group_name=deployment,
            metadata=made_by(repository, f"{repository}_{deployment}"),
            description=f"The documents of {repository}, and queries and judgements where it has any.",
        )
        for deployment in DEPLOYMENTS
    ]


def challenger_key(deployment: Deployment, family: str) -> AssetKey:
    """The key of the newest model that a training of the family put before its gate, accepted or rejected."""
    return AssetKey([deployment, family, "challenger"])


def release_key(deployment: Deployment, family: str) -> AssetKey:
    """The key of a family's accepted release."""
    return AssetKey([deployment, family, "release"])


def proposed_set_key(deployment: Deployment) -> AssetKey:
    """The key of the newest set that was put before the end-to-end gate, accepted or rejected."""
    return AssetKey([deployment, "proposed_set"])


def live_set_key(deployment: Deployment) -> AssetKey:
    """The key of the live set."""
    return AssetKey(asset_path(deployment))


def predictions_key(deployment: Deployment, name: str) -> AssetKey:
    """The key of the newest answers in bulk of a release of a family, or of a set by the repository that moves it."""
    return AssetKey([deployment, name, "predictions"])


def release_specs(family: str, kinds: Sequence[str], deps: Sequence[str] = ()) -> list[AssetSpec]:
    """The challenger and the release of a family in each deployment.

    The challenger comes from the snapshot, clicks, and the releases of `deps`; the release is a challenger that passed.
    """
    clicked = repositories()[family].feedback
    specs = []
    for deployment in DEPLOYMENTS:
        # Dagit's graph titles an asset by the end of its key, the same for all: the family's kind tells them apart.
        shared: dict[str, Any] = {
            "owners": owners(family),
            "kinds": {family, *kinds},
            "group_name": deployment,
            "metadata": made_by(family, f"{family}_{deployment}"),
        }
        learned_from = [
            snapshot_key(deployment),
            *([feedback_key(deployment)] if clicked else []),
            *(release_key(deployment, each) for each in deps),
        ]
        specs += [
            AssetSpec(
                challenger_key(deployment, family),
                deps=learned_from,
                description=f"The newest model of {family} that was put before its gate, accepted or rejected.",
                **shared,
            ),
            AssetSpec(
                release_key(deployment, family),
                deps=[challenger_key(deployment, family)],
                description=f"The newest release of {family} that passed its gate, in the {deployment} staging area.",
                **shared,
            ),
        ]
    return specs


def made_by(repository: str, job: str) -> dict[str, MetadataValue]:
    """A link from an asset to the job that makes it: Dagit's own button is for assets that are their own jobs."""
    return {"made by": MetadataValue.job(job, repository, repository_name="__repository__")}


def owners(repository: str) -> list[str]:
    """Who owns what a repository makes. Dagster names a team `team:<name>`; repos.toml holds CODEOWNERS' form."""
    return [f"team:{repositories()[repository].owner.removeprefix('@').replace('/', '-')}"]
