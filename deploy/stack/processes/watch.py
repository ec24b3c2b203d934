"""Watches what the supervisor cannot see: the inner processes of the code servers, and the supervisor itself.

`dagster code-server start` is a proxy in front of an inner process that holds the code. The proxy does not notice when
that one is killed: every call fails until somebody reloads the location. So the proxy is ended, and the supervisor
starts both anew. A supervisor that is killed leaves its processes behind with nobody to restart them: a new one is
started, which keeps them. It also keeps the logs short, and has the prediction services' workers come and go with the
sets that need them. Run under the supervisor.
"""

import logging
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.stack.processes import lifecycle, places, postgres, workers
from deploy.stack.processes.spare import is_spare
from deploy.stack.processes.supervisor import NotRunningError, Supervisor
from shared_ops.settings import Settings
from shared_ops.waiting import until

SECONDS = 3.0
LOG_BYTES = 10 * 2**20
logger = logging.getLogger("deploy.stack.processes.watch")


def orphaned(proxies: dict[str, int], inner: dict[int, psutil.Process]) -> list[str]:
    """The names of the proxies (name to pid) that had an inner process when last looked at, and have none now.

    `inner`, the inner process of each proxy's pid as it was last seen, is brought up to date. A proxy whose code cannot
    be loaded has never had one, and shows its error: it is left alone.
    """
    lost = []
    for name, pid in proxies.items():
        if pid in inner and _lives(inner[pid]):
            continue  # most looks end here: finding children means reading of every process of the machine
        if (child := _child(pid)) is not None:
            inner[pid] = child
        elif inner.pop(pid, None):
            lost.append(name)
    for gone in inner.keys() - proxies.values():
        del inner[gone]
    return lost


def _child(pid: int) -> psutil.Process | None:
    """A living child of a proxy, but for its spare."""
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        return next(
            (child for child in psutil.Process(pid).children() if _lives(child) and not is_spare(child.pid)), None
        )
    return None


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def shorten(log: Path) -> None:
    """Move a log's lines to `<log>.1` once they are many. Its writer goes on: what it says meanwhile may be lost."""
    if log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def main() -> None:
    """Look every few seconds, for as long as the supervisor that started this lives."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    threading.Thread(target=workers.keep_up, name="workers", daemon=True).start()
    settings, inner = Settings(), dict[int, psutil.Process]()
    supervisor = Supervisor(settings)
    # Not the parent: where the supervisor has ended before this line, that is another process by now.
    started_by = int((supervisor.folder / "supervisord.pid").read_text())
    while not _ended(started_by):
        with suppress(NotRunningError):  # it is just starting, or just ending
            states = supervisor.states().values()
            proxies = {state.name: state.pid for state in states if state.name.startswith("code-") and state.pid}
            for name in orphaned(proxies, inner):
                logger.info("%s has lost its inner process: starting it anew", name)
                with suppress(psutil.NoSuchProcess):  # it has ended of itself
                    # Killed, not stopped with its group: runs in flight are of that group, and go on.
                    psutil.Process(proxies[name]).kill()
        for log in places.log_file(settings, "watch").parent.glob("*.log"):
            shorten(log)
    if places.log_file(settings, "watch").exists():  # else the home is gone: the stack was thrown away
        logger.info("the supervisor was killed: starting another")
        supervisor.forget("watch")  # this one ends here
        until(lambda: _recovered(postgres.settings_of_starter()), every=SECONDS)


def _recovered(settings: Settings) -> bool:
    try:
        lifecycle.recover(settings, logger.info)
    except RuntimeError as error:  # it did not come up, or was killed, too
        logger.error("%s", error)
        return False
    return True


def _ended(pid: int) -> bool:
    """Whether a process has ended, after waiting for that for up to `SECONDS`."""
    with suppress(psutil.NoSuchProcess):
        try:
            psutil.Process(pid).wait(SECONDS)
        except psutil.TimeoutExpired:
            return False
    return True


if __name__ == "__main__":
    main()
