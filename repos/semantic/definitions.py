"""What the code server of semantic loads."""

from dagster import Definitions

from repos.semantic.graph import dev, prod
from shared_ops.pipeline.checks import release_checks
from shared_ops.pipeline.lineage import release_specs
from shared_ops.pipeline.triggers import daily_schedule, retrain_sensor

defs = Definitions(
    jobs=[dev, prod],
    assets=release_specs("semantic", kinds=["tensorflow"]),
    asset_checks=release_checks("semantic"),
    sensors=[retrain_sensor("semantic", prod)],
    schedules=[daily_schedule("semantic", prod)],
)
