"""Starts and ends a stack: its processes in order, each waited for until it answers."""

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import psutil

from deploy.stack.dagit.client import Dagit, DagitError
from deploy.stack.processes import instance, places, postgres, preflight, supervisor, workers
from deploy.stack.processes.listing import Process, environment_variables, processes
from deploy.stack.processes.patience import Patience, wait_for_stack
from deploy.stack.processes.spare import modules_file
from deploy.stack.processes.supervisor import BACKOFF, NotRunningError, Supervisor
from shared_ops.data import storage
from shared_ops.settings import LIST, ROOT, Role, Settings, live_repository, repositories, variable
from shared_ops.waiting import until

Say = Callable[[str], None]
CRASHING_SECONDS = 20
"""How long to wait for a process that ends again and again."""
RECOVERY_SECONDS = 10
"""Seconds within which another supervisor takes the place of one that was killed."""
SECRET = ("postgres_url", "notify")
"""Settings that may hold a password: their values are not shown."""
PLACE = ("SEARCHLOOP_HOME", "SEARCHLOOP_HOST", "SEARCHLOOP_PORT_BASE")
"""The settings that say which stack is meant."""
NAME_OTHERS: tuple[Role, ...] = ("data", "rank", "live")
"""Roles whose definitions name other repositories: the sources, the search families, all families."""


class StackError(RuntimeError):
    """What keeps the stack from starting or ending, and what to do."""


def refuse_other_addresses(settings: Settings) -> None:
    """Where a stack runs in this home, see that these settings lead to it, and not to whoever has their ports.

    Raises:
        StackError: naming the settings with which it runs.
    """
    try:
        running = Supervisor(settings).variables()
    except NotRunningError:
        return
    variables = environment_variables(settings)
    if other := [name for name in PLACE if running.get(name) != variables[name]]:
        runs_with = " ".join(f"{name}={shlex.quote(running.get(name, ''))}" for name in PLACE)
        raise StackError(
            f"The stack that runs in {settings.home} was started with {runs_with}, and this command was given "
            f"{' '.join(f'{name}={variables[name]}' for name in other)}, where another stack may be: nothing was done. "
            f"Give it those settings, or move the stack: {runs_with} make down, then make up."
        )


def refuse_unknown_repositories(settings: Settings) -> None:
    """See that SEARCHLOOP_REPOS names repositories.

    Raises:
        StackError: naming what it names beside them.
    """
    if unknown := [name for name in settings.repos.split() if name not in repositories()]:
        raise StackError(
            f"SEARCHLOOP_REPOS={settings.repos}: expected names of {', '.join(repositories())}, separated by spaces, "
            f"got {', '.join(unknown)}"
        )


def refuse_unfit_read_from(settings: Settings) -> None:
    """See that SEARCHLOOP_READ_FROM names another stack's home, and that no set is to go live here.

    Raises:
        StackError: when it does not, or this stack runs the repository that moves the live set.
    """
    if settings.read_from is None:
        return
    if settings.runs(live := live_repository()):
        others = " ".join(name for name in (settings.repos.split() or repositories()) if name != live)
        raise StackError(
            "SEARCHLOOP_READ_FROM is for a part of a stack: no set goes live here of another stack's releases. "
            f'{live} would try. Leave it out: make up REPOS="{others}"'
        )
    folder = storage.local_path(settings.read_from)
    if folder and not (folder / "snapshots").is_dir():
        raise StackError(
            f"SEARCHLOOP_READ_FROM={folder}: expected the home of a stack, a folder that holds snapshots/. "
            "Is it mounted?"
        )


def with_running_repositories(settings: Settings) -> Settings:
    """The settings, with the repositories that the running stack of this home runs, whatever the command was given."""
    try:
        return settings.model_copy(update={"repos": Supervisor(settings).variables().get(variable("repos"), "")})
    except NotRunningError:
        return settings


def need_part(settings: Settings, name: str) -> None:
    """See that the running stack has a repository.

    Raises:
        StackError: when it was started without it, or before the list gained it, with what starts it.
        NotRunningError: when the stack does not run.
    """
    if not settings.runs(name):
        raise StackError(
            f"This stack runs {', '.join(settings.repos.split())} alone, and not {name}: make down, then "
            f'make up REPOS="{settings.repos} {name}", or without REPOS for all.'
        )
    if f"code-{name}" not in Supervisor(settings).states():
        raise StackError(f"{name} is not in the running stack yet: make up makes its environment and starts it.")


def agree_with_running(settings: Settings, say: Say) -> Settings:
    """The settings that `make up` goes on with: a running stack's processes keep what they were started with.

    A setting with which the stack runs, and which this command was not given, is said.

    Raises:
        StackError: naming each setting that this command was given otherwise, its value of then.
    """
    try:
        running = Supervisor(settings).variables()
    except NotRunningError:
        return settings
    fields = Settings.model_fields.items()
    before = Settings.model_validate({name: running.get(variable(name)) or field.default for name, field in fields})
    others = [name for name in sorted(Settings.model_fields) if _differs(name, before, settings)]
    if given := [name for name in others if name in settings.model_fields_set]:
        raise StackError(
            f"The running stack was started with {_assigned(before, given)}, and this command was given "
            f"{_assigned(settings, given)}. Its processes keep what they were started with: make down, then make up, "
            "takes the new one."
        )
    if others:
        say(
            f"The running stack goes on with {_assigned(before, others)}, which this command was not given: make down, "
            "then make up, takes what is given then, or the default."
        )
    return settings.model_copy(update={name: getattr(before, name) for name in others})


def _differs(name: str, before: Settings, now: Settings) -> bool:
    """Whether a setting has another value; of those that say which stack is meant, the addresses were compared."""
    return variable(name) not in PLACE and _value(before, name) != _value(now, name)


def _assigned(settings: Settings, names: Sequence[str]) -> str:
    """Settings as one writes them on a command line, but for what may hold a password."""
    shown = {name: "(not shown)" if name in SECRET else shlex.quote(str(_value(settings, name))) for name in names}
    return " ".join(f"{variable(name)}={value}" for name, value in shown.items())


def _value(settings: Settings, name: str) -> object:
    """A setting as processes get it."""
    return postgres.url(settings) if name == "postgres_url" else getattr(settings, name)


def need_running(settings: Settings) -> None:
    """See that the stack of this home runs, before its ports are asked: else another stack may have them.

    Raises:
        NotRunningError: when it does not run, and its supervisor is not just being replaced.
    """
    stack = Supervisor(settings)
    if not until(stack.running, lambda up: up or not stack.left_behind(), every=0.2, seconds=RECOVERY_SECONDS):
        raise NotRunningError(f"The stack in {settings.home} is not running: make up")


def need_still_running(settings: Settings) -> None:
    """See that the stack has not been ended since this command began.

    Raises:
        NotRunningError: when it has.
    """
    try:
        need_running(settings)
    except NotRunningError:
        raise NotRunningError(
            f"The stack in {settings.home} has been ended while this command waited for it (a make down elsewhere?): "
            "make up"
        ) from None


def start(settings: Settings, say: Say, names: Sequence[str] | None = None) -> None:
    """Start the stack's processes, or those named and the database; what runs already is left alone.

    Without names a running stack follows the list, too: it takes up what that has gained, and lets go of what has left
    it. That those named run is not said: whoever names them says what has become of their code.

    Raises:
        StackError: saying what is wrong and what to do.
    """
    places.refuse_checkout(settings)
    with _one_at_a_time(settings):
        listed = processes(settings)
        serving = [] if names else workers.worker_processes(settings, workers.first(settings), say)
        chosen = [each for each in (*serving, *listed) if names is None or each.name in {"postgres", *names}]
        locations = None if names else instance.workspace_content(settings)
        running = Supervisor(settings)
        if not running.running():
            _start_supervisor(settings, running, listed, serving, say)
        elif not instance.is_of_this_checkout(settings):
            raise StackError(
                "The running stack was started by another version of the platform's code (deploy/dagster.yaml is "
                "another): what starts now would not fit to what runs. make down, then make up."
            )
        gained = names is None and _take_up(settings, running, listed, serving)
        for process in listed:
            if process.name in (names or ()) and running.changed(process):
                _renew(running, process)
        states = running.states()
        fresh = not any(states[process.name].pid for process in listed if process.phase > 0)
        for phase, group in groupby(chosen, key=lambda process: process.phase):
            if phase == 1 and (fresh or gained):
                _prepare_instance(settings, say, *([] if fresh else ["--running"]))
            _start_phase(settings, running, list(group), say if names is None else lambda line: None)
            if phase == 1 and locations is not None:
                instance.place_workspace(settings, locations)
        if names is None:
            _let_go(running, listed, say)
            _tell_of_before(running, listed, say)


def recover(settings: Settings, say: Say) -> None:
    """Start a supervisor in place of one that was killed: it takes over what still runs, and starts what does not."""
    with _one_at_a_time(settings):
        listed, serving = processes(settings), workers.worker_processes(settings, workers.first(settings), say)
        running = Supervisor(settings)
        if running.running():
            return
        running.start(listed, environment_variables(settings), serving)
        for process in (*serving, *listed):
            running.start_process(process.name)
    say("a new supervisor keeps the stack")


def stop(settings: Settings, say: Say) -> None:
    """End everything that belongs to this stack, and nothing else; Postgres last, and cleanly."""
    if not places.is_home(settings):  # nothing is made in a folder that is no stack's; its home may have been removed
        _end_leftovers(settings, say)
        say(f"the stack in {settings.home} is not running")
        return
    with _one_at_a_time(settings):
        running = Supervisor(settings)
        try:
            states = running.states()
            _cancel_runs(settings, say, dagit_runs=bool(states["dagit"].pid))
            running.stop_processes(name for name in states if name != "postgres")
            if "postgres" in states:
                running.stop_processes(["postgres"])
            running.shut_down()
            say(f"ended {sum(1 for state in states.values() if state.pid)} processes")
        except NotRunningError:
            say(f"the stack in {settings.home} is not running")
        _end_leftovers(settings, say)
        shutil.rmtree(settings.sockets, ignore_errors=True)  # it may lie in the temporary folder


def _start_supervisor(
    settings: Settings, running: Supervisor, listed: list[Process], serving: list[Process], say: Say
) -> None:
    _end_leftovers(settings, say)
    ports = {process.port: process for process in (*serving, *listed)}  # workers of a family take turns at its port
    if wrong := preflight.complaints(settings, list(ports.values())):
        raise StackError("The stack cannot start:\n" + "\n".join(f"- {complaint}" for complaint in wrong))
    instance.place(settings)
    workers.tidy(settings, workers.first(settings))
    running.start(listed, environment_variables(settings), serving)


def _take_up(settings: Settings, running: Supervisor, listed: list[Process], serving: list[Process]) -> bool:
    """Have the supervisor hold what repos.toml has gained since it was started; returns whether that is anything."""
    states = running.states()
    gained = [process for process in listed if process.name not in states]
    if wrong := preflight.ports(settings, gained):
        raise StackError("What was added cannot start:\n" + "\n".join(f"- {complaint}" for complaint in wrong))
    for process in gained:
        running.add(process)
    for process in serving:
        if process.name not in states:
            running.add(process, worker=True)
    return bool(gained)


def _renew(running: Supervisor, process: Process) -> None:
    """Put a process that runs in an older environment into the present one: held, and to be started again."""
    if pid := running.states()[process.name].pid:
        # Killed alone, and replaced before it is stopped with its group: a code server's runs in flight go on.
        psutil.Process(pid).kill()
        until(lambda: running.states()[process.name].pid not in (0, pid), every=0.1, seconds=RECOVERY_SECONDS)
    running.drop(process.name)
    running.add(process)


def _let_go(running: Supervisor, listed: list[Process], say: Say) -> None:
    """End what repos.toml no longer lists; a family's models answer until a set does without them (workers)."""
    held = {process.name for process in listed} | set(running.workers())
    for name in sorted(running.states().keys() - held):
        running.drop(name)
        say(f"{name:<17} ended: repos/repos.toml lists it no more")


def _tell_of_before(running: Supervisor, listed: list[Process], say: Say) -> None:
    """Say which processes run as they would not be started today, and what renews them."""
    for name, renews in of_before(running, listed).items():
        say(f"{name:<17} goes on in the environment it was started in, which has changed: {renews}")


def of_before(running: Supervisor, listed: Sequence[Process]) -> dict[str, str]:
    """The processes that would be started otherwise today, as in an environment made since, and what renews each."""
    renews = {process.name: "make down, then make up" for process in listed if running.changed(process)}
    code = {name: f"make code-server REPO={name.removeprefix('code-')}" for name in renews if name.startswith("code-")}
    return renews | code


def of_another_list(settings: Settings) -> list[str]:
    """The repositories whose definitions name others, and were loaded before repos.toml was last changed."""
    changed = (ROOT / LIST).stat().st_mtime
    naming = [name for name, each in repositories().items() if each.role in NAME_OTHERS and settings.runs(name)]
    return [name for name in naming if _loaded_at(settings, name) < changed]


def _loaded_at(settings: Settings, name: str) -> float:
    """The Unix time at which a code server has loaded its code; 0 where it has not said."""
    told = modules_file(name, settings.home)
    return told.stat().st_mtime if told and told.exists() else 0


def _prepare_instance(settings: Settings, say: Say, *how: str) -> None:
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "deploy.stack.processes.instance", *how],
        env=os.environ | environment_variables(settings),
        cwd=ROOT,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if result.returncode != 0:
        reason = (result.stdout.strip() or f"exit status {result.returncode}").splitlines()[-1]
        log = settings.home / "logs" / "instance.log"
        log.write_text(result.stdout)
        raise StackError(f"Dagster's tables could not be made in the database: {reason} (all of it is in {log})")
    say(f"{'tables':<17} up to date ({time.monotonic() - began:.1f} s)")


def _start_phase(settings: Settings, running: Supervisor, group: list[Process], say: Say) -> None:
    began = time.monotonic()
    waiting = {process.name: process for process in group}
    patience = {name: Patience() for name in waiting}
    already = {name for name, state in running.states().items() if state.pid}
    for process in group:
        running.start_process(process.name)

    def all_ready() -> bool:
        states = running.states()
        for process in list(waiting.values()):
            if process.name not in states:  # a worker: the live set has moved on meanwhile
                del waiting[process.name]
                continue
            state, pid = states[process.name].state, states[process.name].pid
            reason = process.ready() if pid else f"it is {state}"
            if reason is None:
                del waiting[process.name]
                took = "was running" if process.name in already else f"{time.monotonic() - began:.1f} s"
                say(f"{process.name:<17} ready ({took})")
            elif (waited := time.monotonic() - began) > CRASHING_SECONDS and (
                state == BACKOFF or patience[process.name].is_over(pid)
            ):
                raise StackError(
                    f"{process.name} did not come up within {waited:.0f} s: {reason}. The end of its log, "
                    f"{places.log_file(settings, process.name)}:\n{tail(settings, process.name)}"
                )
        return not waiting

    until(all_ready, every=0.2)  # the limit is the patience with each


def tail(settings: Settings, process: str, lines: int = 15) -> str:
    """The last lines of a process's log."""
    log = places.log_file(settings, process)
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(empty)"


def _cancel_runs(settings: Settings, say: Say, dagit_runs: bool) -> None:
    """Cancel what is in flight, so that it is neither taken for running nor tried again at the next start."""
    if not dagit_runs:
        return
    try:
        dagit = Dagit(settings.url("dagit"))
        if runs := dagit.in_flight():
            dagit.cancel([run.run_id for run in runs])
            say(f"cancelled {len(runs)} runs in flight")
    except DagitError as error:
        say(f"runs in flight were not cancelled, the next start tries them again: {error}")


def _end_leftovers(settings: Settings, say: Say) -> None:
    """End what a killed supervisor left behind; Postgres last, as its clients go first."""
    remaining = supervisor.leftovers(settings)
    server = postgres.postmaster(settings)
    clients = [process for process in remaining if server is None or process.pid != server.pid]
    if clients:
        say(f"ending {len(clients)} processes that a former supervisor left behind")
        supervisor.end(clients)
    if server is not None:
        postgres.stop(server)


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Two commands that start and end the same stack wait for each other."""
    with places.make_home(settings).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_for_locations(settings: Settings, dagit: Dagit, names: Sequence[str], say: Say) -> None:
    """Wait until Dagit has loaded the code locations, for as long as the stack gets further.

    Raises:
        StackError: with the error of a location that does not load, or naming those that are waited for no longer.
    """
    errors: dict[str, str | None] = {}

    def lacking() -> str | None:
        nonlocal errors
        try:
            errors = dagit.load_errors()
        except DagitError as error:  # a busy one may answer late
            return str(error)
        missing = sorted(set(names) - set(errors))
        return f"Dagit has not loaded {', '.join(missing)}" if missing else None

    if lacks := wait_for_stack(settings, lacking, say, every=0.3):
        raise StackError(f"{lacks}, and that is waited for no longer: make logs")
    if broken := {name: errors[name] for name in names if errors[name]}:  # others are listed no more
        raise StackError("\n".join(f"code location {name} does not load: {error}" for name, error in broken.items()))
