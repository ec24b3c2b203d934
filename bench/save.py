# environment: platform
"""How long a save takes until Dagit's GraphQL shows it, with all code locations up and a watcher at work (`make dev`).

    envs/platform/.venv/bin/python -m bench.save

Needs no running stack: it makes a copy of the checkout with environments of its own, and starts a stack there, which
it does not train. Each save gives the first family that searches another job. The other locations' code servers have
to be the same processes afterwards. At last shared_ops is saved, which all locations reload.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from dagster._grpc.client import DagsterGrpcClient

from bench._figures import tell, where
from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.queries import REPOSITORY
from deploy.stack.processes import lifecycle
from shared_ops.settings import ROOT, Settings, repositories, search_families
from shared_ops.waiting import until
from tests.conftest import own_stack
from tests.drills.checkouts import Checkout

SAVES = 20
PAUSE_SECONDS = 8
"""Between two saves: a person's. A code server has a spare again after 3 of them, where nothing else goes on."""
WARM_SECONDS = 80
"""After which all code servers have a spare for the first time."""
SECONDS = 120
"""How long a save is waited for."""
FAMILY = search_families()[0]
JOBS = """
query ($location: String!, $repository: String!) {
  repositoryOrError(repositorySelector: {repositoryLocationName: $location, repositoryName: $repository}) {
    ... on Repository { jobs { name } }
  }
}"""
ANOTHER_JOB = """

from dagster import Definitions, job


@job
def {name}() -> None: ...


defs = Definitions.merge(defs, Definitions(jobs=[{name}]))
"""


def main() -> None:
    """Make the copy, and measure there."""
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Checkout.copied(Path(scratch) / "checkout")
        stack = own_stack(Path(scratch) / "home", checkout.root)
        subprocess.run([sys.executable, "envs/build.py", "sync"], cwd=checkout.root, check=True)
        command = ["envs/platform/.venv/bin/python", "-W", "ignore", "-m", "bench.save", "--here"]
        try:
            done = subprocess.run(command, cwd=checkout.root, env=stack.environment, check=False)
        finally:
            stack.make("down", check=False)
        sys.exit(done.returncode)


def here() -> None:
    """Measure in this checkout, which is changed."""
    settings, dagit = Settings(), Dagit(Settings().url("dagit"))
    lifecycle.start(settings, lambda line: None)
    lifecycle.wait_for_locations(settings, dagit, list(repositories()), print)
    with watching():
        time.sleep(WARM_SECONDS)
        print(f"{where()}, {SAVES} saves, {len(repositories())} locations")
        before = server_ids(settings)
        with httpx.Client(base_url=settings.url("dagit"), timeout=SECONDS, trust_env=False) as client:
            took = sorted(saved(client, number) for number in range(SAVES))
        same = [name for name, server in server_ids(settings).items() if before[name] == server]
        tell("a save until Dagit shows it: median", statistics.median(took))
        tell("a save until Dagit shows it: worst", took[-1])
        print(f"the same code server: {len(same)} of the {len(repositories()) - 1} other locations")
        print(f"a save of shared_ops: {saved_shared(settings):5.2f} s until all {len(repositories())} have it")
        print(f"load {os.getloadavg()[0]:.1f} at the end")
    if same != [name for name in repositories() if name != FAMILY]:
        sys.exit("another location was touched")


@contextmanager
def watching() -> Iterator[None]:
    """`make dev`'s watcher while the block runs."""
    command = [sys.executable, "-W", "ignore", "-m", "deploy.stack", "dev"]
    with subprocess.Popen(command, cwd=ROOT) as watcher:
        try:
            yield
        finally:
            watcher.terminate()


def saved(client: httpx.Client, number: int) -> float:
    """Seconds from saving another job of the family until Dagit shows it."""
    time.sleep(PAUSE_SECONDS)
    path, name = ROOT / "repos" / FAMILY / "definitions.py", f"saved_{number}"
    text = path.read_text().partition("\n\nfrom dagster import")[0] + ANOTHER_JOB.format(name=name)
    began = time.perf_counter()
    path.write_text(text)
    if not until(lambda: name in jobs(client), every=0.05, seconds=SECONDS):
        sys.exit(f"Dagit did not show what was saved within {SECONDS} s")
    return time.perf_counter() - began


def jobs(client: httpx.Client) -> set[str]:
    """The family's jobs, as GraphQL tells them."""
    asked = {"query": JOBS, "variables": {"location": FAMILY, "repository": REPOSITORY}}
    answer = client.post("/graphql", json=asked).raise_for_status().json()
    return {job["name"] for job in answer["data"]["repositoryOrError"]["jobs"]}


def saved_shared(settings: Settings) -> float:
    """Seconds from saving shared_ops until all code servers have loaded it."""
    before, path = server_ids(settings), ROOT / "shared_ops" / "src" / "shared_ops" / "__init__.py"
    began = time.perf_counter()
    path.write_text(f"{path.read_text()}\n")

    def all_reloaded() -> bool:
        return all(before[name] != server for name, server in server_ids(settings).items())

    if not until(all_reloaded, every=0.1, seconds=SECONDS * len(before)):
        sys.exit("some location did not take what was saved in shared_ops")
    return time.perf_counter() - began


def server_ids(settings: Settings) -> dict[str, str]:
    """What each location's code server calls itself: another one for each time that it has loaded code."""
    ports = {name: settings.ports[f"code-{name}"] for name in repositories()}
    return {name: DagsterGrpcClient(port, host=settings.url_host).get_server_id() for name, port in ports.items()}


if __name__ == "__main__":
    here() if "--here" in sys.argv else main()
