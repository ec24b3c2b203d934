"""What the code server of ranker loads."""

from dagster import Definitions

from repos.ranker.graph import jobs
from shared_ops.checks import release_checks
from shared_ops.lineage import live_set_specs, release_specs
from shared_ops.settings import search_families

defs = Definitions(
    jobs=jobs,
    assets=[*release_specs("ranker", kinds=["pytorch"], deps=search_families()), *live_set_specs()],
    asset_checks=release_checks("ranker"),
)
