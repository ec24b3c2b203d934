"""A library of a few documents, and queries whose answers are in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from shared_ops.data import tables

LAST_SEEN = datetime(2026, 1, 1, tzinfo=UTC)

TEXTS = {
    "d-sort": ("sort", "Return a sorted copy of an array, in ascending order."),
    "d-argsort": ("argsort", "Indices that would put an array in ascending order."),
    "d-inv": ("inv", "The multiplicative inverse of a square matrix."),
    "d-solve": ("solve", "Solve a linear matrix equation, or a system of linear scalar equations."),
    "d-kmeans": ("KMeans", "Partition observations into clusters around centroids."),
    "d-dbscan": ("DBSCAN", "Density based clustering of applications with noise."),
    "d-fft": ("fft", "One-dimensional discrete Fourier transform."),
    "d-plot": ("plot", "Draw lines and markers on a figure."),
}

QUERIES = [
    ("q-sort", "order the values of an array", "train", {"d-sort": 2, "d-argsort": 1}),
    ("q-inverse", "invert a matrix", "train", {"d-inv": 1}),
    ("q-cluster", "group similar points", "train", {"d-kmeans": 2, "d-dbscan": 1}),
    ("q-fft", "spectrum of a signal", "train", {"d-fft": 1}),
    ("q-dev", "put the values of an array in order", "dev", {"d-sort": 1}),
    ("q-test", "inverting a square matrix", "test", {"d-inv": 1}),
]


@pytest.fixture
def documents() -> pl.DataFrame:
    return tables.make(
        "documents",
        [
            {"doc_id": doc_id, "source": "library", "title": title, "text": text, "url": None, "metadata": "{}"}
            for doc_id, (title, text) in TEXTS.items()
        ],
    )


@pytest.fixture
def queries() -> pl.DataFrame:
    return tables.make(
        "queries",
        [{"query_id": name, "text": text, "split": split, "source": "library"} for name, text, split, _ in QUERIES],
    )


@pytest.fixture
def qrels() -> pl.DataFrame:
    return tables.make(
        "qrels",
        [
            {"query_id": name, "doc_id": doc_id, "grade": grade}
            for name, _, _, answers in QUERIES
            for doc_id, grade in answers.items()
        ],
    )


def click(
    query_id: str,
    text: str,
    doc_id: str,
    clicks: int = 9,
    impressions: int = 10,
    position: float = 1.0,
    looked_at: float | None = None,
    days_ago: float = 0.0,
    fold: int = 0,
) -> dict[str, Any]:
    """A row of the `clicks` table, looked at by all who were shown it where nothing else is said."""
    return {
        "query_id": query_id, "text": text, "doc_id": doc_id, "clicks": clicks, "impressions": impressions,
        "mean_position": position, "examinations": float(impressions if looked_at is None else looked_at),
        "last_seen": LAST_SEEN - timedelta(days=days_ago), "fold": fold,
    }  # fmt: skip
