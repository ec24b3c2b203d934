"""What ranking could still give: what fixed weights reach in hindsight, and the perfect order of what was found.

Both look at the judgements of the very queries that they are measured on: bounds to compare with, no way to answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import comb

import numpy as np

from shared_ops.data.tables import Hits
from shared_ops.judge.evaluation import CUTOFF
from shared_ops.judge.fusion import best_first, min_max

MOST_WEIGHTS = 500
FINEST = 20
"""A weight is a multiple of one part in so many, or of a larger part where that would make more than MOST_WEIGHTS."""

Grades = Mapping[str, int]
"""The judged documents of a query, with their grades."""


def hindsight_weights(hits: Sequence[Mapping[str, Hits]], grades: Sequence[Grades]) -> dict[str, float]:
    """The weights of min-max fusion with the highest mean nDCG@10 on these queries; they sum to 1.

    Found by trying: every vector of weights on a grid. Of several that are as good, the most even one.

    Args:
        hits: of each query, what each model found.
        grades: of each query, its judgements.
    """
    models = sorted({model for each in hits for model in each})
    weights = np.array(list(_grid(len(models))))
    total = np.zeros(len(weights))
    for found, judged in zip(hits, grades, strict=True):
        total += _ndcg(models, found, judged, weights)
    # Rounded: sums that differ in the last digits alone are as good.
    best = np.flatnonzero(np.round(total, 9) == np.round(total, 9).max())
    even = best[np.argmin((weights[best] ** 2).sum(axis=1))]
    return dict(zip(models, weights[even].tolist(), strict=True))


def perfect_order(hits: Mapping[str, Hits], grades: Grades) -> Hits:
    """What the models found, best grade first."""
    return best_first({doc_id: float(grades.get(doc_id, 0)) for found in hits.values() for doc_id, _ in found})


def _grid(models: int) -> Iterator[list[float]]:
    """Every vector of weights for so many models that sums to 1, in steps as fine as may be."""
    sizes = {parts: comb(parts + models - 1, models - 1) for parts in range(FINEST, 0, -1)}
    parts = next((parts for parts, size in sizes.items() if size <= MOST_WEIGHTS), 1)
    for shares in _shares(models, parts):
        yield [share / parts for share in shares]


def _shares(models: int, parts: int) -> Iterator[list[int]]:
    if models == 1:
        yield [parts]
        return
    for first in range(parts + 1):
        for rest in _shares(models - 1, parts - first):
            yield [first, *rest]


def _ndcg(models: Sequence[str], found: Mapping[str, Hits], grades: Grades, weights: np.ndarray) -> np.ndarray:
    """A query's nDCG@10 by each vector of weights: (vectors,). Ties go by doc_id, as in the fusion."""
    doc_ids = sorted({doc_id for each in found.values() for doc_id, _ in each})
    best = np.array(sorted(grades.values(), reverse=True)[:CUTOFF])
    ideal = float(best @ _discounts(len(best)))
    if not doc_ids or not ideal:
        return np.zeros(len(weights))
    row = {doc_id: place for place, doc_id in enumerate(doc_ids)}
    scores = np.zeros((len(doc_ids), len(models)))
    for column, model in enumerate(models):
        for doc_id, score in min_max(found.get(model, [])).items():
            scores[row[doc_id], column] = score
    gains = np.array([grades.get(doc_id, 0) for doc_id in doc_ids])
    order = np.argsort(-(scores @ weights.T), axis=0, kind="stable")[:CUTOFF]
    return np.asarray(_discounts(len(order)) @ gains[order] / ideal)


def _discounts(ranks: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, ranks + 2))
