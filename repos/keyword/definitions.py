"""What the code server of keyword loads."""

from dagster import Definitions

from repos.keyword.graph import dev, prod
from shared_ops.pipeline.checks import release_checks
from shared_ops.pipeline.lineage import release_specs
from shared_ops.pipeline.triggers import daily_schedule, retrain_sensor

defs = Definitions(
    jobs=[dev, prod],
    assets=release_specs("keyword", kinds=["scikitlearn"]),
    asset_checks=release_checks("keyword"),
    sensors=[retrain_sensor("keyword", prod)],
    schedules=[daily_schedule("keyword", prod)],
)
