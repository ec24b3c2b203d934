"""The graphs of feedback and their jobs: one learns from events, the other deletes old ones."""

from dagster import graph

from repos.feedback.ops import forget_events, learn_clicks, materialize_feedback, read_events
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.settings import repository_of


@graph
def feedback() -> None:
    """From the searches and clicks in Postgres to the latest feedback."""
    batch = read_events()
    materialize_feedback(learn_clicks(batch), batch)


@graph
def forget() -> None:
    """Delete the searches and clicks that are too old."""
    forget_events()


feedback_dev, feedback_prod = family_jobs(feedback)
# Both deployments read one database: there is nothing of dev's own to forget.
_, forget_prod = family_jobs(forget, repository=repository_of(__name__))
jobs = [feedback_dev, feedback_prod, forget_prod]
