"""The list of the stack's processes: what each one runs, in which environment, and how one knows that it answers.

Made from repos/repos.toml and the settings. Knows nothing of the supervisor.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.stack.processes import postgres
from deploy.stack.processes.places import dagster_home, workspace
from deploy.stack.processes.shares import CONTROL, SERVING, TRAINING, Share
from shared_ops.release.runtimes import Runtime, client
from shared_ops.settings import ROOT, Settings, code_port_variable, python_of, repositories

STACK_MARK = "SEARCHLOOP_STACK"
"""The variable that every process of a stack holds, set to the stack's home: by it a stack's leftovers are found."""


@dataclass(frozen=True)
class Process:
    """One process of the stack."""

    name: str
    command: list[str]
    ready: Callable[[], str | None]
    """None when it answers, else why it does not."""
    phase: int
    """Processes of a phase start together, once those of the phases before answer: 0 needs no other process, 1 is the
    code servers, which need Postgres, 2 is what needs the code servers."""
    port: int | None = None
    stop_signal: str = "TERM"
    share: Share = SERVING


def environment_variables(settings: Settings) -> dict[str, str]:
    """What the stack's processes find in their environment, beside what they inherit."""
    variables = {
        STACK_MARK: str(settings.home),
        "DAGSTER_HOME": str(dagster_home(settings)),
        "PYTHONUNBUFFERED": "1",
        "SEARCHLOOP_HOME": str(settings.home),
        "SEARCHLOOP_HOST": settings.url_host,
        "SEARCHLOOP_PORT_BASE": str(settings.port_base),
        "SEARCHLOOP_POSTGRES_URL": postgres.url(settings),
        "SEARCHLOOP_REPOS": settings.repos,
        "SEARCHLOOP_READ_FROM": settings.read_from or "",
        "SEARCHLOOP_SOURCES": str(settings.sources),
        # Where a code server tells Dagit whether its code loads: it knows no settings.
        "SEARCHLOOP_DAGIT_URL": settings.url("dagit"),
        # A busy machine may need longer to start a run; a call that is given up meanwhile would start it twice.
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",
        # The daemon looks at every asset, and no asset here states a freshness policy.
        "FRESHNESS_DAEMON_INTERVAL_SECONDS": "600",
        **_own_addresses_without_proxy(settings),
    }
    for name in repositories():
        variables[code_port_variable(name)] = str(settings.ports[f"code-{name}"])
    return variables


def _own_addresses_without_proxy(settings: Settings) -> dict[str, str]:
    """What keeps gRPC, which obeys http_proxy, from asking a proxy for the stack's own addresses."""
    exceptions = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = dict.fromkeys([*filter(None, exceptions.split(",")), settings.host, "localhost", "127.0.0.1", "::1"])
    return dict.fromkeys(("no_proxy", "NO_PROXY", "no_grpc_proxy"), ",".join(hosts))


def processes(settings: Settings) -> list[Process]:
    """Every process of the stack but the prediction services' workers, in the order in which they start."""
    listed = [] if settings.postgres_url else [_postgres(settings)]
    listed += [_search(settings)]
    listed += [_code_server(settings, name) for name in repositories() if settings.runs(name)]
    return [*listed, _webserver(settings), _daemon(settings), _watch()]


def _postgres(settings: Settings) -> Process:
    command = [*_platform(), "-m", "deploy.stack.processes.postgres"]
    # SIGINT is Postgres' fast shutdown: clean, without waiting for its clients to leave.
    return Process("postgres", command, lambda: postgres.ready(settings), phase=0, stop_signal="INT", share=CONTROL)


def _code_server(settings: Settings, name: str) -> Process:
    port = settings.ports[f"code-{name}"]
    command = [
        *_dagster(repositories()[name].environment, "dagster"),
        *("code-server", "start"),
        *("-h", settings.url_host, "-p", str(port)),
        *("-m", f"repos.{name}.definitions", "-d", str(ROOT), "--location-name", name),
        # Else a run starts with whichever `dagster` is first on the path, in another environment.
        "--use-python-environment-entry-point",
        "--inject-env-vars-from-instance",
        *("--startup-timeout", "600"),
        # How long the inner process outlives a proxy that was killed.
        *("--heartbeat-ttl", "40"),
    ]
    return Process(f"code-{name}", command, _listens(settings.host, port), phase=1, port=port, share=TRAINING)


def _dagster(name: str, command: str) -> list[str]:
    """One of Dagster's commands, in an environment."""
    return [str(python_of(name)), "-m", "deploy.stack.processes.paced", command]


def _platform() -> list[str]:
    return [str(python_of("platform"))]


def _webserver(settings: Settings) -> Process:
    command = [*_platform(), "-m", "deploy.stack.processes.webserver"]
    ready = answers(f"{settings.url('dagit')}/server_info")
    return Process("dagit", command, ready, phase=2, port=settings.ports["dagit"], share=CONTROL)


def _daemon(settings: Settings) -> Process:
    command = [*_dagster("platform", "dagster-daemon"), "run", "-w", str(workspace(settings))]
    return Process("daemon", command, lambda: None, phase=2, share=CONTROL)


def _watch() -> Process:
    # The same share as the services: a supervisor that it starts in place of one that was killed hands its own on.
    return Process("watch", [*_platform(), "-m", "deploy.stack.processes.watch"], lambda: None, phase=2, share=SERVING)


def worker(settings: Settings, runtime: Runtime) -> Process:
    """The process that answers with a family's releases of one code and environment.

    Raises:
        CodeError: when the code is not in its store, or is not what its hash says.
        RuntimeMissingError: when there is no such environment here.
    """
    socket_file, port = runtime.socket(settings), settings.ports.get(runtime.family)
    command = [
        *("env", *(f"{name}={value}" for name, value in runtime.variables(settings).items())),
        *(str(runtime.provide(settings)), "-m", "services.prediction", runtime.family),
        *("--socket", str(socket_file), "--port", str(port or 0)),
        *("--code", runtime.code, "--environment", runtime.environment),
    ]
    return Process(runtime.worker, command, answers_at(socket_file), phase=0, port=port)


def _search(settings: Settings) -> Process:
    command = [str(python_of("search")), "-m", "services.search"]
    port = settings.ports["search"]
    return Process("search", command, answers(f"{settings.url('search')}/health"), phase=0, port=port)


def _listens(host: str, port: int) -> Callable[[], str | None]:
    def ready() -> str | None:
        try:
            socket.create_connection((host, port), timeout=2).close()
        except OSError as error:
            return f"nothing listens on {host}:{port} ({error})"
        return None

    return ready


def answers(url: str, socket_file: Path | None = None) -> Callable[[], str | None]:
    """A check whether `url` answers. Any answer will do: before a first live set, a service says that it has none."""

    def ready() -> str | None:
        try:
            with client(socket_file, 2) as asking:
                asking.get(url)
        except httpx.HTTPError as error:
            return f"{socket_file or url} does not answer ({error})"
        return None

    return ready


def answers_at(socket_file: Path) -> Callable[[], str | None]:
    """As `answers`, for a worker, which listens on a socket."""
    return answers("http://localhost/health", socket_file)
