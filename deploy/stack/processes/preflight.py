"""What has to hold before a stack starts: its address, free ports, its database, memory, disk.

Each complaint says what to do.
"""

import re
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil

from deploy.stack.processes import postgres
from deploy.stack.processes.listing import STACK_MARK, Process
from shared_ops.settings import Settings, families

GIB = 2**30
MEMORY_GIB, FAMILY_GIB = 2, 1
"""For what every stack runs, and for each model: its training, its code server and its service. Three train at once."""
DISK_GIB = 6


def complaints(settings: Settings, listed: Sequence[Process]) -> list[str]:
    """What keeps the stack from starting; empty when nothing does."""
    return [
        *(host(settings.host) or ports(settings, listed)),
        *database(settings),
        *memory(psutil.virtual_memory().available, memory_needed(settings)),
        *disk(settings.home, DISK_GIB),
    ]


def ports(settings: Settings, listed: Sequence[Process]) -> list[str]:
    """A complaint for each port of these processes that somebody else has."""
    return [complaint for process in listed for complaint in _port(settings.host, process)]


def taken_ports(settings: Settings) -> list[str]:
    """A complaint for each port of the stack that something has which is not this stack's, whether or not it runs."""
    listed = [Process(name, [], lambda: None, 0, port) for name, port in settings.ports.items()]
    return [complaint for process in listed for complaint in _port(settings.host, process, str(settings.home))]


def host(host: str) -> list[str]:
    """A complaint where the host is no address of this machine."""
    if problem := _unbound(host, 0):
        return [f"SEARCHLOOP_HOST={host} is no address of this machine ({problem.strerror}): leave it unset"]
    return []


def _port(host: str, process: Process, ours: str | None = None) -> list[str]:
    """A complaint where the process's port is taken, be it by another stack than the one in the home `ours`."""
    if process.port and (problem := _unbound(host, process.port)):
        holder = _holder(process.port)
        if ours and _stack_of(holder) == ours:
            return []
        return [
            f"port {process.port} ({process.name}) is taken by {_described(holder) or problem}: "
            "end that, or move this stack with SEARCHLOOP_PORT_BASE"
        ]
    return []


def _unbound(host: str, port: int) -> OSError | None:
    """Why nothing can listen there; port 0: any."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def database(settings: Settings) -> list[str]:
    """A complaint where the database of SEARCHLOOP_POSTGRES_URL does not answer.

    Of the URL only host, port and database are shown: where it is wrong, its password may be anywhere in it.
    """
    if settings.postgres_url is None:
        return []
    import psycopg2
    from psycopg2.extensions import parse_dsn

    try:
        parts = parse_dsn(postgres.dsn(settings))
    except psycopg2.ProgrammingError:
        parts = {}
    if not parts or not re.match(r"postgres(ql)?(\+psycopg2)?://", settings.postgres_url):
        return [
            "SEARCHLOOP_POSTGRES_URL cannot be read: expected postgresql://<user>:<password>@<host>:<port>/<database>"
        ]
    if reason := postgres.ready(settings):
        place = ", ".join(f"{name} {parts[name]}" for name in ("host", "port", "dbname") if name in parts)
        return [
            f"the database of SEARCHLOOP_POSTGRES_URL ({place}) does not answer ({' '.join(reason.split())}): "
            "start it, or leave the setting unset for the embedded one"
        ]
    return []


def _holder(port: int) -> int | None:
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return connection.pid
    return None


def _stack_of(pid: int | None) -> str | None:
    """The home of the stack that a process belongs to; None where it belongs to none, or is another user's."""
    try:
        return psutil.Process(pid).environ().get(STACK_MARK) if pid else None
    except psutil.Error:
        return None


def _described(pid: int | None) -> str | None:
    if pid is None:
        return None
    try:
        stack = _stack_of(pid)
        return f"pid {pid} ({psutil.Process(pid).name()}{f', of the stack in {stack}' if stack else ''})"
    except psutil.Error:
        return f"pid {pid}"


def memory_needed(settings: Settings) -> int:
    """The GiB that have to be available before a stack starts."""
    return MEMORY_GIB + FAMILY_GIB * sum(map(settings.runs, families()))


def memory(available: int, needed: int) -> list[str]:
    """A complaint where fewer bytes are available than so many GiB."""
    if available >= needed * GIB:
        return []
    return [
        f"memory is short: {available / GIB:.1f} GiB available, {needed} needed to train and serve its models: "
        "end something (another stack? make down there), or start some repositories alone (SEARCHLOOP_REPOS)"
    ]


def disk(folder: Path, needed: int) -> list[str]:
    """A complaint where fewer than so many GiB are free on the disk of a folder, which need not be there yet."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free >= needed * GIB:
        return []
    return [
        f"disk is short: {free / GIB:.1f} GiB free at {existing}, {needed} needed for snapshots, caches and "
        "releases: free some, or put the stack elsewhere with SEARCHLOOP_HOME"
    ]
