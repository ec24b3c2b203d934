"""What each kind of process may take of the machine: search comes first, then the control plane, then trainings.

The one place where priorities, threads and memory are bounded. A run is a child of its code server, and inherits all.
"""

import os
from dataclasses import dataclass

import psutil

from shared_ops.settings import Settings

GIB = 2**30


@dataclass(frozen=True)
class Share:
    """A kind of process's part of the machine."""

    nice: int
    """Added to the niceness that the stack was started with (nice(1)): a higher one gives way to a lower one."""
    threads: int
    """How many the numeric libraries use, in each process."""
    given_up: int
    """Where the machine runs out of memory, Linux ends first what has the most of this (proc(5), oom_score_adj)."""
    bounded: bool = False
    """Whether a process may have no more memory than a training."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment by which the numeric libraries know how many threads to make."""
        return dict.fromkeys(_THREADS, str(self.threads))

    def most_memory(self, settings: Settings) -> int:
        """Bytes that a process may have; 0: as many as there are."""
        return int(training_gib(settings) * GIB) if self.bounded else 0


_THREADS = (
    "OMP_NUM_THREADS",  # torch, faiss, scikit-learn
    "OPENBLAS_NUM_THREADS",  # numpy, scipy
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)

SERVING = Share(nice=0, threads=1, given_up=0)
"""One thread: a service answers one query at a time, and a second thread of BLAS spins for longer than it helps."""
CONTROL = Share(nice=5, threads=1, given_up=200)
"""Dagit, the daemon, the supervisor's helpers, and Postgres: a search waits for none of them."""
TRAINING = Share(nice=10, threads=os.cpu_count() or 1, given_up=800, bounded=True)
"""Code servers and their runs: no more threads than cores each, and all of them give way to whatever is served."""


def training_gib(settings: Settings) -> float:
    """GiB of memory that a training may have: what is set, or half of the machine's."""
    return settings.training_gib or psutil.virtual_memory().total / GIB / 2
