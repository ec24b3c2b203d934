"""Dagster's own commands, whose processes look at each other every few seconds, and not every second.

    python -m deploy.stack.processes.paced dagster code-server start ...    (in any environment: it needs Dagster alone)

Dagster's own constants make an idle stack do this:

- Dagit and the daemon ask every code server once a second whether it is still the one that they know, over two hops.
- The proxy in front of a code server tells it once a second that it is there.
- The main thread of a gRPC server looks ten times a second whether it is to end, though the end would wake it, too.
- The daemon fetches all definitions of all code servers once a minute: two seconds of processor time for five of them.
  It does so to notice a code server that somebody else started anew.
- Every call to a code server opens a connection of its own.

Together that was half of what an idle stack took.

A code server is guarded, besides: code that does not load never replaces code that works (guarded.py).

The daemon follows the workspace.yaml in DAGSTER_HOME, which names the code servers, as soon as it is changed.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

WATCH_SECONDS = 10
"""Seconds between two looks of Dagit and the daemon at a code server."""
HEARTBEAT_SECONDS = 10
"""Seconds between two signs of life to a code server, which ends by itself after --heartbeat-ttl without any."""

WAIT_SECONDS = 5
"""Seconds that the main thread of a gRPC server sleeps at a time; what it waits for, and any signal, wakes it."""

RELOAD_SECONDS = 300
"""Seconds between two times that the daemon fetches all definitions. Those of a code server that was started anew it
fetches at its next look at it."""


def pace() -> None:
    """Make this process look at others less often."""
    from dagster._daemon import controller
    from dagster._grpc import client, server, server_watcher
    from grpc import _common

    server_watcher.WATCH_INTERVAL = WATCH_SECONDS
    client.CLIENT_HEARTBEAT_INTERVAL = HEARTBEAT_SECONDS
    client.DagsterGrpcClient._channel = _kept(client.DagsterGrpcClient._channel)  # type: ignore[method-assign]
    controller.RELOAD_WORKSPACE_INTERVAL = RELOAD_SECONDS
    # How old definitions may become before the daemon ends itself: a fetch that fails is tried again meanwhile.
    controller.DEFAULT_WORKSPACE_FRESHNESS_TOLERANCE = 2 * RELOAD_SECONDS
    _common.MAXIMUM_WAIT_TIMEOUT = WAIT_SECONDS
    # The code server behind the proxy is started in this way, too.
    server.get_python_environment_entry_point = _paced_dagster  # type: ignore[attr-defined]


class FileWatch:
    """Tells a change of a file: a call says whether there was one since the call before, or since this was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = path.stat().st_mtime_ns

    def __call__(self) -> bool:
        """Whether the file was changed."""
        before, self._seen = self._seen, self._path.stat().st_mtime_ns
        return self._seen != before


def _following(check: Any, changed: Callable[[], bool]) -> Any:
    """The daemon's `check`, which fetches all definitions when that is due, or a file has `changed`."""

    def check_workspace_freshness(controller: Any, last: float) -> float:
        due = changed()
        fresh: float = check(controller, min(last, time.time() - RELOAD_SECONDS - 1) if due else last)
        return fresh

    return check_workspace_freshness


def _kept(opened: Any) -> Any:
    """A context manager in place of `opened`, which opens a gRPC channel and closes it at the block's end.

    A client's first block opens its channel, and all later ones use the same, until a call in one of them fails: then
    the next block opens another.
    """

    @contextmanager
    def channel(client: Any) -> Iterator[Any]:
        block, kept = vars(client).get(_KEPT) or _entered(opened(client))
        vars(client)[_KEPT] = block, kept
        try:
            yield kept
        except BaseException:
            # Forgotten, not closed: it closes when the last call that still uses it has let go of `block`.
            vars(client)[_KEPT] = None
            raise

    return channel


_KEPT = "_kept_channel"


def _entered(block: Any) -> tuple[Any, Any]:
    return block, block.__enter__()


def _paced_dagster(executable_path: str) -> list[str]:
    """A replacement of Dagster's function: the command by which a process starts another of Dagster's commands."""
    return [executable_path, "-m", "deploy.stack.processes.paced", "dagster"]


def _tick_only_where_it_helps() -> None:
    from deploy.stack.processes import calm
    from shared_ops.settings import current

    calm.hold_where_runs_would_fail(current())
    if watch := calm.idle_watch(current()):
        calm.slow_down_by(watch)


def main(command: str, *arguments: str) -> None:
    """Run a command that Dagster installs, in this process.

    Raises:
        KeyError: where this environment has no such command.
    """
    # A shell that starts a stack in the background has it ignore SIGINT; Dagster would then ignore SIGTERM, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pace()
    if arguments[:2] == ("code-server", "start"):
        from deploy.stack.processes.guarded import guard

        guard()
    if arguments[:2] == ("api", "grpc"):
        from deploy.stack.processes import spare

        spare.tell()
    if command == "dagster-daemon":
        from dagster._daemon.controller import DagsterDaemonController as Controller

        changed = FileWatch(Path(os.environ["DAGSTER_HOME"]) / "workspace.yaml")
        following = _following(Controller.check_workspace_freshness, changed)
        Controller.check_workspace_freshness = following  # type: ignore[method-assign]
        _tick_only_where_it_helps()
        from deploy.stack.processes.lost_runs import overlook_none

        overlook_none()
    sys.argv = [command, *arguments]
    entry_points(group="console_scripts")[command].load()()


if __name__ == "__main__":
    main(*sys.argv[1:])
