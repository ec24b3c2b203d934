"""The prediction services' workers: one for each pair of code and environment that a family's sets need.

Normally one a family. While a set is proposed, or can be gone back to, whose release was made with other code or other
packages, there are two: the new one loads, warms up and checks beside the one that answers. Kept up by `watch`.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import psutil

from deploy.stack.processes import postgres
from deploy.stack.processes.listing import Process, worker
from deploy.stack.processes.supervisor import ENDED, State, Supervisor
from shared_ops.release import codes, runtimes
from shared_ops.release.codes import CodeError
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseError
from shared_ops.release.runtimes import Runtime, RuntimeMissingError
from shared_ops.settings import ROOT, Settings, families

SECONDS = 0.5
"""Between two looks at which sets are live and proposed."""
LONGEST_SECONDS = 3600.0
"""Between two tries to start what could not be started: each takes twice as long to come as the one before."""
logger = logging.getLogger("deploy.stack.processes.workers")


def first(settings: Settings) -> list[Runtime]:
    """What a stack's start waits for: what answers; before any set is, what the checkout's code would need.

    What is proposed, or can be gone back to, comes by `keep_up`: where it cannot be, the stack starts all the same.
    """
    sets = LiveSets(settings.staging_url("prod"))
    if live := sets.live() or sets.proposed():
        return list(_of(sets, live))
    return [runtimes.keep(family, codes.tree(family), settings) for family in families()]


def needed(sets: LiveSets) -> list[Runtime]:
    """What the live set's releases run with, the proposed one's, and those of the set that one would go back to."""
    live, proposed = sets.live(), sets.proposed()
    before = _of(sets, sets.before(live) if live else None)
    # A family that is listed no more ends with the last set that needs it; a rollback starts it again.
    back = [each for each in before if each.family in families()]
    return list(dict.fromkeys([*_of(sets, live), *_of(sets, proposed), *back]))


def _of(sets: LiveSets, chosen: LiveSet | None) -> Iterator[Runtime]:
    for family, version in chosen.releases.items() if chosen else []:
        try:
            yield runtimes.of_release(sets.url, family, version)
        except ReleaseError as error:  # a set of the past may have lost it; of another the promotion says it
            logger.warning("%s", error)


def listed(settings: Settings, wanted: Iterable[Runtime], say: Callable[[str], None] = logger.warning) -> list[Process]:
    """The processes of these workers; of one that cannot be, the problem is written down for who waits for it."""
    made = []
    for runtime in wanted:
        problem = runtime.problem(settings)
        try:
            if not runtime.is_here(settings):
                say(f"{runtime.worker:<17} its environment is made again from its lock, which may take minutes")
            made.append(worker(settings, runtime))
            problem.unlink(missing_ok=True)
        except (CodeError, RuntimeMissingError, OSError) as error:  # the last of a full disk, or a store that is away
            say(f"{runtime.worker:<17} cannot be started: {error}")
            with suppress(OSError):
                problem.parent.mkdir(parents=True, exist_ok=True)
                problem.write_text(str(error))
    return made


def tidy(settings: Settings, wanted: Iterable[Runtime]) -> None:
    """Remove the copies of code, and the environments, that neither these nor the sets need.

    An environment stays, too, which a link leads to or a process runs from: another stack's, or one started by hand.
    """
    kept = {*wanted, *needed(LiveSets(settings.staging_url("prod")))}
    for copy in (settings.home / "cache" / "code").glob("*/"):
        if copy.name not in {each.code for each in kept}:
            shutil.rmtree(copy)
    locks, commands = {each.environment for each in kept}, running()
    for folder in [*(settings.home / "environments").glob("*/"), *(ROOT / "envs").glob("*/.venvs/*/")]:
        link = folder.parent.with_name(".venv")
        run = f"{folder}/" in commands or f"envs/{link.parent.name}/.venv/" in commands
        if not run and link.resolve() != folder and runtimes.made_from(folder) not in locks:
            (folder / runtimes.STAMP).unlink(missing_ok=True)  # first: what is killed in between is not made
            shutil.rmtree(folder)


def running() -> str:
    """The command lines of all processes but this one and those that it was started by, which run from the present."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = [process for process in psutil.process_iter(["cmdline"]) if process.pid not in ours]
    return "\n".join(" ".join(process.info["cmdline"] or []) for process in found)


class Workers:
    """Has a running stack's supervisor hold just the workers that are needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sets = LiveSets(settings.staging_url("prod"))
        self._supervisor = Supervisor(settings)
        self._seen: tuple[LiveSet | None, LiveSet | None] = (None, None)
        self._unneeded: dict[str, float] = {}
        """By name, since when a worker is not needed."""
        self._lacking: set[str] = set()
        """The workers that are needed, and could not be started when last tried."""
        self._retry_at = self._pause = 0.0

    def look(self) -> None:
        """Start what is needed and does not run, end what has not been needed for the time of grace."""
        seen = self._sets.live(), self._sets.proposed()
        if seen == (None, None) or (seen == self._seen and not self._unneeded and not self._lacking):
            return
        wanted = needed(self._sets)
        names = {each.worker for each in wanted}
        if seen != self._seen or time.monotonic() >= self._retry_at:
            self._pause = min(2 * self._pause, LONGEST_SECONDS) if seen == self._seen else self._settings.retry_seconds
            self._seen, self._lacking = seen, names
            try:
                self._start(wanted)
            finally:  # counted from here: making an environment may have taken longer than the pause
                self._retry_at = time.monotonic() + self._pause
        states, now = self._supervisor.states(), time.monotonic()
        self._lacking = {name for name in names if not _is_started(states.get(name))}
        idle = states.keys() & set(self._supervisor.workers()) - names
        self._unneeded = {name: self._unneeded.get(name, now) for name in idle}
        for name in [name for name, since in self._unneeded.items() if now - since > self._settings.grace_seconds]:
            logger.info("ending %s: no set needs it", name)
            self._supervisor.drop(name)
            del self._unneeded[name]

    def _start(self, wanted: Iterable[Runtime]) -> None:
        """Start each as soon as it can be: first those whose environment is here, of either kind in the given order."""
        states = self._supervisor.states()
        lacking = [each for each in wanted if not _is_started(states.get(each.worker))]
        for runtime in sorted(lacking, key=lambda each: not each.is_here(self._settings)):
            for process in listed(self._settings, [runtime]):
                logger.info("starting %s", process.name)
                if process.name not in states:
                    self._supervisor.add(process, worker=True)
                self._supervisor.start_process(process.name)


def _is_started(state: State | None) -> bool:
    """Whether the supervisor holds a worker and was told to start it: it starts it again where it ends."""
    return state is not None and state.state not in ENDED


def keep_up() -> None:
    """Look for ever; what goes wrong is said, and tried again."""
    workers = Workers(postgres.settings_of_starter())
    while True:
        try:
            workers.look()
        except Exception:  # the staging area or the supervisor may be away for a moment
            logger.exception("The workers could not be looked at")
            time.sleep(10 * SECONDS)
        time.sleep(SECONDS)
