"""The graph of ranker, and the dev and prod jobs made from it."""

from dagster import graph

from repos.ranker.ops import check_features, evaluate, load_inputs, train
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.ops import gate, materialize, stage, validate


@graph
def ranker() -> None:
    """From the latest snapshot and the search models' hits to a release."""
    inputs = validate(load_inputs())
    check_features(inputs)
    materialize(stage(gate(evaluate(train(inputs)))))


dev, prod = family_jobs(ranker)
