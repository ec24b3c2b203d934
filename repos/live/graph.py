"""The graphs that move the live set: to a new ranker, to a new snapshot, and back; the jobs made from them."""

from dagster import graph

from repos.live.ops import accepted_ranker, gate_set, newest_snapshot, promote, roll_back, set_of_the_past, show
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.settings import repository_of

FIRST = {"dagster/priority": "10"}
"""Runs that move the live set do not wait for trainings that were queued before them."""


@graph
def promotion() -> None:
    """The accepted ranker, with what it learned from, through the end-to-end gate to the live set."""
    promote(gate_set(accepted_ranker()))


@graph
def show_snapshot() -> None:
    """The newest snapshot, shown by the releases that are live."""
    show(newest_snapshot())


@graph
def rollback() -> None:
    """Back to a set of the past."""
    roll_back(set_of_the_past())


promotion_dev, promotion_prod = family_jobs(promotion, repository=repository_of(__name__), tags=FIRST)
_, show_snapshot_prod = family_jobs(show_snapshot, repository=repository_of(__name__), tags=FIRST)
_, rollback_prod = family_jobs(rollback, repository=repository_of(__name__), tags=FIRST)
jobs = [promotion_dev, promotion_prod, show_snapshot_prod, rollback_prod]
