"""What a save brings about: the locations that it touches run the new code, where that loads. Knows no repository.

Whoever loads the code is the location's own code server, in its own environment; it goes on with the code of before
where the new one does not load (processes/guarded.py).
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from queue import Empty, SimpleQueue
from threading import Thread

from watchfiles import Change, DefaultFilter, watch

from deploy.stack.dagit.client import Dagit, DagitError
from deploy.stack.processes import lifecycle
from deploy.stack.processes.lifecycle import Say, StackError
from deploy.stack.processes.listing import environment_variables, processes
from deploy.stack.processes.spare import HEARTBEAT, HELD_SECONDS
from deploy.stack.processes.supervisor import NotRunningError, Supervisor
from shared_ops import causes
from shared_ops.refused import refused_code
from shared_ops.settings import LIST, ROOT, Settings, python_of, repositories

QUIET_MS, LONGEST_MS = 150, 10_000
"""Saves are one change until none has come for the first of these milliseconds; the second is the longest that is
waited for that: a switch of branches writes for a while."""
LOOK_SECONDS = 5.0
"""How soon it is noticed that the stack has been ended."""
LIST_CHANGED = f"{LIST} has changed: make up starts what it has gained, and ends what it lists no more"

_saved = DefaultFilter(
    ignore_dirs=(*DefaultFilter.ignore_dirs, ".ruff_cache", ".venvs", "tests"),
    # Documents; what only tests read; what vim makes to see whether it can; what emacs and build.py have not finished.
    ignore_entity_patterns=(
        *DefaultFilter.ignore_entity_patterns,
        *(r"\.md$", r"^conftest\.py$", r"^4913$", r"^#.*#$", r"^\.venv\.new$", r"\.egg-info$"),
    ),
)


@dataclass(frozen=True)
class Work:
    """What is to be done for a set of changed paths, by names, each in the order of the list of repositories."""

    locations: tuple[str, ...] = ()
    """Those whose code has changed."""
    environments: tuple[str, ...] = ()
    """Those of locations that may have to be made anew."""
    advice: tuple[str, ...] = ()
    """What a person has to do, in words."""


def work_for(paths: Iterable[PurePath], listed: Mapping[str, str]) -> Work:
    """What is to be done where these paths have changed, which start at the checkout's root.

    Args:
        paths: of files and folders, whatever has become of them.
        listed: each location's environment, in the order of repos/repos.toml.
    """
    locations, environments, advice = set[str](), set[str](), set[str]()
    for path in filter(lambda path: _saved(Change.modified, str(path)), paths):
        match path.parts:
            case ("repos", "repos.toml"):
                advice.add(LIST_CHANGED)
            case ("repos", "__init__.py") | ("shared_ops", "src", *_):
                locations.update(listed)
            case ("repos", name, _, *_):
                locations.add(name)
            case ("shared_ops", "pyproject.toml"):
                environments.update(listed.values())
            case ("envs", *_, file) if file in ("constraints.txt", ".python-version", "overrides.txt") or (
                file.startswith("requirements") or file.endswith(".in")
            ):
                environments.update([path.parts[1]] if len(path.parts) > 2 else listed.values())
    for name in sorted(environments - set(listed.values())):
        if (ROOT / "envs" / name / "requirements.in").exists():  # else make remove-repo has taken it away
            advice.add(f"envs/{name} has changed, and no location runs in it: make down, then make up")
    return Work(
        tuple(name for name in listed if name in locations),
        tuple(name for name in dict.fromkeys(listed.values()) if name in environments),
        tuple(sorted(advice)),
    )


def saves(root: Path = ROOT) -> Iterator[set[PurePath]]:
    """The paths that were changed in a checkout, each time that there are any; what changes meanwhile comes next.

    Where there are none for LOOK_SECONDS, that is told, too: none.
    """
    found: SimpleQueue[set[PurePath]] = SimpleQueue()
    # What lies deeper in envs/ are the environments themselves: a hundred thousand files.
    for folders, recursive in (
        ([root / "repos", root / "shared_ops"], True),
        ([root / "envs", *(each.parent for each in (root / "envs").glob("*/requirements.in"))], False),
    ):
        Thread(target=_look, args=(root, folders, recursive, found.put), daemon=True).start()
    while True:
        changed = set[PurePath]()
        with suppress(Empty):
            changed |= found.get(timeout=LOOK_SECONDS)
            while not found.empty():
                changed |= found.get()
        yield changed


def _look(root: Path, folders: list[Path], recursive: bool, tell: Callable[[set[PurePath]], None]) -> None:
    def of_interest(change: Change, path: str) -> bool:
        return _saved(change, str(Path(path).relative_to(root)))  # where the checkout lies is of no interest

    found = watch(
        *folders,
        watch_filter=of_interest,
        step=QUIET_MS,
        debounce=LONGEST_MS,
        recursive=recursive,
        raise_interrupt=False,
    )
    for changes in found:
        tell({Path(path).relative_to(root) for _, path in changes})


def follow(settings: Settings, dagit: Dagit, say: Say) -> None:
    """Do what each save asks for, until a person interrupts it, or the stack is ended.

    Raises:
        StackError: where another process does so for this stack.
    """
    with _alone(settings):
        say(
            "watching repos/, shared_ops/ and envs/: what is saved is reloaded, where it loads (Ctrl-C ends this alone)"
        )
        follower = Follower(settings, dagit, say)
        try:
            Thread(target=follower.ask_for_spares, daemon=True).start()
            for name in repositories():
                follower.tell_refused(name)
            for paths in saves():
                follower.take_up(work_for(paths, {name: each.environment for name, each in repositories().items()}))
        except KeyboardInterrupt:
            say("the watching has ended, and the stack goes on: make down ends it")
        except NotRunningError:
            say(f"the watching has ended, as the stack in {settings.home} has: make up WATCH=1 starts both")


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Hold a stack's saves for as long as the block runs: two that follow them would reload everything twice.

    Raises:
        StackError: where another process holds them.
    """
    with (Supervisor(settings).folder / "dev.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"make dev, or make up WATCH=1, already reloads what is saved in the stack of {settings.home}: "
                "one is enough. Ctrl-C there ends it."
            ) from None
        yield


class Follower:
    """Has the locations of a running stack follow what is saved, and says a line of each."""

    def __init__(self, settings: Settings, dagit: Dagit, say: Say) -> None:
        self._settings, self._dagit, self._say = settings, dagit, say
        self._supervisor = Supervisor(settings)

    def ask_for_spares(self) -> None:
        """Have the code servers hold a process that makes a reload quick, for as long as this process lives."""
        from dagster._core.errors import DagsterUserCodeUnreachableError
        from dagster._grpc.client import DagsterGrpcClient

        while True:
            # Read in one go: in the pauses the list may change.
            ports = [port for name, port in self._settings.ports.items() if name.startswith("code-")]
            for port in ports:
                with suppress(DagsterUserCodeUnreachableError):  # it is away: the next time, then
                    DagsterGrpcClient(port, host=self._settings.url_host).heartbeat(HEARTBEAT)
                time.sleep(HELD_SECONDS / 3 / len(ports))  # all at once would keep each other waiting

    def take_up(self, work: Work) -> None:
        """Make the environments, and reload the locations, one after another."""
        lifecycle.need_still_running(self._settings)
        for line in work.advice:
            self._say(line)
        renewed = set[str]()
        for environment in work.environments:
            renewed.update(self._make(environment))
        for name in work.locations:
            if name in renewed or not self._settings.runs(name):
                continue
            if self._held(name):
                self._take_up(name)
            elif LIST_CHANGED not in work.advice:  # which says it of all that the list has gained
                self._tell(name, "is not in the running stack yet: make up")

    def tell_refused(self, name: str) -> bool:
        """Say what keeps a location's newest code from being taken; returns whether anything does."""
        if refused := refused_code(name, self._settings):
            self._tell(name, f"not taken: {refused.told} (the code of before stays)")
        return refused is not None

    def _make(self, environment: str) -> list[str]:
        """Make an environment, and start its locations' code servers anew from it; returns their names."""
        command = [sys.executable, str(ROOT / "envs" / "build.py"), "sync", environment]
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:  # it says what to do
            return []
        names = [name for name, each in repositories().items() if each.environment == environment and self._held(name)]
        moved = [name for name in names if self._runs_elsewhere(name)]
        for name in moved:
            self._take_up(name)
        return moved

    def _take_up(self, name: str) -> None:
        """Have a location run the code as it is now, and in the environment as it is now."""
        began = time.monotonic()
        try:
            if not self._runs(name):
                self._tell(name, f"its code server does not run: make code-server REPO={name}")
                return
            if self._runs_elsewhere(name):
                if problem := self._problem(name):
                    self._tell(name, f"not taken: {problem} (the code and the environment of before stay)")
                    return
                lifecycle.start(self._settings, lambda line: None, [f"code-{name}"])
            if error := self._dagit.reload(name):
                self._tell(name, f"not loaded: {' '.join(error.split())}")
            elif not self.tell_refused(name):
                self._tell(name, f"reloaded in {time.monotonic() - began:.1f} s")
        except NotRunningError:
            raise
        except (DagitError, RuntimeError) as error:
            self._tell(name, f"not reloaded: {error}")

    def _held(self, name: str) -> bool:
        """Whether the stack has taken up a location: what the list gains it has by `make up`."""
        return f"code-{name}" in self._supervisor.states()

    def _runs(self, name: str) -> bool:
        state = self._supervisor.states().get(f"code-{name}")
        return bool(state and state.pid)

    def _runs_elsewhere(self, name: str) -> bool:
        """Whether a location's code server runs, in another environment than the present one."""
        listed = next(each for each in processes(self._settings) if each.name == f"code-{name}")
        return self._runs(name) and self._supervisor.changed(listed)

    def _problem(self, name: str) -> str | None:
        """What keeps a location's code from loading in the present environment; None where it loads."""
        loads = f"from repos.{name}.definitions import defs; defs.get_repository_def().load_all_definitions()"
        loaded = subprocess.run(
            [str(python_of(repositories()[name].environment)), "-W", "ignore", "-c", loads],
            env=os.environ | environment_variables(self._settings),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if loaded.returncode == 0:
            return None
        words = (loaded.stderr.strip() or f"it ended with {loaded.returncode}").splitlines()[-1]
        return ": ".join(filter(None, (causes.place([loaded.stderr]), words)))

    def _tell(self, name: str, what: str) -> None:
        self._say(f"{name:<17} {what}")
