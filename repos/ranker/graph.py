"""The graphs of ranker: its training, and what moves the live set; the dev and prod jobs made from them."""

from dagster import graph

from repos.ranker.ops import check_features, evaluate, gate_set, load_inputs, train
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.live_ops import accepted_ranker, promote, roll_back, set_of_the_past
from shared_ops.pipeline.ops import gate, materialize, stage, validate


@graph
def ranker() -> None:
    """From the latest snapshot and the search models' hits to a release."""
    inputs = validate(load_inputs())
    check_features(inputs)
    materialize(stage(gate(evaluate(train(inputs)))))


@graph
def promotion() -> None:
    """The accepted ranker, with what it learned from, through the end-to-end gate to the live set."""
    promote(gate_set(accepted_ranker()))


@graph
def rollback() -> None:
    """Back to a set of the past."""
    roll_back(set_of_the_past())


dev, prod = family_jobs(ranker)
promotion_dev, promotion_prod = family_jobs(promotion, repository="ranker")
_, rollback_prod = family_jobs(rollback, repository="ranker")
jobs = [dev, prod, promotion_dev, promotion_prod, rollback_prod]
