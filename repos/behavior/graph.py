"""The graph of behavior, and the dev and prod jobs made from it."""

from dagster import graph

from repos.behavior.ops import evaluate, load_inputs, train
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.ops import gate, materialize, stage, validate


@graph
def behavior() -> None:
    """From the latest snapshot and what people clicked to a release in the staging area."""
    materialize(stage(gate(evaluate(train(validate(load_inputs()))))))


dev, prod = family_jobs(behavior)
