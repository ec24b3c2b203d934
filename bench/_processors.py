"""The processor time and the memory that a running stack's processes take, by name."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from deploy.stack.processes.supervisor import Supervisor


class Processors:
    """The processor time that a stack's processes take."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @contextmanager
    def measured(self) -> Iterator[dict[str, float]]:
        """The seconds that each process takes during the block, by its name; filled in when the block has ended."""
        spent: dict[str, float] = {}
        before = self._seconds()
        yield spent
        spent |= {name: seconds - before.get(name, 0.0) for name, seconds in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        own = psutil.Process(self._supervisor_pid()).cpu_times()
        return {name: _with_children(pid) for name, pid in self._pids().items()} | {"supervisor": own.user + own.system}

    def memory(self) -> dict[str, float]:
        """The GB of memory that are each process's share, with its children (PSS: a page of several is split)."""
        taken = {name: _memory(pid) for name, pid in self._pids().items()}
        return taken | {"supervisor": psutil.Process(self._supervisor_pid()).memory_full_info().pss / 1e9}

    def _pids(self) -> dict[str, int]:
        return {state.name: state.pid for state in self._supervisor.states().values() if state.pid}

    def _supervisor_pid(self) -> int:
        return int((self._supervisor.folder / "supervisord.pid").read_text())


def _with_children(pid: int) -> float:
    """Seconds of processor that a process and its children took, including children that have ended."""
    total, process = 0.0, psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:4])  # its own, and those of its ended children
    return total


def _memory(pid: int) -> float:
    """GB of memory that a process and its children have."""
    total, process = 0.0, psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += each.memory_full_info().pss / 1e9
    return total


def by_process(spent: dict[str, float], factor: float) -> str:
    """The seconds of each process times `factor`, the busiest first."""
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {seconds * factor:.1f}" for name, seconds in ordered if seconds * factor >= 0.05)
