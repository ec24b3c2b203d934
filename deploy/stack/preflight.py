"""What has to hold before a stack starts: free ports, memory, disk. Each complaint says what to do."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import psutil

from deploy.stack.processes import STACK_MARK, Process
from shared_ops.settings import Settings

GIB = 2**30
MEMORY_GIB = 6
"""Four models trained, three of them side by side, and five code servers."""
DISK_GIB = 6


def complaints(settings: Settings, listed: Sequence[Process]) -> list[str]:
    """What keeps the stack from starting; empty when nothing does."""
    return [
        *(complaint for process in listed if process.port for complaint in _port(settings.host, process)),
        *_memory(psutil.virtual_memory().available),
        *_disk(settings.home),
    ]


def _port(host: str, process: Process) -> list[str]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, process.port))
        except OSError as error:
            return [
                f"port {process.port} ({process.name}) is taken by {_holder(process.port or 0) or error}: "
                "end that, or move this stack with SEARCHLOOP_PORT_BASE"
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


def _memory(available: int) -> list[str]:
    if available >= MEMORY_GIB * GIB:
        return []
    return [
        f"memory is short: {available / GIB:.1f} GiB available, {MEMORY_GIB} needed to train and serve four models: "
        "end something (another stack? make down there)"
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
