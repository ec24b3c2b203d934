"""What feedback makes, as Dagit shows it: the searches and clicks, and the feedback made of them."""

from dagster import AssetSpec

from shared_ops.pipeline.lineage import feedback_key, made_by, owners, source_key
from shared_ops.settings import DEPLOYMENTS, repository_of

REPOSITORY = repository_of(__name__)
OWNERS = owners(REPOSITORY)


def feedback_specs() -> list[AssetSpec]:
    """The searches and clicks and the feedback made of them, in each deployment."""
    specs = []
    for deployment in DEPLOYMENTS:
        events = source_key(deployment, "searches_and_clicks")
        specs += [
            AssetSpec(
                events,
                owners=OWNERS,
                kinds={"postgres"},
                group_name=deployment,
                description="What people searched for and clicked, as the search app recorded it.",
            ),
            AssetSpec(
                feedback_key(deployment),
                deps=[events],
                owners=OWNERS,
                kinds={"polars", "parquet"},
                group_name=deployment,
                metadata=made_by(REPOSITORY, f"{REPOSITORY}_{deployment}"),
                description="Clicks corrected for their positions, named by the hash of their content.",
            ),
        ]
    return specs
