"""Examines Dagster: code locations, daemons, runs, sensors and schedules."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from deploy.stack.dagit.client import Instigator, RunInFlight
from deploy.stack.dagit.training import failed_of_prod, job_of, trained
from deploy.stack.doctor.finding import Finding, Subject
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.refused import mended_by, refused_code
from shared_ops.settings import ROOT, repositories

GRACE_SECONDS = 60
"""How much longer than it may a run takes until run monitoring, which looks every few seconds, must have ended it."""
TICK_SECONDS = 600
"""A sensor that was not looked at for so long is not looked at any more: the slowest ticks every 30 seconds."""


def code(subject: Subject) -> Iterator[Finding]:
    """The code of every location: it must be loaded, and the newest."""
    errors = subject.dagit.load_errors()
    for name in repositories():
        mend = f"mend it, then: {mended_by(name)}"
        if name not in errors:
            held = f"code-{name}" in Supervisor(subject.settings).states()
            yield Finding(f"Dagit has not loaded {name}", f"make code-server REPO={name}" if held else "make up")
        elif error := errors[name]:
            yield Finding(f"{name}'s code does not load: {error}", mend)
        elif refused := refused_code(name, subject.settings):
            yield Finding(refused.sentence, mend)


def daemons(subject: Subject) -> Iterator[Finding]:
    """Dagster's daemons."""
    if unhealthy := subject.dagit.unhealthy_daemons():
        yield Finding(f"daemons not heard of lately: {', '.join(unhealthy)}", "make logs PROCESS=daemon; make up")


def runs(subject: Subject) -> Iterator[Finding]:
    """Runs that stand still, and jobs of prod whose newest run has failed."""
    url = subject.settings.url("dagit")
    for run, sentence in stuck(subject.dagit.in_flight(), limits(), time.time()):
        yield Finding(sentence, f"terminate it at {url}/runs/{run.run_id}")
    trains = {job_of(name): f"make train REPO={name}" for name in trained()}
    for failed in failed_of_prod(subject.dagit):
        problem = f"{failed.job} failed at {failed.ended:%Y-%m-%d %H:%M} UTC: {failed.cause}"
        again = f"what it says; its run, to launch again: {url}/runs/{failed.run_id}"
        yield Finding(problem, trains.get(failed.job, again))


def limits() -> dict[str, float]:
    """How many seconds a run may have each status, by deploy/dagster.yaml."""
    monitoring: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())["run_monitoring"]
    start, longest = monitoring["start_timeout_seconds"], monitoring["max_runtime_seconds"]
    # A queued run waits for others, each of which may take as long as it may.
    return {"NOT_STARTED": start, "STARTING": start, "STARTED": longest, "QUEUED": longest}


def stuck(in_flight: Sequence[RunInFlight], most: dict[str, float], now: float) -> Iterator[tuple[RunInFlight, str]]:
    """The runs that have their status for longer than is allowed at the Unix time `now`, each with a sentence."""
    for run in in_flight:
        allowed = run.longest if run.longest and run.status == "STARTED" else most[run.status]
        if (seconds := now - run.since) > allowed + GRACE_SECONDS:
            yield run, f"{run.job} is {run.status} for {seconds / 60:.0f} min, {allowed / 60:.0f} are allowed"


def triggers(subject: Subject) -> Iterator[Finding]:
    """Sensors and schedules that are off, fail, or are not looked at any more."""
    old = time.time() - TICK_SECONDS
    daemon_is_old = Supervisor(subject.settings).states()["daemon"].seconds > TICK_SECONDS
    for each in subject.dagit.instigators():
        address = f"{subject.settings.url('dagit')}{each.path}"
        if each.meant_on and not each.on:
            yield Finding(f"the {_named(each)} is off", f"switch it on in Dagit, under Automation, or at {address}")
        elif each.tick == "FAILURE":
            yield Finding(f"the newest tick of the {_named(each)} failed: {each.error}", f"mend that; see {address}")
        elif each.on and each.kind == "sensor" and daemon_is_old and each.ticked_at < old:
            problem = f"the {_named(each)} was not looked at for {TICK_SECONDS / 60:.0f} min"
            yield Finding(problem, "make logs PROCESS=daemon; make down, then make up")


def _named(instigator: Instigator) -> str:
    return f"{instigator.kind} {instigator.name} of {instigator.location}"
