"""What each kind of process may take of the machine: search comes first, then the control plane, then trainings.

The one place where priorities and threads are set. A run is a child of its code server, and inherits both.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A kind of process's part of the machine."""

    nice: int
    """Added to the niceness that the stack was started with (nice(1)): a higher one gives way to a lower one."""
    threads: int
    """How many the numeric libraries use, in each process."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment by which the numeric libraries know how many threads to make."""
        return dict.fromkeys(_THREADS, str(self.threads))


_THREADS = (
    "OMP_NUM_THREADS",  # torch, faiss, scikit-learn
    "OPENBLAS_NUM_THREADS",  # numpy, scipy
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)

SERVING = Share(nice=0, threads=1)
"""One thread: a service answers one query at a time, and a second thread of BLAS spins for longer than it helps."""
CONTROL = Share(nice=5, threads=1)
"""Dagit, the daemon, the supervisor's helpers, and Postgres: a search waits for none of them."""
TRAINING = Share(nice=10, threads=os.cpu_count() or 1)
"""Code servers and their runs: no more threads than cores each, and all of them give way to whatever is served."""
