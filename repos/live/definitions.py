"""What the code server of live loads."""

from dagster import Definitions

from repos.live.checks import live_set_checks
from repos.live.graph import jobs
from repos.live.lineage import live_set_specs
from repos.live.triggers import sensors
from shared_ops.pipeline.alerts import failure_sensor
from shared_ops.pipeline.lineage import live_set_key
from shared_ops.pipeline.predict import predictions_spec
from shared_ops.settings import repository_of

defs = Definitions(
    jobs=jobs,
    assets=[*live_set_specs(), predictions_spec(repository_of(__name__), live_set_key("prod"))],
    asset_checks=live_set_checks(),
    sensors=[*sensors, failure_sensor()],  # of failed runs, whatever location
)
