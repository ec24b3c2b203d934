"""What the code server of semantic loads."""

from dagster import Definitions

from repos.semantic.graph import jobs
from shared_ops.checks import release_checks
from shared_ops.lineage import release_specs

defs = Definitions(
    jobs=jobs,
    assets=release_specs("semantic", kinds=["tensorflow"]),
    asset_checks=release_checks("semantic"),
)
