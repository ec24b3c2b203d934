"""What the code server of ranker loads."""

from dagster import Definitions

from repos.ranker.checks import feature_checks
from repos.ranker.graph import dev, prod
from shared_ops.pipeline.checks import release_checks
from shared_ops.pipeline.lineage import release_specs
from shared_ops.pipeline.triggers import daily_schedule, retrain_sensor
from shared_ops.settings import search_families

defs = Definitions(
    jobs=[dev, prod],
    assets=release_specs("ranker", kinds=["pytorch"], deps=search_families()),
    asset_checks=[*release_checks("ranker"), *feature_checks()],
    sensors=[retrain_sensor("ranker", prod)],
    # Later than those whose hits it learns from.
    schedules=[daily_schedule("ranker", prod, hour=4)],
)
