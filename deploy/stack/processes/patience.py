"""How long to wait for what starts: as long as it gets further, however busy the machine is."""

import time
from collections.abc import Callable, Sequence

import psutil

from deploy.stack.processes.supervisor import NotRunningError, State, Supervisor
from shared_ops.settings import Settings
from shared_ops.waiting import until

STALLED_SECONDS = 180
"""How long nothing may move."""
LONGEST_SECONDS = 1800
"""How long it may take in all, whatever moves."""
LOOK_SECONDS = 10
WORK_SECONDS = 0.5
"""Seconds of processor time, since the last work that was seen, that are more than a process's idling takes."""
IDLE_CORES = 0.2
"""Cores that a stack may take and yet count as idle: what it takes (docs/load.md), and as much for asking it."""
SPARE_CORES = 0.1
"""Cores that a machine must have to spare: where it has less, who does little may be waiting for its turn."""
TELL_SECONDS = 60
"""How often it is said what is still waited for."""


class _Clock:
    """Runs out once nothing has moved for too long, or the whole takes too long."""

    def __init__(self) -> None:
        self._began = self._moved_at = time.monotonic()

    def note_move(self) -> None:
        self._moved_at = time.monotonic()

    def has_run_out(self) -> bool:
        now = time.monotonic()
        return now - self._moved_at > STALLED_SECONDS or now - self._began > LONGEST_SECONDS


class Patience:
    """The patience with one process that starts."""

    def __init__(self) -> None:
        self._clock, self._looked_at, self._worked = _Clock(), time.monotonic(), 0.0

    def is_over(self, pid: int) -> bool:
        """Whether the process, with all that it has started, has stood still for too long; pid 0: it does not run."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at, worked = now, processor_seconds(pid)
            # Less than before: it was started anew.
            if not -WORK_SECONDS < worked - self._worked < WORK_SECONDS:
                self._worked = worked
                self._clock.note_move()
        return self._clock.has_run_out()


class StackPatience:
    """The patience with a whole stack, whose processes run: with the loading of its code, or of its models."""

    def __init__(self, settings: Settings) -> None:
        self._supervisor, self._logs = Supervisor(settings), settings.home / "logs"
        self._clock, self._looked_at = _Clock(), time.monotonic()
        self._seen: object = None
        self._worked = self._idle = 0.0

    def is_over(self, lacking: str) -> bool:
        """Whether the stack has stood still for too long.

        It has not where something else than before is `lacking`, a process was started or ended, or a log has another
        line; nor where it took more of the processor than idling does, or all of the processor was taken. So for a
        process that dies again and again it is waited until LONGEST_SECONDS, and said each minute.
        """
        states = self._states()
        seen = lacking, [(each.name, each.state, each.pid) for each in states], self._log_sizes()
        if seen != self._seen or self._works(states):
            self._seen = seen
            self._clock.note_move()
        return self._clock.has_run_out()

    def _states(self) -> list[State]:
        try:
            return list(self._supervisor.states().values())
        except NotRunningError:  # it is being replaced
            return []

    def _log_sizes(self) -> list[tuple[str, int]]:
        return sorted((log.name, log.stat().st_size) for log in self._logs.glob("*.log"))

    def _works(self, states: Sequence[State]) -> bool:
        """Whether the stack has worked since the last look, or had no core to work on; False between two looks."""
        seconds = time.monotonic() - self._looked_at
        if seconds < LOOK_SECONDS:
            return False
        worked, idle = sum(processor_seconds(each.pid) for each in states), psutil.cpu_times().idle
        took, spare = (worked - self._worked) / seconds, (idle - self._idle) / seconds
        self._looked_at, self._worked, self._idle = time.monotonic(), worked, idle
        return not 0 <= took < IDLE_CORES or spare < SPARE_CORES  # below 0: something was started anew


def wait_for_stack(
    settings: Settings, look: Callable[[], str | None], say: Callable[[str], None], every: float
) -> str | None:
    """Wait for what a running stack is to become: until `look`, which says what is lacking, finds nothing.

    Says now and then what is lacking. Returns None; or what is lacking still where the patience with the stack is over.
    """
    patience, told_at = StackPatience(settings), time.monotonic()

    def is_done(lacking: str | None) -> bool:
        nonlocal told_at
        if lacking is not None and time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            say(f"still waiting: {lacking}")
        return lacking is None or patience.is_over(lacking)

    return until(look, is_done, every=every)


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
