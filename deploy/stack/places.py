"""Where a stack keeps what it makes while it runs, and where the checkout keeps what it runs."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from shared_ops.settings import ROOT, Settings

WORKSPACE = ROOT / "workspace.yaml"
LONGEST_SOCKET_NAME = "postgres/.s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103  # bytes in sun_path without the final zero: 107 on Linux, 103 on macOS (unix(7))


def environment(name: str) -> Path:
    """The `bin` folder of an environment in envs/."""
    return ROOT / "envs" / name / ".venv" / "bin"


def dagster_home(settings: Settings) -> Path:
    """DAGSTER_HOME of the stack."""
    return settings.home / "dagster"


def log_file(settings: Settings, process: str) -> Path:
    """Where a process's output goes."""
    return settings.home / "logs" / f"{process}.log"


def sockets(settings: Settings) -> Path:
    """The folder of the Unix sockets: in the home, or in the temporary folder where the home's path is long or odd.

    A socket's path has a hard limit, and Postgres' stands in a URL, so only plain characters will do.
    """
    wanted = settings.home / "sockets"
    fits = len(os.fsencode(wanted / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH
    if fits and re.fullmatch(r"[\w./-]+", str(wanted), re.ASCII):
        return wanted
    return Path(tempfile.gettempdir()) / f"searchloop-{hashlib.sha256(bytes(settings.home)).hexdigest()[:12]}"


def make_sockets(settings: Settings) -> None:
    """Make the folder of the sockets.

    Raises:
        PermissionError: where somebody else made it, in a temporary folder that all may write to.
    """
    folder = sockets(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user; remove it, or set SEARCHLOOP_HOME to a shorter path.")
