# environment: platform
"""How long a code server takes from its start until it has its code loaded, and what it then holds in memory.

    envs/platform/.venv/bin/python -m bench.code_servers

Needs a running stack (`make up`; nothing trained is needed). Each location's code server is started once more beside
the one that runs, on a port of its own, one after the other; the second of two starts counts, as the first reads the
packages from the disk.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient

from bench._figures import tell, where
from deploy.stack.processes import lifecycle, listing
from shared_ops.settings import ROOT, Settings, repositories
from shared_ops.waiting import until

SECONDS = 120
"""How long a start is waited for."""


def main() -> None:
    """Start each location's code server, and print its seconds and its memory."""
    settings = Settings()
    lifecycle.need_running(settings)
    print(f"{where()}, beside the running stack")
    measured = {name: [started(settings, name) for _ in range(2)][-1] for name in repositories()}
    for name, (seconds, memory) in measured.items():
        print(f"{name:<10} {seconds:5.2f} s   {memory:5.0f} MB")
    tell("a code server's start: slowest", max(seconds for seconds, _ in measured.values()))
    tell("a code server's memory: largest", max(memory for _, memory in measured.values()))


def started(settings: Settings, name: str) -> tuple[float, float]:
    """Seconds from a code server's start until it tells its jobs, and the MB of memory that are its share (PSS)."""
    port = free_port()
    with running(settings, name, port) as process:
        began = time.perf_counter()
        client = DagsterGrpcClient(port, host=settings.url_host)

        def loaded() -> bool:
            with suppress(DagsterUserCodeUnreachableError):
                return bool(client.list_repositories())
            return False

        if not until(loaded, every=0.02, seconds=SECONDS):
            raise RuntimeError(f"{name}'s code server has not loaded its code within {SECONDS} s")
        seconds = time.perf_counter() - began
        server = max(psutil.Process(process.pid).children(), key=lambda child: child.create_time())
        return seconds, server.memory_full_info().pss / 2**20


def free_port() -> int:
    """A port that nothing has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(settings: Settings, name: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A code server as the stack starts it, on another port, while the block runs."""
    (process,) = [each for each in listing.processes(settings) if each.name == f"code-{name}"]
    command = [str(port) if part == str(process.port) else part for part in process.command]
    environment = os.environ | listing.environment_variables(settings)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    ) as server:
        try:
            yield server
        finally:
            os.killpg(server.pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
