"""The figures that benchmarks have goals for, and how a benchmark tells one: imported in every environment.

A figure is told in a line, beside its goal. `make bench` gathers the lines of all benchmarks in bench/RESULTS.md.
"""

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

GATHERED = "BENCH_FIGURES"
"""The variable that names the file which figures are added to, a line of JSON each; unset: they are printed alone."""


class Goal(NamedTuple):
    """What a figure is to be at most, or at least."""

    value: float
    unit: str
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Whether a figure of this value meets the goal."""
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        return f"at {'least' if self.at_least else 'most'} {self.value:g} {self.unit}"


GOALS = {
    "20 searches a second: median": Goal(20, "ms"),
    "20 searches a second: p99": Goal(60, "ms"),
    "20 searches a second: p99 with the daemon, over p99 without": Goal(1.5, "x"),
    "20 searches a second: p99 while a model trains, over p99 without": Goal(1.5, "x"),
    "searches a second, p99 below 250 ms, none lacks a model": Goal(100, "/s", at_least=True),
    "the same search again within a minute": Goal(3, "ms"),
    "a search's processor time, all processes": Goal(50, "ms"),
    "one short query encoded": Goal(2.5, "ms"),
    "keyword over bm25s (numba): from texts": Goal(1.3, "x", at_least=True),
    "keyword over bm25s (numba): from term numbers, one thread": Goal(1.6, "x", at_least=True),
    "ranker: 300 candidates to their order": Goal(2.5, "ms"),
    "ranker with 30 training queries, minus hindsight fusion": Goal(0, "nDCG@10", at_least=True),
    "idle stack: cores busy": Goal(0.05, "cores"),
    "idle stack: memory": Goal(3.0, "GB"),
    "from clicks to the new set answering, beside its runs": Goal(15, "s"),
    "a save until Dagit shows it: median": Goal(2.5, "s"),
    "a save until Dagit shows it: worst": Goal(5, "s"),
    "a code server's start: slowest": Goal(4, "s"),
    "a code server's memory: largest": Goal(160, "MB"),
}
"""Each figure with its goal on two cores, the default corpus, in the order of the table."""


def tell(name: str, value: float) -> None:
    """Print a figure beside its goal, and add it to those that are gathered.

    Raises:
        KeyError: where GOALS has no figure of this name.
    """
    goal = GOALS[name]
    print(f"  {name}: {value:.4g} {goal.unit} [goal: {goal}; {'met' if goal.is_met(value) else 'NOT met'}]", flush=True)
    if gathered := os.environ.get(GATHERED):
        with Path(gathered).open("a") as file:
            file.write(json.dumps({"figure": name, "value": value}) + "\n")


def where() -> str:
    """When, and on what machine with what load, a benchmark runs."""
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.platform()}"
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}"
