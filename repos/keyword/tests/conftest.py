"""A library of a few documents, and queries whose answers are in it."""

import polars as pl
import pytest

from shared_ops.data import tables

TEXTS = {
    "d-csv": ("pandas.read_csv", "Read a comma-separated values file into a DataFrame."),
    "d-excel": ("pandas.read_excel", "Read an Excel file into a DataFrame."),
    "d-group": ("DataFrame.groupby", "Group rows by a mapper, and aggregate what is in each group."),
    "d-sort": ("numpy.sort", "Return a sorted copy of an array, in ascending order."),
    "d-where": ("numpy.where", "Return elements chosen from x or y depending on condition."),
    "d-kmeans": ("KMeans", "Partition observations into clusters around centroids."),
}
QUERIES = [
    ("q-csv", "reading comma separated files", "train", "d-csv"),
    ("q-group", "aggregate groups of rows", "dev", "d-group"),
    ("q-cluster", "cluster observations", "dev", "d-kmeans"),
    ("q-sort", "sorting arrays", "test", "d-sort"),
]


def library(texts: dict[str, tuple[str, str]]) -> pl.DataFrame:
    """A `documents` table of doc_id to title and text."""
    row = {"source": "library", "url": None, "metadata": "{}"}
    return tables.make(
        "documents", [{"doc_id": name, "title": title, "text": text, **row} for name, (title, text) in texts.items()]
    )


@pytest.fixture
def documents() -> pl.DataFrame:
    return library(TEXTS)


@pytest.fixture
def queries() -> pl.DataFrame:
    rows = [{"query_id": name, "text": text, "split": split, "source": "library"} for name, text, split, _ in QUERIES]
    return tables.make("queries", rows)


@pytest.fixture
def qrels() -> pl.DataFrame:
    return tables.make("qrels", [{"query_id": name, "doc_id": doc_id, "grade": 1} for name, _, _, doc_id in QUERIES])
