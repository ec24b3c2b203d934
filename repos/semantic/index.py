"""Vector search over passages, where a document's score is its best passage's (MaxP, Dai and Callan 2019).

Knows nothing of texts. Exact up to a number of passages, beyond it FAISS: the two have one interface.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

BATCH = 128
"""Queries that are compared at once: bounds the memory of their scores."""

PASSAGES = "passages.safetensors"
CELLS = "cells.faiss"


class PassageIndex(Protocol):
    """Finds documents by their passages' vectors."""

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best `k` documents of each query [queries, width]: (documents, scores) [queries, <= k], best first.

        Scores are inner products, of unit vectors cosines; equal ones stand in the order of documents. Where there
        are fewer than k documents the rest of a row is document -1.
        """

    def write(self, folder: Path) -> None:
        """Write the index into `folder`; `read_index` reads it."""


def build(vectors: np.ndarray, starts: np.ndarray, exact_below: int, seed: int) -> PassageIndex:
    """The index of passages `vectors` [passages, width] float16, where document i begins at passage `starts[i]`."""
    if len(vectors) < exact_below:
        return ExactIndex(vectors, starts)
    return ApproximateIndex.train(vectors, starts, seed)


def read_index(folder: Path) -> PassageIndex:
    """The index that was written into `folder`."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / PASSAGES)
    if (folder / CELLS).exists():
        import faiss

        return ApproximateIndex(faiss.read_index(str(folder / CELLS)), arrays["starts"])
    return ExactIndex(arrays["vectors"], arrays["starts"])


class ExactIndex:
    """Every passage is compared with the query."""

    def __init__(self, vectors: np.ndarray, starts: np.ndarray) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.starts = starts

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `PassageIndex.search`."""
        k = min(k, len(self.starts))
        documents = np.zeros((len(queries), k), np.int64)
        scores = np.zeros((len(queries), k), np.float32)
        for first in range(0, len(queries), BATCH):
            rows = slice(first, first + BATCH)
            compared = queries[rows].astype(np.float32) @ self.vectors.T
            documents[rows], scores[rows] = _best(np.maximum.reduceat(compared, self.starts, axis=1), k)
        return documents, scores

    def write(self, folder: Path) -> None:
        """Write the vectors, as the 16-bit floats that they were built from."""
        from safetensors.numpy import save_file

        save_file({"vectors": self.vectors.astype(np.float16), "starts": self.starts}, folder / PASSAGES)


def _best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The places and values of each row's `k` largest, largest first; equal ones by place."""
    # Every value that reaches the k-th: a partition alone would choose among equal ones by chance.
    limit = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]
    places = np.zeros((len(scores), k), np.int64)
    for row, values in enumerate(scores):
        reached = np.flatnonzero(values >= limit[row])
        places[row] = reached[np.argsort(-values[reached], kind="stable")[:k]]
    return places, np.take_along_axis(scores, places, axis=1)


class ApproximateIndex:
    """Passages in cells around centroids, of which those nearest to the query are searched (FAISS, IVF with 16-bit
    floats: Douze et al. 2024).
    """

    PROBED = 8
    """One cell in so many is searched."""
    FETCHED = 4
    """Passages fetched for each document asked for, as several may belong to one document."""

    def __init__(self, cells: Any, starts: np.ndarray) -> None:
        self.cells = cells
        self.owners = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, cells.ntotal)))
        self.starts = starts

    @classmethod
    def train(cls, vectors: np.ndarray, starts: np.ndarray, seed: int) -> "ApproximateIndex":
        """Find the centroids by k-means on a sample, then put every passage into its cell."""
        import faiss

        count = max(1, int(np.sqrt(len(vectors))))
        cells: Any = faiss.index_factory(vectors.shape[1], f"IVF{count},SQfp16", faiss.METRIC_INNER_PRODUCT)
        cells.cp.seed = seed
        cells.nprobe = max(1, count // cls.PROBED)
        vectors = np.ascontiguousarray(vectors, np.float32)
        cells.train(vectors)
        cells.add(vectors)
        return cls(cells, starts)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `PassageIndex.search`. A document is not found where no cell searched holds one of its passages."""
        k = min(k, len(self.starts))
        count = min(k * self.FETCHED, len(self.owners))
        similar, passages = self.cells.search(np.ascontiguousarray(queries, np.float32), count)
        documents = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for row in range(len(queries)):
            present = passages[row] >= 0
            owners, values = self.owners[passages[row][present]], similar[row][present]
            order = np.lexsort((owners, -values))
            _, firsts = np.unique(owners[order], return_index=True)
            best = order[np.sort(firsts)][:k]
            documents[row, : len(best)], scores[row, : len(best)] = owners[best], values[best]
        return documents, scores

    def write(self, folder: Path) -> None:
        """Write the cells with their passages."""
        import faiss
        from safetensors.numpy import save_file

        faiss.write_index(self.cells, str(folder / CELLS))
        save_file({"starts": self.starts}, folder / PASSAGES)
