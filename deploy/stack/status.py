"""The state of a stack, for people: processes, code locations, runs, failures, and models that searches lacked."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import psutil
from rich.table import Table

from deploy.stack import history
from deploy.stack.dagit.client import Dagit, DagitError
from deploy.stack.dagit.training import failed_of_prod
from deploy.stack.processes import workers
from deploy.stack.processes.listing import answers_at, processes
from deploy.stack.processes.shares import SERVING, TRAINING, training_gib
from deploy.stack.processes.supervisor import State, Supervisor
from deploy.stack.search.searching import lacking_lines
from deploy.stack.terminal import cut
from shared_ops.refused import mended_by, refused_code
from shared_ops.release.agreement import disagreements
from shared_ops.release.livesets import LiveSets
from shared_ops.release.runtimes import socket_of
from shared_ops.settings import Settings, repositories

LEAVES = "; no set needs it, and it ends soon"
UNKNOWN = State("", "not started yet: make up", 0, 0)
"""A process that repos.toml has gained since the stack started."""


class Found(NamedTuple):
    """How a process of the stack was found."""

    name: str
    state: State
    port: int | None
    reason: str | None
    """Why it does not answer; None where it does, or is asked nothing."""
    leaves: bool = False
    """Whether it is a worker that no set needs any more: it ends once its time of grace is over."""


def found(settings: Settings) -> Iterator[Found]:
    """The processes of a running stack, the workers first.

    Raises:
        NotRunningError: when the stack does not run.
    """
    supervisor = Supervisor(settings)
    states = supervisor.states()
    sets = LiveSets(settings.staging_url("prod"))
    live = {each.worker for each in workers.of_set(sets, sets.live())}
    needed = {each.worker for each in workers.required_runtimes(sets)}
    for name in supervisor.workers():
        # The worker of the live set answers there; before the first set nothing is needed, and nothing is ended.
        port = settings.ports.get(name.rpartition("-")[0]) if name in live or not live else None
        worker = _found(name, states.get(name, UNKNOWN), port, answers_at(socket_of(name, settings)))
        yield worker._replace(leaves=bool(needed) and name not in needed)
    for process in processes(settings):
        yield _found(process.name, states.get(process.name, UNKNOWN), process.port, process.ready)


def _found(name: str, state: State, port: int | None, ready: Callable[[], str | None]) -> Found:
    return Found(name, state, port, ready() if state.pid else "no")


def table(settings: Settings) -> Table:
    """The processes, one a row.

    Raises:
        NotRunningError: when the stack does not run.
    """
    rows = Table("process", "state", "pid", "nice", "up for", "port", "answers")
    for name, state, port, reason, leaves in found(settings):
        up_for = f"{state.seconds} s" if state.pid else ""
        answering = f"{reason or 'yes'}{LEAVES if leaves else ''}"
        rows.add_row(name, state.state, str(state.pid or ""), _niceness(state.pid), up_for, str(port or ""), answering)
    return rows


def _niceness(pid: int) -> str:
    """The priority of a process as the kernel has it: who has more gives way."""
    with suppress(psutil.NoSuchProcess):
        return str(psutil.Process(pid).nice()) if pid else ""
    return ""


def lines(settings: Settings) -> Iterator[str]:
    """Everything else, a line each."""
    if settings.repos:
        yield f"SEARCHLOOP_REPOS: this stack runs {', '.join(settings.repos.split())} alone"
    yield (
        f"trainings: nice {TRAINING.nice} beside the services' {SERVING.nice}, {TRAINING.threads} threads, at most "
        f"{training_gib(settings):.3g} GiB each (SEARCHLOOP_TRAINING_GIB)"
    )
    try:
        yield from _dagit_lines(Dagit(settings.url("dagit")))
    except DagitError as error:
        yield str(error)
    yield from _refused_lines(settings)
    yield from lacking_lines(settings)
    yield from history.held_lines(settings)
    yield from history.live_lines(settings)
    for line in disagreements(settings):
        yield f"not as the live set says: {line}"
    yield from history.rejected_lines(settings)
    yield from map(cut, history.moved_lines(settings))


def _refused_lines(settings: Settings) -> Iterator[str]:
    for refused in filter(None, (refused_code(name, settings) for name in repositories())):
        yield f"not as saved: {refused.sentence} Mend it, then: {mended_by(refused.location)}"


def _dagit_lines(dagit: Dagit) -> Iterator[str]:
    for location, error in dagit.load_errors().items():
        yield f"code location {location}: {error or 'loaded'}"
    if unhealthy := dagit.unhealthy_daemons():
        yield f"daemons not heard of lately: {', '.join(unhealthy)}"
    for run in dagit.in_flight():
        yield f"{run.status.lower()}: {run.job} (run {run.run_id[:8]})"
    for failed in failed_of_prod(dagit):
        yield f"failed: {failed.job} (run {failed.run_id[:8]}, {failed.ended:%Y-%m-%d %H:%M} UTC): {failed.cause}"
