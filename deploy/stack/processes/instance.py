"""The Dagster instance of a stack, made ready before its first process starts, and for repositories that come later.

Run as a process of its own (`python -m deploy.stack.processes.instance`), with the stack's variables in its
environment.
"""

import argparse
import os
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from deploy.stack.processes.listing import environment_variables
from deploy.stack.processes.places import WORKSPACE, dagster_home, workspace
from shared_ops.data import storage
from shared_ops.settings import ROOT, Settings, file_url, repositories

if TYPE_CHECKING:
    from dagster import DagsterInstance


class WorkspaceError(ValueError):
    """A workspace.yaml that does not name what repos.toml lists."""


def place(settings: Settings) -> None:
    """Put dagster.yaml into the stack's Dagster home."""
    home = dagster_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")


def is_of_this_checkout(settings: Settings) -> bool:
    """Whether the stack's dagster.yaml is this checkout's: it names modules that what starts has to find."""
    placed = dagster_home(settings) / "dagster.yaml"
    return not placed.exists() or placed.read_bytes() == (ROOT / "deploy" / "dagster.yaml").read_bytes()


def workspace_content(settings: Settings) -> bytes:
    """workspace.yaml with its variables filled in, of the repositories that the stack runs.

    They are filled in here, as a running process lacks those that were added since it started.

    Raises:
        WorkspaceError: where it does not name just the repositories of repos.toml.
    """
    locations = yaml.safe_load(WORKSPACE.read_text())["load_from"]
    names = {each["grpc_server"]["location_name"] for each in locations}
    if different := sorted(names ^ set(repositories())):
        raise WorkspaceError(
            f"{WORKSPACE.name} and repos/repos.toml list different repositories: {', '.join(different)} "
            "stands in one of them alone: make generate"
        )
    chosen = [each for each in locations if settings.runs(each["grpc_server"]["location_name"])]
    filled_in = _filled_in(chosen, environment_variables(settings))
    return yaml.safe_dump({"load_from": filled_in}, sort_keys=False).encode()


def place_workspace(settings: Settings, content: bytes) -> None:
    """Write workspace.yaml to where Dagit and the daemon read it, and read it again once it has changed."""
    placed = workspace(settings)
    if not placed.exists() or placed.read_bytes() != content:
        storage.write_atomic(file_url(placed), content)


def _filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with each `env: NAME` replaced by what the variable holds."""
    if isinstance(value, list):
        return [_filled_in(each, variables) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"env"}:
        content = variables[value["env"]]
        return int(content) if content.isdecimal() else content
    return {name: _filled_in(each, variables) for name, each in value.items()}


def prepare() -> None:
    """Bring the instance's tables up to date, and end the runs that were in flight when the stack ended.

    Servers that start together on an empty database would each make its tables, and break them.
    """
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        instance.upgrade()
        _end_runs(instance)
    add_pools()


def _end_runs(instance: "DagsterInstance") -> None:
    """Mark runs as ended that no process of this stack works on: its processes have ended before it starts anew.

    In a home that was copied while its stack ran, they are the original's: whoever cancelled them here would end them
    there.
    """
    from dagster import DagsterRunStatus, RunsFilter

    in_flight = (
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    )
    for run in instance.get_runs(RunsFilter(statuses=in_flight)):
        if run.status == DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, "Its process ended with the stack.")
        else:
            begun = "" if run.status == DagsterRunStatus.STARTED else ", before the run had begun"
            instance.report_run_failed(run, f"Its process ended with the stack{begun}.")


def add_pools() -> None:
    """Tell Dagster of the pools of new repositories.

    Dagster does not know a pool that no run has used yet, and would start its first two runs together. It must not be
    told of a pool that it knows: on Postgres it then goes on in a transaction that has failed (1.13.27).
    """
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        events = instance.event_log_storage
        for pool in set(repositories()) - events.get_concurrency_keys():
            events.initialize_concurrency_limit_to_default(pool)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(prog="python -m deploy.stack.processes.instance", description=__doc__)
    arguments.add_argument("--running", action="store_true", help="the stack runs: add what is new, and no more")
    os.environ.setdefault("DAGSTER_HOME", str(dagster_home(Settings())))
    add_pools() if arguments.parse_args().running else prepare()
