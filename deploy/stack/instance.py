"""The Dagster instance of a stack, made ready before its first process starts.

Run as a process of its own (`python -m deploy.stack.instance`), with the stack's variables in its environment.
"""

import os
import shutil

from deploy.stack.places import dagster_home
from shared_ops.settings import ROOT, Settings, repositories


def place(settings: Settings) -> None:
    """Put dagster.yaml into the stack's Dagster home."""
    home = dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")


def prepare() -> None:
    """Bring the instance's tables up to date, and fail the runs that were to start when the stack ended.

    Servers that start together on an empty database would each make its tables, and break them.
    """
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    with DagsterInstance.get() as instance:
        instance.upgrade()
        begun_by_none = RunsFilter(statuses=[DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING])
        for run in instance.get_runs(begun_by_none):
            instance.report_run_failed(run, "Its process ended with the stack, before the run had begun.")
        storage = instance.event_log_storage
        # A pool that no run has used yet is unknown, and the first two runs in it would start together. Of one that is
        # known already Dagster cannot be told on Postgres: it goes on in a transaction that has failed (1.13.27).
        for pool in set(repositories()) - storage.get_concurrency_keys():
            storage.initialize_concurrency_limit_to_default(pool)


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_HOME", str(dagster_home(Settings())))
    prepare()
