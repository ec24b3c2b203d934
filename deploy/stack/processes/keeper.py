"""What the supervisor runs for each process of the stack: the process itself, or one that a former supervisor left.

A supervisor that is killed leaves its processes behind, and they serve on: the next supervisor's keepers find them by
their records and stand in for them, so nothing has to be started anew. Where none is left, a keeper becomes the
process. Its output goes straight to the log: a pipe to the supervisor would break with it.
A record names its home: in a home that was copied while its stack ran, the records are the other stack's, and count for
nothing. Imports little: it starts once more for every process of the stack.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

END_SECONDS = 4
"""How long a process may take to stop before it is killed: less than the supervisor gives its keeper."""
CLOCK_SECONDS = 2
"""How far two readings of a process's start time may differ: it is counted from the machine's start."""


def living(record: Path) -> psutil.Process | None:
    """The process of a record, if it is still alive; None also where another process has its number by now.

    None, too, where the record is of another home, of which this one is a copy: the process is not this stack's to end.
    """
    try:
        entry = json.loads(record.read_text())
        if entry.get("home") != home_of(record):
            return None
        process = psutil.Process(entry["pid"])
        same = abs(process.create_time() - entry["started"]) < CLOCK_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, json.JSONDecodeError, psutil.NoSuchProcess):
        return None


def home_of(record: Path) -> str:
    """The home in whose folder `supervisor` a record lies."""
    return str(record.resolve().parents[1])


def stand_in_for(process: psutil.Process) -> None:
    """Pass signals to end on to the process and its group, and return once it has ended."""

    def hand_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(psutil.TimeoutExpired):
            process.wait(END_SECONDS)
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    process.wait()


def bound_memory(given_up: int, most: int) -> None:
    """Bound the memory of this process and of each that it starts, and say how soon they are given up for others.

    Args:
        given_up: where the machine runs out of memory, Linux ends first what has the most of this, 0 to 1000 (proc(5)).
        most: bytes, 0 for no bound. Beyond it an allocation fails, and with it who asked, before the machine lacks
            anything: the kernel counts what a process can write and shares with none (setrlimit(2), RLIMIT_DATA).
    """
    if most:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    score = Path("/proc/self/oom_score_adj")
    if score.exists():  # on Linux
        score.write_text(str(max(given_up, int(score.read_text()))))  # less than it was would take a privilege


def main(record: Path, log: Path, given_up: int, most: int, command: list[str]) -> None:
    """Stand in for the recorded process, or become a new one."""
    left = living(record)
    if left is not None and left.pid != os.getpid():
        print(f"process {left.pid} was left by a former supervisor, and serves on", flush=True)
        return stand_in_for(left)
    written = record.with_suffix(".new")
    started = psutil.Process().create_time()
    written.write_text(json.dumps({"pid": os.getpid(), "started": started, "home": home_of(record)}))
    written.replace(record)
    bound_memory(given_up, most)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
