"""How long models take to answer one query, measured side by side.

Knows no Dagster. Models take turns query by query, so that whatever else the machine does slows both alike.
"""

import time
from collections.abc import Mapping
from statistics import median
from typing import Protocol, runtime_checkable

import polars as pl

from shared_ops.judge.training import Answers

QUERIES = 40
"""The most queries that are measured."""
WARM_UP = 3
"""The number of queries that each model answers before it is measured."""


def medians(models: Mapping[str, Answers], queries: pl.DataFrame) -> dict[str, float]:
    """Each model's median milliseconds for a query, over a spread of `queries`; without any, for an empty text."""
    ordered = queries.sort("query_id").select("query_id", "text")
    chosen = ordered.gather_every(max(len(ordered) // QUERIES, 1)).head(QUERIES).rows() or [("none", "")]
    took: dict[str, list[float]] = {name: [] for name in models}
    for number, (query_id, text) in enumerate([*chosen[:WARM_UP], *chosen]):
        for name, model in models.items():
            seconds = _seconds(model, query_id, text)
            if number >= len(chosen[:WARM_UP]):
                took[name].append(seconds * 1000)
    return {name: median(times) for name, times in took.items()}


@runtime_checkable
class Timer(Protocol):
    """Answers that measure their own time."""

    def seconds(self, query_id: str, text: str) -> float:
        """The seconds that one query takes."""


def _seconds(model: Answers, query_id: str, text: str) -> float:
    if isinstance(model, Timer):
        return model.seconds(query_id, text)
    began = time.perf_counter()
    model.one(query_id, text)
    return time.perf_counter() - began
