"""What benchmarks compare with: the goal of each figure, and what was recorded last (docs/load.md)."""

from typing import NamedTuple

MACHINE = "2 cores with bfloat16 instructions, default corpus, seven code servers"
DATE = "2026-11-30"


class Figure(NamedTuple):
    """What a figure is compared with, in words."""

    goal: str
    recorded: str

    def __str__(self) -> str:
        return f"[goal: {self.goal}; recorded: {self.recorded}]"


IDLE = {
    True: Figure("0.1 at most", "0.090, 0.094; 0.077 a minute later"),
    False: Figure("0.05 at most", "0.048, 0.054"),
}
"""Busy cores of the idle stack, by whether the daemon runs."""
RATE = 20.0
"""The searches a second that percentiles were recorded at."""
P99 = {
    True: Figure("1.5 times that without the daemon at most", "85, 80 ms"),
    False: Figure("100 ms at most, which seems at once", "64, 67 ms"),
}
"""The 99th percentile at that rate, by whether the daemon runs."""
PROCESSOR = Figure("50 ms at most in all", "semantic 18; search app, ranker, behavior, keyword 9, 5.9, 5.6, 1.9")
"""Milliseconds of processor that a search takes."""
TRAINING = Figure("p99 at most twice that without a training, 0 lack a model", "41, 124 ms; 0 of 3,710 lack one")
"""The 50th and 99th percentile at that rate while a family trains, and the answers that lack a model."""
SAVE, SAVE_WORST = (
    Figure("2.5 s at most", "0.79 s"),
    Figure("5 s at most", "1.00 s"),
)
"""The median and the worst of 20 saves: seconds until Dagit's GraphQL shows what was saved."""
CODE_SERVER, CODE_SERVER_MEMORY = Figure("4 s at most", "3.7 s"), Figure("160 MB at most", "123 MB")
"""The slowest code server's seconds until its code is loaded, and the largest one's share of memory."""
