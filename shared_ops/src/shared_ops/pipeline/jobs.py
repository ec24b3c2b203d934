"""The dev and prod jobs of a graph: the same graph with different resources."""

from collections.abc import Mapping

from dagster import GraphDefinition, JobDefinition, in_process_executor

from shared_ops.pipeline.io_manager import json_io_manager
from shared_ops.pipeline.references import BECAUSE, BY_HAND
from shared_ops.pipeline.resources import DEV, PROD
from shared_ops.settings import repositories


def family_jobs(
    graph: GraphDefinition, repository: str | None = None, tags: Mapping[str, str] | None = None
) -> list[JobDefinition]:
    """The jobs `<name>_dev` and `<name>_prod` of a graph.

    A job runs in one process: its steps are short, and a process for each costs about 3 s of imports.

    Args:
        graph: the graph.
        repository: the repository that owns it; None: the one of the graph's name.
        tags: the jobs' tags beside those that every job has.
    """
    return [
        graph.to_job(
            name=f"{graph.name}_{deployment.name}",
            resource_defs={"deployment": deployment, "io_manager": json_io_manager},
            executor_def=in_process_executor,
            tags={**job_tags(repository or graph.name, deployment.name), **(tags or {})},
        )
        for deployment in (DEV, PROD)
    ]


def job_tags(repository: str, deployment: str) -> dict[str, str]:
    """The tags that every job of a repository has."""
    return {
        "searchloop/family": repository,
        "searchloop/deployment": deployment,
        BECAUSE: BY_HAND,
        # Launchers and executors beyond this machine send a family's runs to its own environment's queue.
        "searchloop/queue": repositories()[repository].queue,
    }
