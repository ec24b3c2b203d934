"""The keys of what the jobs make, and their lineage across code locations.

The deployment is part of every key: what a dev run makes triggers nothing in prod.
"""

from collections.abc import Sequence
from typing import Any

from dagster import AssetKey, AssetSpec

from shared_ops.settings import DEPLOYMENTS, Deployment, repositories


def snapshot_key(deployment: Deployment) -> AssetKey:
    """The key of a deployment's snapshot."""
    return AssetKey([deployment, "corpus", "snapshot"])


def feedback_key(deployment: Deployment) -> AssetKey:
    """The key of what people's searches and clicks taught."""
    return AssetKey([deployment, "corpus", "feedback"])


def source_key(deployment: Deployment, source: str) -> AssetKey:
    """The key of one source of the corpus."""
    return AssetKey([deployment, "source", source])


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
    return AssetKey([deployment, "live_set"])


def release_specs(family: str, kinds: Sequence[str], deps: Sequence[str] = ()) -> list[AssetSpec]:
    """The challenger and the release of a family in each deployment.

    The challenger comes from the snapshot, clicks, and the releases of `deps`; the release is a challenger that passed.
    """
    clicked = repositories()[family].feedback
    specs = []
    for deployment in DEPLOYMENTS:
        # Dagit's graph titles an asset by the end of its key, the same for all: the family's kind tells them apart.
        shared: dict[str, Any] = {"owners": _owners(family), "kinds": {family, *kinds}, "group_name": deployment}
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


def snapshot_specs(sources: Sequence[str]) -> list[AssetSpec]:
    """The sources and the snapshot made of them, in each deployment."""
    specs = []
    for deployment in DEPLOYMENTS:
        made_from = [source_key(deployment, source) for source in sources]
        specs += [
            AssetSpec(key, group_name=deployment, owners=_owners("corpus"), description="A configured source.")
            for key in made_from
        ]
        specs.append(
            AssetSpec(
                snapshot_key(deployment),
                deps=made_from,
                owners=_owners("corpus"),
                kinds={"polars", "parquet"},
                group_name=deployment,
                description="Documents, queries and judgements, named by the hash of their content.",
            )
        )
    return specs


def feedback_specs() -> list[AssetSpec]:
    """What people search for and click, and what it taught, in each deployment."""
    specs = []
    for deployment in DEPLOYMENTS:
        events = source_key(deployment, "searches_and_clicks")
        specs += [
            AssetSpec(
                events,
                owners=_owners("corpus"),
                kinds={"postgres"},
                group_name=deployment,
                description="What people searched for and clicked, as the search app recorded it.",
            ),
            AssetSpec(
                feedback_key(deployment),
                deps=[events],
                owners=_owners("corpus"),
                kinds={"polars", "parquet"},
                group_name=deployment,
                description="Clicks corrected for their positions, named by the hash of their content.",
            ),
        ]
    return specs


def live_set_specs() -> list[AssetSpec]:
    """The proposed and the live set in each deployment: one release of every family."""
    families = [name for name, repository in repositories().items() if repository.role != "data"]
    specs = []
    for deployment in DEPLOYMENTS:
        shared: dict[str, Any] = {"owners": _owners("ranker"), "group_name": deployment}
        specs += [
            AssetSpec(
                proposed_set_key(deployment),
                deps=[snapshot_key(deployment), *(release_key(deployment, family) for family in families)],
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


def _owners(family: str) -> list[str]:
    """Dagster names a team `team:<name>`; repos.toml holds CODEOWNERS' form."""
    return [f"team:{repositories()[family].owner.removeprefix('@').replace('/', '-')}"]
