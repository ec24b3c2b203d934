"""The keys of what the jobs make, and their lineage across code locations.

The deployment is part of every key: what a dev run makes triggers nothing in prod.
"""

from collections.abc import Sequence

from dagster import AssetKey, AssetSpec

from shared_ops.settings import Deployment, repositories

DEPLOYMENTS: tuple[Deployment, ...] = ("dev", "prod")


def snapshot_key(deployment: Deployment) -> AssetKey:
    """The key of a deployment's snapshot."""
    return AssetKey([deployment, "corpus", "snapshot"])


def feedback_key(deployment: Deployment) -> AssetKey:
    """The key of what people's searches and clicks taught."""
    return AssetKey([deployment, "corpus", "feedback"])


def source_key(deployment: Deployment, source: str) -> AssetKey:
    """The key of one source of the corpus."""
    return AssetKey([deployment, "source", source])


def release_key(deployment: Deployment, family: str) -> AssetKey:
    """The key of a family's accepted release."""
    return AssetKey([deployment, family, "release"])


def live_set_key(deployment: Deployment) -> AssetKey:
    """The key of the live set."""
    return AssetKey([deployment, "live_set"])


def release_specs(family: str, kinds: Sequence[str], deps: Sequence[str] = ()) -> list[AssetSpec]:
    """The release of a family in each deployment; it comes from the snapshot, clicks, and the releases of `deps`."""
    clicked = repositories()[family].feedback
    # Dagit's graph titles an asset by the end of its key, the same for all: the family's kind tells them apart.
    shown = {family, *kinds}
    return [
        AssetSpec(
            release_key(deployment, family),
            deps=[
                snapshot_key(deployment),
                *([feedback_key(deployment)] if clicked else []),
                *(release_key(deployment, each) for each in deps),
            ],
            owners=_owners(family),
            kinds=shown,
            group_name=deployment,
            description=f"The newest release of {family} that passed its gate, in the {deployment} staging area.",
        )
        for deployment in DEPLOYMENTS
    ]


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
    """The live set in each deployment: one release of every family."""
    families = [name for name, repository in repositories().items() if repository.role != "data"]
    return [
        AssetSpec(
            live_set_key(deployment),
            deps=[snapshot_key(deployment), *(release_key(deployment, family) for family in families)],
            owners=_owners("ranker"),
            group_name=deployment,
            description="The releases and the snapshot that answer queries.",
        )
        for deployment in DEPLOYMENTS
    ]


def _owners(family: str) -> list[str]:
    """Dagster names a team `team:<name>`; repos.toml holds CODEOWNERS' form."""
    return [f"team:{repositories()[family].owner.removeprefix('@').replace('/', '-')}"]
