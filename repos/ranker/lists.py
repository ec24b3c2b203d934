"""Training lists: the candidates of many queries, padded to one length, with their grades.

Knows no model. Within a list the relevant candidates stand first, then the others by equal-weight fusion: so a slice of
the first columns keeps what a loss learns most from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from repos.ranker.features import Array, Candidates
from repos.ranker.losses import ideal_dcg
from repos.ranker.network import Scaler
from shared_ops.data.tables import Hits
from shared_ops.judge.fusion import best_first

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Lists:
    """Candidates of queries as they are collected: one entry each."""

    fused: int
    """How many of the first columns a linear fusion adds up."""
    width: int
    query_ids: list[str] = field(default_factory=list)
    doc_ids: list[list[str]] = field(default_factory=list)
    features: list[Array] = field(default_factory=list)
    grades: list[Array] = field(default_factory=list)
    best_grades: list[list[float]] = field(default_factory=list)

    def add(self, query_id: str, candidates: Candidates, judged: Mapping[str, float]) -> None:
        """Add a query's candidates, with its judgements (doc_id to grade), also of documents that are no candidates."""
        grades = np.array([judged.get(doc_id, 0) for doc_id in candidates.doc_ids], np.float32)
        together = candidates.features[:, : self.fused].sum(axis=1)
        order = np.lexsort((-together, grades == 0))
        self.query_ids.append(query_id)
        self.doc_ids.append([candidates.doc_ids[row] for row in order])
        self.features.append(candidates.features[order])
        self.grades.append(grades[order])
        self.best_grades.append(sorted(judged.values(), reverse=True)[:10])

    @property
    def answered(self) -> int:
        """How many lists hold an answer."""
        return sum(bool(grades.any()) for grades in self.grades)

    def followed_by(self, others: "Lists") -> "Lists":
        """These lists, then the others."""
        return Lists(
            self.fused,
            self.width,
            self.query_ids + others.query_ids,
            self.doc_ids + others.doc_ids,
            self.features + others.features,
            self.grades + others.grades,
            self.best_grades + others.best_grades,
        )

    def ordered(self, scores: Array) -> dict[str, Hits]:
        """Each query's candidates by these scores [queries, documents], best first."""
        rows = zip(self.query_ids, self.doc_ids, scores.astype(np.float64), strict=True)
        return {i: best_first(dict(zip(doc_ids, row.tolist(), strict=False))) for i, doc_ids, row in rows}

    def batch(self, scaler: Scaler) -> "ListBatch":
        """The lists as tensors."""
        import torch

        size = (len(self.query_ids), max(map(len, self.grades), default=1))
        features, grades = np.zeros((*size, self.width), np.float32), np.zeros(size, np.float32)
        fused, mask = np.zeros((*size, self.fused), np.float32), np.zeros(size, bool)
        best = np.zeros((size[0], 10), np.float32)
        for row, (raw, graded, judged) in enumerate(zip(self.features, self.grades, self.best_grades, strict=True)):
            features[row, : len(raw)] = scaler(raw)
            fused[row, : len(raw)] = raw[:, : self.fused]
            grades[row, : len(raw)] = graded
            mask[row, : len(raw)] = True
            best[row, : len(judged)] = judged
        return ListBatch(
            torch.from_numpy(features),
            torch.from_numpy(fused),
            torch.from_numpy(grades),
            torch.from_numpy(mask),
            ideal_dcg(torch.from_numpy(best)),
        )


@dataclass(frozen=True)
class ListBatch:
    """Lists as tensors [queries, documents, ...], padded where `mask` is false; `ideal` [queries] is the best DCG."""

    features: "Tensor"
    fused: "Tensor"
    grades: "Tensor"
    mask: "Tensor"
    ideal: "Tensor"

    def __len__(self) -> int:
        return int(self.grades.shape[0])

    def take(self, rows: "Tensor | slice", depth: int | None = None) -> "ListBatch":
        """The lists of these queries, cut to the first `depth` candidates if given."""
        return ListBatch(
            self.features[rows, :depth], self.fused[rows, :depth], self.grades[rows, :depth], self.mask[rows, :depth],
            self.ideal[rows],
        )  # fmt: skip

    def parts(self, size: int) -> "list[ListBatch]":
        """The lists in parts of `size` queries."""
        import torch

        return [self.take(rows) for rows in torch.arange(len(self)).split(size)]
