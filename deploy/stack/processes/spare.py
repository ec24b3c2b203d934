"""A spare for the inner process of a code server: it has imported all but the checkout's own code, and waits.

    python -m deploy.stack.processes.spare <file of modules>    (in any environment: it needs Dagster alone)

Nineteen twentieths of the processor time that a reload takes go into starting an interpreter, and importing Dagster and
what else the code imports from its environment. So while somebody works on the code, which their heartbeats say, a code
server holds a process that has done all this; it becomes the next inner process. It is no fork of a warm one: libraries
start threads when they are imported, and a fork lacks them. The inner process of before tells which modules there are
to import.
"""

import importlib
import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

HEARTBEAT = "at work on the code"
"""What a heartbeat says for which a code server holds a spare."""
HELD_SECONDS = 180
"""How long it holds one after such a heartbeat."""

Inner = subprocess.Popen[Any]


class Spare:
    """What a code server holds: at most one spare at a time, and none unless somebody works on the code."""

    def __init__(self, modules: Path | None) -> None:
        """`modules` is the file in which the inner process tells its modules; None where there is none."""
        self._modules = modules
        self._process: Inner | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def hold(self) -> None:
        """Hold a spare in the next HELD_SECONDS; `replenish` starts it."""
        with self._lock:
            if self._timer:
                self._timer.cancel()
            self._timer = threading.Timer(HELD_SECONDS, self.let_go)
            self._timer.daemon = True
            self._timer.start()

    def replenish(self) -> None:
        """Start a spare where one is to be held and there is none."""
        with self._lock:
            if self._timer and not (self._process and self._process.poll() is None):
                command = [sys.executable, "-m", __name__, str(self._modules or "")]
                # A group of its own, until it is taken: whoever looks for the inner process sees it by that.
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)

    def let_go(self) -> None:
        """End the spare, and hold none."""
        with self._lock:
            if self._timer:
                self._timer.cancel()
            self._timer = None
            process, self._process = self._process, None
        if process:
            with process:
                process.terminate()

    def take(self, module: Sequence[str]) -> Inner | None:
        """The spare, which runs a module with arguments from now on; None where there is none."""
        with self._lock:
            process, self._process = self._process, None
        if process and process.poll() is None:
            with suppress(OSError), _input(process) as told:  # it has just ended
                told.write(f"{json.dumps(list(module))}\n".encode())
                return process
        return None

    def opened(self, opens: Any) -> Any:
        """A replacement of Dagster's `opens`, which starts an inner process: by the spare, where there is one."""

        def open_ipc_subprocess(command: Sequence[str], **options: Any) -> Any:
            # The command is `python -m <module> <arguments>` (paced.py).
            return self.take(command[2:]) or opens(command, **options)

        return open_ipc_subprocess


def _input(process: Inner) -> IO[Any]:
    assert process.stdin is not None
    return process.stdin


def modules_file(location: str | None, home: str | Path | None = None) -> Path | None:
    """The file in which the inner process of a location's code server tells its modules once it has loaded the code.

    `home` is the stack's; where it is not given, that of this process. None outside a stack.
    """
    home = home or os.environ.get("SEARCHLOOP_HOME")
    return Path(home, "code", f"{location}.modules") if home and location else None


def is_spare(pid: int) -> bool:
    """Whether a code server's child is its spare, which has not been taken yet."""
    return os.getpgid(pid) == pid


def tell() -> None:
    """Have the inner process that this one becomes tell its modules once it has loaded the code."""
    from dagster._grpc import server

    class TellingServer(server.DagsterApiServer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if file := modules_file(options["location_name"]):
                with suppress(OSError):  # a disk that takes nothing keeps nothing else from going on
                    _tell_modules(file)

    server.DagsterApiServer = TellingServer  # type: ignore[misc]


def _tell_modules(file: Path) -> None:
    """Write down the modules of this process that are not of the checkout, in the order in which they were imported."""
    outside = [name for name, module in list(sys.modules.items()) if _is_of_environment(name, module)]
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".modules.unfinished")
    written.write_text("\n".join(outside))
    written.replace(file)


def _is_of_environment(name: str, module: Any) -> bool:
    """Whether a module is of Python's own library, or a package that is installed."""
    parts = Path(getattr(module, "__file__", None) or "").parts
    return name != "__main__" and (name.partition(".")[0] in sys.stdlib_module_names or "site-packages" in parts)


def _import(names: Iterable[str]) -> None:
    for name in names:
        with suppress(Exception):  # what is not to be had here fails where the code needs it
            importlib.import_module(name)


def main(modules: str) -> None:
    """Import, wait to be taken, and run the module that is told then; end where the code server was killed."""
    importlib.import_module("dagster._grpc.server")
    with suppress(OSError):
        _import(Path(modules).read_text().splitlines())
    if told := sys.stdin.readline():
        os.setpgid(0, os.getpgid(os.getppid()))  # with which a stack's processes are ended
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        module, *arguments = json.loads(told)
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1])
