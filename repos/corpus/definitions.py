"""What the code server of the corpus loads."""

import logging

from dagster import Definitions

from repos.corpus.checks import feedback_checks, snapshot_checks
from repos.corpus.feedback import graph as feedback
from repos.corpus.feedback import triggers
from repos.corpus.graph import jobs
from repos.corpus.sources import config
from repos.corpus.sources.collected import SourceError
from repos.corpus.triggers.sources import daily, sources_changed
from repos.corpus.triggers.watch import drift
from shared_ops.pipeline.alerts import failure_sensor
from shared_ops.pipeline.lineage import feedback_specs, snapshot_specs
from shared_ops.settings import current


def source_names() -> list[str]:
    """The sources that lineage shows. A sources file with a mistake shows none: its job must load, to tell of it."""
    try:
        return [source.name for source in config.load(current().sources).sources]
    except SourceError as error:
        logging.getLogger(__name__).error("%s", error)
        return []


defs = Definitions(
    jobs=[*jobs, *feedback.jobs],
    assets=[*snapshot_specs(source_names()), *feedback_specs()],
    asset_checks=[*snapshot_checks(), *feedback_checks()],
    sensors=[*triggers.sensors, sources_changed, drift, failure_sensor()],  # of failed runs, whatever location
    schedules=[*triggers.schedules, daily],
)
