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
        *(_host(settings.host) or ports(settings, listed)),
        *_database(settings),
        *_memory(psutil.virtual_memory().available, sum(map(settings.runs, families()))),
        *_disk(settings.home),
    ]


def ports(settings: Settings, listed: Sequence[Process]) -> list[str]:
    """A complaint for each port of these processes that somebody else has."""
    return [complaint for process in listed for complaint in _port(settings.host, process)]


def _host(host: str) -> list[str]:
    if problem := _unbound(host, 0):
        return [f"SEARCHLOOP_HOST={host} is no address of this machine ({problem.strerror}): leave it unset"]
    return []


def _port(host: str, process: Process) -> list[str]:
    if process.port and (problem := _unbound(host, process.port)):
        return [
            f"port {process.port} ({process.name}) is taken by {_holder(process.port) or problem}: "
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


def _database(settings: Settings) -> list[str]:
    """Of the URL only host, port and database are shown: where it is wrong, its password may be anywhere in it."""
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


def _holder(port: int) -> str | None:
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return _described(connection.pid)
    return None


def _described(pid: int | None) -> str | None:
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        stack = process.environ().get(STACK_MARK)
        return f"pid {pid} ({process.name()}{f', of the stack in {stack}' if stack else ''})"
    except psutil.Error:
        return f"pid {pid}"


def _memory(available: int, models: int) -> list[str]:
    needed = MEMORY_GIB + FAMILY_GIB * models
    if available >= needed * GIB:
        return []
    return [
        f"memory is short: {available / GIB:.1f} GiB available, {needed} needed to train and serve {models} models: "
        "end something (another stack? make down there), or start some repositories alone (SEARCHLOOP_REPOS)"
    ]


def _disk(home: Path) -> list[str]:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free >= DISK_GIB * GIB:
        return []
    return [
        f"disk is short: {free / GIB:.1f} GiB free at {existing}, {DISK_GIB} needed for snapshots, caches and "
        "releases: free some, or put the stack elsewhere with SEARCHLOOP_HOME"
    ]
