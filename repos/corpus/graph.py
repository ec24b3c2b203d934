"""The graph of the corpus, and the dev and prod jobs made from it."""

from dagster import graph

from repos.corpus.ops import materialize, publish, read_sources, validate
from shared_ops.pipeline.jobs import family_jobs


@graph
def corpus() -> None:
    """From the configured sources to the latest snapshot."""
    materialize(publish(validate(read_sources())))


jobs = family_jobs(corpus)
