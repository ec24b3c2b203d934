"""What the code server of ranker loads."""

from dagster import Definitions

from repos.ranker.checks import feature_checks
from repos.ranker.graph import jobs, prod, promotion_prod
from shared_ops.pipeline.checks import live_set_checks, release_checks
from shared_ops.pipeline.lineage import live_set_specs, release_specs
from shared_ops.pipeline.triggers import daily_schedule, promotion_sensor, retrain_sensor
from shared_ops.settings import search_families

defs = Definitions(
    jobs=jobs,
    assets=[*release_specs("ranker", kinds=["pytorch"], deps=search_families()), *live_set_specs()],
    asset_checks=[*release_checks("ranker"), *live_set_checks(), *feature_checks()],
    sensors=[retrain_sensor("ranker", prod), promotion_sensor(promotion_prod)],
    # Later than those whose hits it learns from.
    schedules=[daily_schedule("ranker", prod, hour=4)],
)
