"""The prediction services' workers: one for each pair of code and environment that a family's sets need.

Normally each family has one. It has two while there is a proposed set, or a set to go back to, whose release was made
with other code or packages: the new one loads, warms up and checks beside the one that answers. `watch` keeps them up.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.stack.processes import postgres
from deploy.stack.processes.listing import Process, worker
from deploy.stack.processes.supervisor import BACKOFF, ENDED, State, Supervisor
from shared_ops.release import codes, runtimes
from shared_ops.release.codes import CodeError
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseError
from shared_ops.release.runtimes import Runtime, RuntimeMissingError
from shared_ops.settings import ROOT, Settings, families

SECONDS = 0.5
"""Seconds between two looks at which sets are live and proposed."""
BROKEN_SECONDS = 15.0
"""Seconds between two looks at whether a worker ends again and again, as when its code or environment was removed."""
LONGEST_SECONDS = 3600.0
"""Seconds between two tries to start a worker that could not be started, at most; they double from try to try."""
logger = logging.getLogger("deploy.stack.processes.workers")


def first(settings: Settings) -> list[Runtime]:
    """The runtimes that a stack's start waits for: the live set's, else the proposed set's, else the checkout's own.

    Others, as of a set to go back to, come by `keep_up`: where one of them cannot be, the stack starts all the same.
    """
    sets = LiveSets(settings.staging_url("prod"))
    if live := sets.live() or sets.proposed():
        return [each for each in of_set(sets, live) if settings.runs(each.family)]
    return [runtimes.keep(family, codes.tree(family), settings) for family in families() if settings.runs(family)]


def required_runtimes(sets: LiveSets) -> list[Runtime]:
    """The runtimes of the live set's releases, of the proposed set's, and of those that a rollback would go back to."""
    live, proposed = sets.live(), sets.proposed()
    before = of_set(sets, sets.before(live) if live else None)
    # The workers of a family that is listed no more end with the last set that needs them; a rollback starts them
    # again.
    back = [each for each in before if each.family in families()]
    return list(dict.fromkeys([*of_set(sets, live), *of_set(sets, proposed), *back]))


def of_set(sets: LiveSets, chosen: LiveSet | None) -> Iterator[Runtime]:
    """The runtimes of a set's releases, but for those that are gone; none where there is no set."""
    for family, version in chosen.releases.items() if chosen else []:
        try:
            yield runtimes.of_release(sets.url, family, version)
        except ReleaseError as error:  # a set of the past may have lost it; of a proposed set the promotion tells it
            logger.warning("%s", error)


def worker_processes(
    settings: Settings, pairs: Iterable[Runtime], say: Callable[[str], None] = logger.warning
) -> list[Process]:
    """The processes of these workers; why one cannot be started is written to a file, for those who wait for it."""
    result = []
    for runtime in pairs:
        problem = runtime.problem(settings)
        try:
            if not runtime.is_here(settings):
                say(f"{runtime.worker:<17} its environment is made again from its lock, which may take minutes")
            result.append(worker(settings, runtime))
            problem.unlink(missing_ok=True)
        except (CodeError, RuntimeMissingError, OSError) as error:  # the last of a full disk, or a store that is away
            say(f"{runtime.worker:<17} cannot be started: {error}")
            with suppress(OSError):
                problem.parent.mkdir(parents=True, exist_ok=True)
                problem.write_text(str(error))
    return result


def tidy(settings: Settings, pairs: Iterable[Runtime]) -> None:
    """Remove the copies of code, and the environments, that neither these workers nor the sets need.

    An environment stays that a link leads to, or that a process runs from (another stack's, or one started by hand), or
    that a release of another stack may need.
    """
    in_use = {*pairs, *required_runtimes(LiveSets(settings.staging_url("prod")))}
    for copy in (settings.home / "cache" / "code").glob("*/"):
        if copy.name not in {each.code for each in in_use}:
            shutil.rmtree(copy)
    locks, occupied = {each.environment for each in in_use}, environments_of_processes()
    for folder in [*(settings.home / "environments").glob("*/"), *(ROOT / "envs").glob("*/.venvs/*/")]:
        link = folder.parent.with_name(".venv")
        runs = not occupied.isdisjoint({_place(folder), _place(link)})
        needed = runtimes.made_from(folder) in locks or {*runtimes.kept_in(folder, settings)} - {settings.locks_url}
        if not runs and link.resolve() != folder and not needed:
            (folder / runtimes.STAMP).unlink(missing_ok=True)  # first: half an environment must not count as made
            shutil.rmtree(folder)


def environments_of_processes() -> set[Path]:
    """The folders of the environments from which this machine's processes run, but for this process and its parents.

    Each as the process was started, `envs/<name>/.venv` or the folder that it led to: since then the link may lead
    elsewhere.
    """
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    others = [process.info for process in psutil.process_iter(["pid", "cmdline", "cwd"]) if process.pid not in ours]
    return {_place(Path(each["cwd"] or "", each["cmdline"][0]).parent.parent) for each in others if each["cmdline"]}


def _place(folder: Path) -> Path:
    """A folder by the real path of the folder that it lies in; if it is a link, that link and not where it leads."""
    return folder.parent.resolve() / folder.name


class Workers:
    """Has a running stack's supervisor hold just the workers that are needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sets = LiveSets(settings.staging_url("prod"))
        self._supervisor = Supervisor(settings)
        self._seen: tuple[LiveSet | None, LiveSet | None] = (None, None)
        self._unneeded: dict[str, float] = {}
        """By name: since when a worker has not been needed."""
        self._lacking: set[str] = set()
        """The workers that are needed, and did not come up when last tried."""
        self._retry_at = self._pause = self._look_at = 0.0

    def look(self) -> None:
        """Start what is needed and does not run, end what has not been needed for the time of grace."""
        sets = self._sets.live(), self._sets.proposed()
        nothing_to_do = sets == self._seen and not self._unneeded and not self._lacking
        if sets == (None, None) or (nothing_to_do and time.monotonic() < self._look_at):
            return
        self._look_at = time.monotonic() + BROKEN_SECONDS
        pairs = [each for each in required_runtimes(self._sets) if self._settings.runs(each.family)]
        names = {each.worker for each in pairs}
        if sets != self._seen or (self._lacking and time.monotonic() >= self._retry_at):
            self._pause = min(2 * self._pause, LONGEST_SECONDS) if sets == self._seen else self._settings.retry_seconds
            self._seen, self._lacking = sets, names
            try:
                self._start(pairs)
            finally:  # counted from here: making an environment may have taken longer than the pause
                self._retry_at = time.monotonic() + self._pause
        states, now = self._supervisor.states(), time.monotonic()
        self._lacking = {name for name in names if not _is_up(states.get(name))}
        idle = states.keys() & set(self._supervisor.workers()) - names
        self._unneeded = {name: self._unneeded.get(name, now) for name in idle}
        for name in [name for name, since in self._unneeded.items() if now - since > self._settings.grace_seconds]:
            logger.info("ending %s: no set needs it", name)
            self._supervisor.drop(name)
            del self._unneeded[name]

    def _start(self, pairs: Iterable[Runtime]) -> None:
        """Start the workers that do not run: first those whose environment is here, each group in the given order."""
        states = self._supervisor.states()
        lacking = [each for each in pairs if not _is_up(states.get(each.worker))]
        for runtime in sorted(lacking, key=lambda each: not each.is_here(self._settings)):
            for process in worker_processes(self._settings, [runtime]):
                state = states.get(process.name)
                if state and state.state == BACKOFF:  # what it runs with may have been made again in another place
                    self._supervisor.drop(process.name)
                logger.info("starting %s", process.name)
                if state is None or state.state == BACKOFF:
                    self._supervisor.add(process, worker=True)
                self._supervisor.start_process(process.name)


def _is_up(state: State | None) -> bool:
    """Whether the supervisor holds a worker that runs or is about to."""
    return state is not None and state.state not in (*ENDED, BACKOFF)


def keep_up() -> None:
    """Look for ever; an error is logged, and the look is repeated."""
    workers = Workers(postgres.settings_of_starter())
    while True:
        try:
            workers.look()
        except Exception:  # the staging area or the supervisor may be away for a moment
            logger.exception("The workers could not be looked at")
            time.sleep(10 * SECONDS)
        time.sleep(SECONDS)
