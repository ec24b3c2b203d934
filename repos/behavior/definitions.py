"""What the code server of behavior loads."""

from dagster import Definitions

from repos.behavior.graph import jobs
from shared_ops.checks import release_checks
from shared_ops.lineage import release_specs

defs = Definitions(
    jobs=jobs,
    assets=release_specs("behavior", kinds=["scikitlearn"]),
    asset_checks=release_checks("behavior"),
)
