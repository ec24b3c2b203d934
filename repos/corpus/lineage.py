"""What the corpus makes, as Dagit shows it: the sources, and the snapshot made of them."""

from collections.abc import Sequence

from dagster import AssetSpec

from shared_ops.pipeline.lineage import made_by, owners, snapshot_key, source_key
from shared_ops.settings import DEPLOYMENTS, repository_of, source_repositories

REPOSITORY = repository_of(__name__)
OWNERS = owners(REPOSITORY)


def snapshot_specs(sources: Sequence[str]) -> list[AssetSpec]:
    """The sources of the sources file and the snapshot, in each deployment.

    The snapshot is also made of what the repositories with the role source publish in prod; they specify that.
    """
    published = [source_key("prod", name) for name in source_repositories()]
    specs = []
    for deployment in DEPLOYMENTS:
        source_keys = [source_key(deployment, source) for source in sources]
        specs += [
            AssetSpec(key, group_name=deployment, owners=OWNERS, description="A configured source.")
            for key in source_keys
        ]
        specs.append(
            AssetSpec(
                snapshot_key(deployment),
                deps=[*source_keys, *published],
                owners=OWNERS,
                kinds={"polars", "parquet"},
                group_name=deployment,
                metadata=made_by(REPOSITORY, f"{REPOSITORY}_{deployment}"),
                description="Documents, queries and judgements, named by the hash of their content.",
            )
        )
    return specs
