"""The processes of a running stack that a drill kills: found anew each time, as they come and go."""

import random
from collections.abc import Collection
from contextlib import suppress

import psutil

from deploy.stack.dagit.client import Dagit, DagitError
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.pipeline.launcher import STARTED
from shared_ops.settings import Settings

RUN_WORKER = "run worker"
SERVICES = {
    "code server": ("code-keyword", "code-live"),  # of those whose runs the drill launches
    "daemon": ("daemon",),
    "Postgres": ("postgres",),
}
PREDICTION = "prediction service"
VICTIMS = (RUN_WORKER, PREDICTION, *SERVICES)


def service(kind: str, settings: Settings, chance: random.Random) -> psutil.Process | None:
    """A process of this kind, None where it is just away; of a code server the outer process or the inner one."""
    supervisor = Supervisor(settings)
    names = supervisor.workers() if kind == PREDICTION else SERVICES[kind]
    pid = supervisor.states()[chance.choice(names)].pid
    inner = kind == "code server" and chance.random() < 0.5
    if not pid:
        return None
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        # The inner one holds the code, the outer one stands before it.
        return next(filter(alive, process.children()), None) if inner else process
    return None


def worker(dagit: Dagit, jobs: Collection[str]) -> tuple[str, psutil.Process] | None:
    """The job and the living process of the newest run of one of these jobs, None where none is to be seen."""
    with suppress(DagitError):  # it cannot tell while Postgres is away
        for run in dagit.in_flight():
            said = dagit.run(run.run_id).events if run.job in jobs else []
            pids = [int(match[1]) for event in said if (match := STARTED.match(event.message))]
            with suppress(psutil.NoSuchProcess):
                for pid in pids:
                    return run.job, psutil.Process(pid)
    return None


def alive(process: psutil.Process) -> bool:
    """Whether a process runs: one that was killed may still wait for its parent to notice."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
