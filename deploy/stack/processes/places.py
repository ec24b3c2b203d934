"""Where a stack keeps what it makes while it runs."""

import os
import shlex
import shutil
from pathlib import Path

from shared_ops.settings import ROOT, Settings

WORKSPACE = ROOT / "workspace.yaml"
LOCK = "stack.lock"
MADE = (
    *("cache", "code", "dagster", "environments", "feedback", "logs", "outbox", "postgres", "postgres.unfinished"),
    *("simulation", "snapshots", "sockets", "sources", "staging", "supervisor", LOCK),
)
"""Everything that a stack makes in its home, the lock last: as long as it is there, the home is a stack's."""


class HomeError(RuntimeError):
    """A folder that cannot be a stack's home, and what to do."""


def make_home(settings: Settings) -> Path:
    """Make the home; returns the file by which commands wait for each other there.

    Raises:
        HomeError: where it cannot be made or written to, or already holds files of the names that a stack gives:
            `clean` would remove them, too.
    """
    lock = settings.home / LOCK
    if not is_home(settings) and (held := [name for name in MADE if (settings.home / name).exists()]):
        raise HomeError(
            f"SEARCHLOOP_HOME={settings.home} holds {', '.join(held)}, and no stack runs or ran there: expected a "
            f"folder for the stack alone. Where this is a stack's home that has lost its {LOCK}: "
            f"touch {shlex.quote(str(lock))}"
        )
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise _cannot_be(settings.home, error) from error
    return lock


def _cannot_be(home: Path, error: OSError) -> HomeError:
    return HomeError(
        f"SEARCHLOOP_HOME={home} cannot be a stack's home ({error.strerror}: {error.filename}): "
        "expected a folder that may be made and written to."
    )


def is_home(settings: Settings) -> bool:
    """Whether a stack has been started in the home, ever."""
    return (settings.home / LOCK).exists()


def refuse_no_folder(settings: Settings) -> None:
    """Refuse a home that is no folder and cannot become one, as a path below a file: every look into it would fail.

    Raises:
        HomeError: where it is one; not where it is not made yet.
    """
    try:
        os.scandir(settings.home).close()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot_be(settings.home, error) from error


def refuse_checkout(settings: Settings) -> None:
    """Refuse a home that holds the checkout: what a stack makes would lie among other things.

    Raises:
        HomeError: where the home holds the checkout.
    """
    if ROOT.is_relative_to(settings.home):
        raise HomeError(
            f"SEARCHLOOP_HOME={settings.home} holds the checkout: expected a folder for the stack alone, such as "
            f"{ROOT / 'var'}, which is taken where SEARCHLOOP_HOME is not set."
        )


def clean(settings: Settings) -> list[str]:
    """Remove what a stack has made in its home, and the home if nothing else is in it; returns what else there is.

    Raises:
        HomeError: where there is something that no stack has made.
    """
    if not settings.home.exists():
        return []
    if not is_home(settings):
        raise HomeError(f"{settings.home} does not look like a stack's home (no {LOCK}): nothing was removed.")
    for path in (settings.home / name for name in MADE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    others = sorted(path.name for path in settings.home.iterdir())
    if not others:
        settings.home.rmdir()
    return others


def dagster_home(settings: Settings) -> Path:
    """DAGSTER_HOME of the stack."""
    return settings.home / "dagster"


def workspace(settings: Settings) -> Path:
    """The code locations of the stack, with its own addresses, as Dagit and the daemon read them."""
    return dagster_home(settings) / WORKSPACE.name


def log_file(settings: Settings, process: str) -> Path:
    """Where a process's output goes."""
    return settings.home / "logs" / f"{process}.log"


def make_sockets(settings: Settings) -> None:
    """Make the folder of the sockets.

    Raises:
        PermissionError: where somebody else made it, in a temporary folder that all may write to.
    """
    folder = settings.sockets
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user; remove it, or set SEARCHLOOP_HOME to a shorter path.")
