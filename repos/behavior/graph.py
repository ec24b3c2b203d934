"""The graph of behavior, and the dev and prod jobs made from it."""

from dagster import graph

from repos.behavior.ops import evaluate, load_clicks, train
from shared_ops.jobs import family_jobs
from shared_ops.ops import gate, load_snapshot, materialize, stage, validate


@graph
def behavior() -> None:
    """From the latest snapshot and the clicks to a release in the staging area."""
    snapshot = validate(load_snapshot())
    materialize(stage(gate(evaluate(train(snapshot, load_clicks(snapshot))))))


jobs = family_jobs(behavior)
