"""What the code server of behavior loads."""

from dagster import Definitions

from repos.behavior.graph import dev, prod
from shared_ops.pipeline.checks import release_checks
from shared_ops.pipeline.lineage import release_specs
from shared_ops.pipeline.triggers import daily_schedule, retrain_sensor

defs = Definitions(
    jobs=[dev, prod],
    assets=release_specs("behavior", kinds=["scikitlearn"]),
    asset_checks=release_checks("behavior"),
    sensors=[retrain_sensor("behavior", prod)],
    schedules=[daily_schedule("behavior", prod)],
)
