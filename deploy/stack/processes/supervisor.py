"""The supervisor of a stack: supervisord, its configuration, and a client to it. Knows no process by name.

supervisord's children inherit its environment, so no secret (a database URL) stands in its configuration file.
It runs each process through its keeper, by which the process outlives a supervisor that is killed.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from deploy.stack.processes import keeper, places
from deploy.stack.processes.listing import STACK_MARK, Process
from shared_ops.settings import ROOT, Settings, python_of
from shared_ops.waiting import until

STOP_SECONDS = 5
"""How long a process may take to stop before it is killed."""
BACKOFF = "BACKOFF"
"""The state of a process that ended as soon as it was started, and that the supervisor starts again after a while."""
ENDED = ("STOPPED", "EXITED", "FATAL")
"""The states of a process that does not run, and that the supervisor does not start by itself."""


class NotRunningError(RuntimeError):
    """The stack's supervisor does not answer."""


@dataclass(frozen=True)
class State:
    """What the supervisor says of a process."""

    name: str
    state: str
    pid: int
    seconds: int
    """Since it last started; 0 where it does not run."""


class Supervisor:
    """The supervisor of one stack."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.home / "supervisor"
        self._programs, self._workers = self.folder / "programs", self.folder / "workers"
        self._python = python_of("platform")
        self.socket = settings.sockets / "supervisor.sock"

    def start(self, listed: Sequence[Process], variables: dict[str, str], workers: Sequence[Process] = ()) -> None:
        """Start supervisord with these processes, none of which it starts by itself; others may come and go later.

        A worker that is still alive is taken over, too, even if no set needs it: else nobody would end it.

        Raises:
            RuntimeError: when it does not come up, with what it said.
        """
        places.make_sockets(self.settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.settings.home / "logs").mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "supervisord.conf"
        configuration.write_text(self._configuration())
        living = {name: self._conf(name).read_text() for name in self.workers() if keeper.living(self._record(name))}
        needed = {process.name: self._program(process) for process in workers}
        programs = {process.name: self._program(process) for process in listed}
        for folder, held in ((self._programs, programs), (self._workers, living | needed)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, program in held.items():
                (folder / f"{name}.conf").write_text(program)
        started = subprocess.run(
            [str(self._python), "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(configuration)],
            env=os.environ | variables,
            cwd=ROOT,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if started.returncode != 0 or not until(self.running, every=0.1, seconds=10):
            raise RuntimeError(f"supervisord did not start: {started.stdout.strip()} (see {self.folder})")
        for name in living:
            self.start_process(name)

    def running(self) -> bool:
        """Whether the supervisor answers."""
        try:
            self._call("getPID")
        except NotRunningError:
            return False
        return True

    def variables(self) -> dict[str, str]:
        """The environment that the supervisor, and so every process of the stack, was started with.

        Raises:
            NotRunningError: when the supervisor does not answer.
        """
        try:
            return psutil.Process(self._call("getPID")).environ()
        except psutil.NoSuchProcess as error:  # it has just ended
            raise NotRunningError(f"The stack in {self.settings.home} is not running: make up") from error

    def left_behind(self) -> bool:
        """Whether a supervisor was started here that did not end by itself."""
        return (self.folder / "supervisord.pid").exists()

    def states(self) -> dict[str, State]:
        """Each process's state by its name.

        Raises:
            NotRunningError: when the supervisor does not answer.
        """
        return {info["name"]: self._state(info) for info in self._call("getAllProcessInfo")}

    def workers(self) -> list[str]:
        """The names of the workers that were added; `states` says which of them the supervisor holds."""
        return sorted(path.stem for path in self._workers.glob("*.conf"))

    def add(self, process: Process, worker: bool = False) -> None:
        """Hold one more process, or one more worker, without starting it; one that is held already stays as it is."""
        conf = self._conf(process.name, worker)
        written = conf.with_suffix(".new")
        written.write_text(self._program(process))
        written.replace(conf)  # half a file would keep supervisord from reading any
        self._call("reloadConfig")
        self._call("addProcessGroup", process.name, but=Faults.ALREADY_ADDED)  # by somebody else, just now

    def changed(self, process: Process) -> bool:
        """Whether a process that is held would be started in another way today, as in an environment made since."""
        return (self._programs / f"{process.name}.conf").read_text() != self._program(process)

    def drop(self, name: str) -> None:
        """End a process or a worker, and hold it no more; where it is not held, only remove its files."""
        if name in self.states():
            self.stop_processes([name])
            self._call("removeProcessGroup", name)
        for folder in (self._programs, self._workers):
            (folder / f"{name}.conf").unlink(missing_ok=True)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Have the next supervisor start a process anew, even if it is still alive."""
        self._record(name).unlink(missing_ok=True)

    def start_process(self, name: str) -> None:
        """Have a process started, if it does not run already; does not wait for it."""
        if self.states()[name].state not in ("RUNNING", "STARTING", BACKOFF):
            self._call("startProcess", name, False, but=Faults.ALREADY_STARTED)

    def stop_processes(self, names: Iterable[str]) -> None:
        """Stop processes side by side, and wait until they are gone."""
        stopping = [name for name in names if self.states()[name].state not in ENDED]
        for name in stopping:
            self._call("stopProcess", name, False)

        def stopped() -> bool:
            return all(self.states()[name].state in ENDED for name in stopping)

        if not until(stopped, every=0.1, seconds=STOP_SECONDS + 5):
            raise RuntimeError(f"Some processes do not stop: {[s for s in self.states().values() if s.pid]}")

    def shut_down(self) -> None:
        """Stop what is left, and the supervisor."""
        process = psutil.Process(self._call("getPID"))
        self._call("shutdown")
        process.wait(timeout=STOP_SECONDS + 10)

    def _state(self, info: dict[str, Any]) -> State:
        if not info["pid"]:
            return State(info["name"], info["statename"], 0, 0)
        # A former supervisor's process has another pid than its keeper.
        process = keeper.living(self._record(info["name"]))
        seconds = info["now"] - info["start"]
        return State(info["name"], info["statename"], process.pid if process else info["pid"], seconds)

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _conf(self, name: str, worker: bool = True) -> Path:
        return (self._workers if worker else self._programs) / f"{name}.conf"

    def _call(self, method: str, *arguments: Any, but: int | None = None) -> Any:
        """Call a method of the supervisor; the fault with the code `but` is ignored."""
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        server = ServerProxy("http://supervisor", transport=transport)
        try:
            return getattr(server.supervisor, method)(*arguments)
        except (OSError, HTTPException) as error:  # the latter where it ends in the middle of an answer
            raise NotRunningError(f"The stack in {self.settings.home} is not running: make up") from error
        except Fault as fault:
            if fault.faultCode == but:
                return None
            raise RuntimeError(f"supervisord: {method}{arguments}: {fault.faultString}") from fault
        finally:
            transport.close()

    def _configuration(self) -> str:
        return f"""\
[unix_http_server]
file = {_escaped(self.socket)}

[supervisord]
directory = {_escaped(ROOT)}
pidfile = {_escaped(self.folder / "supervisord.pid")}
logfile = {_escaped(self.folder / "supervisord.log")}
logfile_maxbytes = 5MB
logfile_backups = 2
childlogdir = {_escaped(self.settings.home / "logs")}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = {self._programs.name}/*.conf {self._workers.name}/*.conf
"""

    def _program(self, process: Process) -> str:
        log = places.log_file(self.settings, process.name)
        bounds = [str(process.share.given_up), str(process.share.most_memory(self.settings))]
        files = [str(self._record(process.name)), str(log)]
        keeping = [str(self._python), "-m", "deploy.stack.processes.keeper", *files, *bounds]
        environment = ",".join(f'{name}="{value}"' for name, value in process.share.variables.items())
        # It is tried again for ever, after 1, 2, 3, ... seconds where it dies at once: what it needs may be away.
        # Its log is not the supervisor's to rotate (watch does it): the process writes there itself. The supervisor
        # expands its name twice.
        return f"""
[program:{process.name}]
command = {_escaped(shlex.join(["nice", "-n", str(process.share.nice), *keeping, *process.command]))}
environment = {environment}
autostart = false
autorestart = true
startsecs = 3
startretries = 1000000
stopsignal = {process.stop_signal}
stopwaitsecs = {STOP_SECONDS}
stopasgroup = true
killasgroup = true
redirect_stderr = true
stdout_logfile = {_escaped(_escaped(log))}
stdout_logfile_maxbytes = 0
"""


def leftovers(settings: Settings) -> list[psutil.Process]:
    """What still runs of a stack whose supervisor is gone: every process that holds the stack's mark."""
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process for process in psutil.process_iter() if process.pid not in ours and _mark(process) == str(settings.home)
    ]


def end(remaining: Sequence[psutil.Process]) -> None:
    """End processes: ask them, then kill them, soon: they serve nobody, and others wait for their ports."""
    for process in remaining:
        with suppress(psutil.NoSuchProcess):  # it has ended of itself
            process.terminate()
    _, alive = psutil.wait_procs(remaining, timeout=2)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(STACK_MARK)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None  # gone meanwhile, or another user's: not ours either way


def _escaped(value: str | Path) -> str:
    """A value as supervisord's configuration wants it: a % starts an expansion there."""
    return str(value).replace("%", "%%")
