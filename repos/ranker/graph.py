"""The graph of ranker, and the dev and prod jobs made from it."""

from dagster import graph

from repos.ranker.ops import evaluate, load_hits, train
from shared_ops.jobs import family_jobs
from shared_ops.live_ops import promote
from shared_ops.ops import gate, load_snapshot, materialize, stage, validate


@graph
def ranker() -> None:
    """From the latest snapshot and the search models' hits to a release, and with it to the live set."""
    hits = load_hits(validate(load_snapshot()))
    promote(materialize(stage(gate(evaluate(train(hits))))))


jobs = family_jobs(ranker)
