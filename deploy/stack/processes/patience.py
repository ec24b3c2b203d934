"""How long to wait for a process that starts: as long as it is working, however busy the machine is."""

import time

import psutil

STALLED_SECONDS = 180
"""How long it may do nothing."""
LONGEST_SECONDS = 1800
"""How long it may take in all, whatever it does."""
LOOK_SECONDS = 10
WORK_SECONDS = 0.5
"""Seconds of processor time, since the last work that was seen, that are more than idling takes."""


class Patience:
    """The patience with one process that starts."""

    def __init__(self) -> None:
        self._began = self._worked_at = self._looked_at = time.monotonic()
        self._worked = 0.0

    def is_over(self, pid: int) -> bool:
        """Whether the process, with all that it has started, has stood still for too long; pid 0: it does not run."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at, worked = now, processor_seconds(pid)
            # Less than before: it was started anew.
            if not -WORK_SECONDS < worked - self._worked < WORK_SECONDS:
                self._worked_at, self._worked = now, worked
        return now - self._worked_at > STALLED_SECONDS or now - self._began > LONGEST_SECONDS


def processor_seconds(pid: int) -> float:
    """The processor time that a process and its children have had; 0 where there is none."""
    if not pid:
        return 0.0
    try:
        process = psutil.Process(pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    except psutil.NoSuchProcess:  # one of them has just ended
        return 0.0
    return sum(each.user + each.system for each in times)
