"""Ends a code server's proxy whose inner process has died, so that the supervisor starts both anew.

`dagster code-server start` is a proxy before an inner process that holds the code, and does not notice when that one
is killed: every call fails until somebody reloads the location. Run under the supervisor.
"""

import logging
import time

import psutil

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
    """Look every second, for ever."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    supervisor, had_inner = Supervisor(Settings()), set[int]()
    while True:
        try:
            states = supervisor.states()
        except NotRunningError:
            return
        proxies = {state.name: state.pid for state in states.values() if state.name.startswith("code-") and state.pid}
        for name in orphaned(proxies, _parents(), had_inner):
            logger.info("%s has lost its inner process: starting it anew", name)
            # Killed, not stopped with its group: runs in flight are of that group, and go on.
            psutil.Process(proxies[name]).kill()
        time.sleep(SECONDS)


if __name__ == "__main__":
    main()
