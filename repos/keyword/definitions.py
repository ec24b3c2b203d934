"""What the code server of keyword loads."""

from dagster import Definitions

from repos.keyword.graph import jobs
from shared_ops.checks import release_checks
from shared_ops.lineage import release_specs

defs = Definitions(
    jobs=jobs,
    assets=release_specs("keyword", kinds=["scikitlearn"]),
    asset_checks=release_checks("keyword"),
)
