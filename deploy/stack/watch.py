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


def orphaned(proxies: dict[str, int], inner: dict[int, bool]) -> list[str]:
    """The names of the proxies (name to pid) that had an inner process when last looked at, and have none now.

    `inner` is what was seen of each pid, and is brought up to date. A proxy whose code cannot be loaded has never had
    one, and shows its error: it is left alone.
    """
    lost = []
    for name, pid in proxies.items():
        has_one = _has_inner(pid)
        if inner.get(pid) and not has_one:
            lost.append(name)
        inner[pid] = has_one
    return lost


def _has_inner(pid: int) -> bool:
    try:
        children = psutil.Process(pid).children()
        return any(child.status() != psutil.STATUS_ZOMBIE for child in children)
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Look every second, for ever."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    supervisor, inner = Supervisor(Settings()), dict[int, bool]()
    while True:
        try:
            states = supervisor.states()
        except NotRunningError:
            return
        proxies = {state.name: state.pid for state in states.values() if state.name.startswith("code-") and state.pid}
        for name in orphaned(proxies, inner):
            logger.info("%s has lost its inner process: starting it anew", name)
            # Killed, not stopped with its group: runs in flight are of that group, and go on.
            psutil.Process(proxies[name]).kill()
        time.sleep(SECONDS)


if __name__ == "__main__":
    main()
