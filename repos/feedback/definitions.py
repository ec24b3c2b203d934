"""What the code server of feedback loads."""

from dagster import Definitions

from repos.feedback import triggers
from repos.feedback.checks import feedback_checks
from repos.feedback.drift.sensor import drift
from repos.feedback.graph import jobs
from repos.feedback.lineage import feedback_specs

defs = Definitions(
    jobs=jobs,
    assets=feedback_specs(),
    asset_checks=feedback_checks(),
    sensors=[*triggers.sensors, drift],
    schedules=triggers.schedules,
)
