"""What the code server of the corpus loads."""

import logging

from dagster import Definitions

from repos.corpus.checks import snapshot_checks
from repos.corpus.graph import jobs
from repos.corpus.lineage import snapshot_specs
from repos.corpus.sources import config
from repos.corpus.sources.collected import SourceError
from repos.corpus.triggers import daily, sources_changed
from shared_ops.settings import current


def source_names() -> list[str]:
    """The names of the sources, for lineage; empty where the sources file has a mistake, which a run then reports."""
    try:
        return [source.name for source in config.load(current().sources).sources]
    except SourceError as error:
        logging.getLogger(__name__).error("%s", error)
        return []


defs = Definitions(
    jobs=jobs,
    assets=snapshot_specs(source_names()),
    asset_checks=snapshot_checks(),
    sensors=[sources_changed],
    schedules=[daily],
)
