"""What the code server of semantic loads."""

from dagster import Definitions

from repos.semantic.graph import dev, prod
from shared_ops.checks import release_checks
from shared_ops.lineage import release_specs
from shared_ops.triggers import daily_schedule, retrain_sensor

defs = Definitions(
    jobs=[dev, prod],
    assets=release_specs("semantic", kinds=["tensorflow"]),
    asset_checks=release_checks("semantic"),
    sensors=[retrain_sensor("semantic", prod)],
    schedules=[daily_schedule("semantic", prod)],
)
