"""Whether serving and training see the same features: those logged when a query was answered are computed again.

Knows no Dagster and no torch, and not where releases are kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from repos.ranker.features import FeatureSpace
from shared_ops.data.tables import served_hits

EXAMPLES = 20


@dataclass(frozen=True)
class Unequal:
    """A feature whose served value differs from the one that training computes; None stands for a value not known."""

    query_id: str
    doc_id: str
    feature: str
    served: float | None
    trained: float | None

    @property
    def difference(self) -> float:
        """How far apart the two are; 0 where one is not known."""
        return 0.0 if self.served is None or self.trained is None else abs(self.served - self.trained)


@dataclass(frozen=True)
class Skew:
    """The result of comparing requests."""

    compared: int
    unequal: int
    """How many of the requests compared hold a feature that differs."""
    skipped: int
    """Requests of rankers without a feature space (see `compare`)."""
    largest_difference: float
    """Between values that are both known."""
    examples: list[Unequal]
    """The first of the unequal."""


def compare(requests: pl.DataFrame, space_of: Callable[[str], FeatureSpace | None]) -> Skew:
    """Compute the features of every row of a `requests` table again, just as training does, and compare.

    `space_of` gives the feature space of a ranker's release, None where there is none to compare with. Equal means
    equal in every bit: logged values are float32, and their way through JSON loses nothing. NaN (not known) equals NaN.

    Raises:
        ValueError: when the hits of a request are of a family that its ranker does not know.
    """
    compared = unequal = skipped = 0
    largest = 0.0
    examples: list[Unequal] = []
    for request in requests.iter_rows(named=True):
        space = space_of(request["ranker"])
        if space is None:
            skipped += 1
            continue
        differences = list(_unequal(request, space))
        compared += 1
        unequal += bool(differences)
        largest = max([largest, *(each.difference for each in differences)])
        examples += differences[: EXAMPLES - len(examples)]
    return Skew(compared, unequal, skipped, largest, examples)


def _unequal(request: dict[str, Any], space: FeatureSpace) -> Iterator[Unequal]:
    """The features of one request that differ."""
    candidates = space.candidates(request["text"], served_hits(request["hits"]))
    rows, names = {doc_id: row for row, doc_id in enumerate(candidates.doc_ids)}, space.names
    # Features are logged of the first documents of a page, perhaps not of all.
    for doc_id, logged in zip(request["doc_ids"], request["features"], strict=False):
        if doc_id not in rows:
            yield Unequal(request["query_id"], doc_id, "is among the hits", 1.0, 0.0)
        elif len(logged) != len(names):
            yield Unequal(request["query_id"], doc_id, "number of features", len(logged), len(names))
        else:
            served, trained = np.array(logged, np.float32), candidates.features[rows[doc_id]]
            equal = (served == trained) | (np.isnan(served) & np.isnan(trained))
            for column in np.flatnonzero(~equal):
                values = _known(served[column]), _known(trained[column])
                yield Unequal(request["query_id"], doc_id, names[column], *values)


def _known(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
