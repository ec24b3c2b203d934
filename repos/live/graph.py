"""The graphs that move the live set, to a new ranker, to a new snapshot and back, or hold it; their jobs."""

from dagster import GraphDefinition, JobDefinition, graph

from repos.live.ops import accepted_ranker, gate_set, newest_snapshot, promote, roll_back, set_of_the_past, show
from repos.live.overrides import freeze_live_set, pin_family, promote_chosen, thaw_live_set, unpin_family
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.predict import predict_set_job
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


@graph
def freeze() -> None:
    """Nothing goes live until it is thawed; trainings go on."""
    freeze_live_set()


@graph
def thaw() -> None:
    """What is accepted by now is promoted."""
    thaw_live_set()


@graph
def pin() -> None:
    """A family stays at a release."""
    pin_family()


@graph
def unpin() -> None:
    """A family stays where it is no longer."""
    unpin_family()


@graph
def promote_by_hand() -> None:
    """A set that a person has chosen, past the end-to-end gate."""
    promote_chosen()


def _jobs(each: GraphDefinition) -> list[JobDefinition]:
    """The dev and the prod job of a graph."""
    return family_jobs(each, repository=repository_of(__name__), tags=FIRST)


promotion_dev, promotion_prod = _jobs(promotion)
_, show_snapshot_prod = _jobs(show_snapshot)
_, rollback_prod = _jobs(rollback)
_, promote_by_hand_prod = _jobs(promote_by_hand)
moving = [promotion_prod, show_snapshot_prod, rollback_prod, promote_by_hand_prod]
holding = [_jobs(each)[1] for each in (freeze, thaw, pin, unpin)]
jobs = [promotion_dev, *moving, *holding, predict_set_job(repository_of(__name__))]
