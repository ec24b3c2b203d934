"""What the code server of live loads."""

from dagster import Definitions

from repos.live.checks import live_set_checks
from repos.live.graph import jobs
from repos.live.lineage import live_set_specs
from repos.live.triggers import sensors
from shared_ops.pipeline.alerts import failure_sensor

defs = Definitions(
    jobs=jobs,
    assets=live_set_specs(),
    asset_checks=live_set_checks(),
    sensors=[*sensors, failure_sensor()],  # of failed runs, whatever location
)
