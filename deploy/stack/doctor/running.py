"""Examines what runs: processes, Postgres, the services' agreement with the live set, and what waits to be stored."""

from collections.abc import Iterator
from contextlib import suppress

from deploy.stack import status
from deploy.stack.doctor.finding import Finding, Subject
from deploy.stack.processes import instance, lifecycle, postgres, preflight, supervisor
from deploy.stack.processes.listing import processes as listed
from deploy.stack.processes.supervisor import BACKOFF, Supervisor
from deploy.stack.search import searching
from deploy.stack.status import UNKNOWN, Found
from shared_ops.release import runtimes
from shared_ops.release.agreement import disagreements
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.release.releases import ReleaseError
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import Settings

STARTING_SECONDS = 60
"""How long a process that was just started may be silent."""
BACKLOG = 1_000
"""So many searches and clicks are stored within seconds where nothing is wrong."""


def processes(subject: Subject) -> Iterator[Finding]:
    """Every process of a stack that is up; of one that is down, what is left of it."""
    if not subject.up:
        yield from _left(subject.settings)
        return
    for each in status.found(subject.settings):
        if finding := of_process(each):
            yield finding
    running = Supervisor(subject.settings)
    known = [each for each in listed(subject.settings) if each.name in running.states()]
    for name, renews in lifecycle.of_before(running, known).items():
        yield Finding(f"{name} goes on in the environment it was started in, which has changed", renews)
    if not instance.is_of_this_checkout(subject.settings):
        yield Finding("the stack was started by another version of the platform's code", "make down, then make up")


def _left(settings: Settings) -> Iterator[Finding]:
    pids = {process.pid for process in (*supervisor.leftovers(settings), postgres.postmaster(settings)) if process}
    if pids:
        told = f"{len(pids)} of the stack's processes run without its supervisor: {', '.join(map(str, sorted(pids)))}"
        yield Finding(told, "make up, or make down")


def of_process(found: Found) -> Finding | None:
    """What is wrong with a process, if anything is."""
    name, state, _, reason, _ = found
    log = f"make logs PROCESS={name}"
    if state.state == BACKOFF:
        return Finding(f"{name} ends as soon as it is started, and is started again and again", f"{log} says why")
    if not state.pid:
        held = state is not UNKNOWN  # what the list has gained, make up alone starts
        alone = held and name.startswith("code-")
        start = f"make code-server REPO={name.removeprefix('code-')}" if alone else "make up"
        return Finding(f"{name} does not run ({state.state if held else 'never started'})", start)
    if state.state == "STARTING" or (reason and state.seconds < STARTING_SECONDS):
        return Finding(f"{name} was started {state.seconds} s ago, and does not answer yet", f"wait; {log}")
    if reason:
        problem = f"{name} runs and does not answer: {reason}"
        return Finding(problem, f"kill -9 {state.pid}, after which the supervisor starts it anew; {log}")
    return None


def database(subject: Subject) -> Iterator[Finding]:
    """Postgres: the embedded one while the stack is up, one's own at any time."""
    yield from map(Finding.of, preflight.database(subject.settings))
    if subject.up and not subject.settings.postgres_url and (reason := postgres.ready(subject.settings)):
        yield Finding(f"Postgres does not answer: {reason.splitlines()[0]}", "make up; make logs PROCESS=postgres")


def live_set(subject: Subject) -> Iterator[Finding]:
    """Whether something is live, and every service answers from it as its manifests say; and what cannot be started."""
    sets = LiveSets(subject.settings.staging_url("prod"))
    if sets.live() is None:
        yield Finding.of(NOTHING_LIVE)
    for runtime in _runtimes(sets):
        if (problem := runtime.problem(subject.settings)).exists():
            yield Finding(f"{runtime.worker} cannot be started: {problem.read_text()}", "make up, once that is mended")
    for disagreement in disagreements(subject.settings):
        yield Finding(disagreement, "make up starts what does not run; where all runs: make down, then make up")


def _runtimes(sets: LiveSets) -> Iterator[Runtime]:
    for chosen in filter(None, (sets.live(), sets.proposed())):
        for family, version in chosen.releases.items():
            with suppress(ReleaseError):  # the examination of the staging area tells of it
                yield runtimes.of_release(sets.url, family, version)


def clicks(subject: Subject) -> Iterator[Finding]:
    """The searches and clicks that are not stored yet, or cannot be."""
    said = searching.health(subject.settings)["feedback"]
    if not said["on"]:
        return
    if said["recording"]:
        yield Finding(f"searches and clicks are not recorded: {said['recording']}", "free space on the home's disk")
    if said["shipping"]:
        problem = f"{said['waiting']} searches and clicks wait for Postgres: {said['shipping']}"
        yield Finding(" ".join(problem.split()), "mend Postgres (make up), and they are stored")
    elif (said["waiting"] or 0) > BACKLOG:
        yield Finding(f"{said['waiting']} searches and clicks wait for Postgres", "make logs PROCESS=search says why")
    if said["set_aside"]:
        problem = f"Postgres refused {said['set_aside']} searches or clicks, which are kept aside"
        yield Finding(problem, "docs/feedback.md says how to look at them and put them back")
    if said["lost"]:
        problem = f"{said['lost']} searches and clicks were lost since the search app started: no disk took them"
        yield Finding(problem, "free space on the home's disk; make down and make up count anew")
