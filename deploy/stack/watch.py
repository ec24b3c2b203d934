"""Watches what the supervisor cannot see: the inner processes of the code servers, and the supervisor itself.

`dagster code-server start` is a proxy before an inner process that holds the code, and does not notice when that one
is killed: every call fails until somebody reloads the location. So the proxy is ended, and the supervisor starts both
anew. A supervisor that is killed leaves its processes behind with nobody to restart them: the stack is started anew.
Run under the supervisor.
"""

import logging
import os
import sys
import time
from contextlib import suppress

import psutil

from deploy.stack import lifecycle, places, postgres
from deploy.stack.supervisor import NotRunningError, Supervisor
from shared_ops.settings import Settings

SECONDS = 1.0
logger = logging.getLogger("deploy.stack.watch")


def orphaned(proxies: dict[str, int], parents: set[int], had_inner: set[int]) -> list[str]:
    """The names of the proxies (name to pid) that had an inner process when last looked at, and have none now.

    `parents` are the pids that have a child now; `had_inner`, what was seen before, is brought up to date. A proxy
    whose code cannot be loaded has never had one, and shows its error: it is left alone.
    """
    lost = [name for name, pid in proxies.items() if pid in had_inner and pid not in parents]
    had_inner.clear()
    had_inner.update(parents.intersection(proxies.values()))
    return lost


def _parents() -> set[int]:
    """The pids of all processes that have a living child."""
    living = (process.info for process in psutil.process_iter(["ppid", "status"]))
    return {info["ppid"] for info in living if info["status"] != psutil.STATUS_ZOMBIE}


def main() -> None:
    """Look every second, for as long as the supervisor that started this lives."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    supervisor, started_by, had_inner = Supervisor(Settings()), os.getppid(), set[int]()
    while os.getppid() == started_by:
        time.sleep(SECONDS)
        with suppress(NotRunningError):  # it is just starting, or just ending
            states = supervisor.states().values()
            proxies = {state.name: state.pid for state in states if state.name.startswith("code-") and state.pid}
            for name in orphaned(proxies, _parents(), had_inner):
                logger.info("%s has lost its inner process: starting it anew", name)
                with suppress(psutil.NoSuchProcess):  # it has ended of itself
                    # Killed, not stopped with its group: runs in flight are of that group, and go on.
                    psutil.Process(proxies[name]).kill()
    recover(postgres.settings_of_starter())


def recover(settings: Settings) -> None:
    """Start the stack anew after its supervisor was killed: end what it left behind, then start everything.

    Does nothing where the home is gone: then the stack was thrown away.
    """
    log = places.log_file(settings, "watch")
    if not log.exists():
        return
    # The pipe to the supervisor is broken: what this process and its children say goes straight to the log.
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    logger.info("the supervisor was killed: starting the stack anew")
    lifecycle.start(settings, logger.info)


if __name__ == "__main__":
    main()
