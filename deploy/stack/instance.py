"""The Dagster instance of a stack, made ready before its first process starts.

Run as a process of its own (`python -m deploy.stack.instance`), with the stack's variables in its environment.
"""

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

from deploy.stack.places import dagster_home
from shared_ops.settings import ROOT, Settings, repositories

if TYPE_CHECKING:
    from dagster import DagsterInstance


def place(settings: Settings) -> None:
    """Put dagster.yaml into the stack's Dagster home."""
    home = dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")


def prepare(settings: Settings) -> None:
    """Bring the instance's tables up to date, and end the runs that no process works on any more.

    Servers that start together on an empty database would each make its tables, and break them.
    """
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        instance.upgrade()
        for run_id in _cancel_lost_runs(instance, settings):
            print(f"run {run_id[:8]} was in flight when the stack ended: marked as cancelled", file=sys.stderr)


def _cancel_lost_runs(instance: "DagsterInstance", settings: Settings) -> list[str]:
    """Cancel runs that this stack's code servers had started: none of those servers runs now.

    Runs that were started elsewhere (Kubernetes, Celery, another stack on the same database) are not touched.
    """
    from dagster import DagsterRunStatus, RunsFilter
    from dagster._core.storage.tags import GRPC_INFO_TAG

    ports = {settings.ports[f"code-{name}"] for name in repositories()}
    in_flight = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    lost = [
        run
        for run in instance.get_runs(RunsFilter(statuses=in_flight))
        if json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("port") in ports
    ]
    for run in lost:
        instance.report_run_canceled(run, message="The stack ended while this run was in flight.")
    return [run.run_id for run in lost]


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_HOME", str(dagster_home(Settings())))
    prepare(Settings())
