"""A small corpus of real sentences, for the tests that need the tables of a snapshot and no more."""

import polars as pl

from shared_ops.data import tables

DOCUMENTS = {
    "numpy.mean": "Compute the arithmetic mean along the specified axis.",
    "numpy.median": "Compute the median along the specified axis.",
    "numpy.std": "Compute the standard deviation along the specified axis.",
    "numpy.linalg.norm": "Matrix or vector norm.",
    "numpy.sort": "Return a sorted copy of an array.",
    "numpy.argsort": "Return the indices that would sort an array.",
    "numpy.unique": "Find the unique elements of an array.",
    "numpy.cumsum": "Return the cumulative sum of the elements along a given axis.",
}
QUERIES = [
    ("q1", "average of the elements", "train", {"numpy.mean": 1}),
    ("q2", "sorted copy", "train", {"numpy.sort": 1}),
    ("q3", "standard deviation", "dev", {"numpy.std": 1}),
    ("q4", "median along an axis", "test", {"numpy.median": 1}),
    ("q5", "indices that sort", "test", {"numpy.argsort": 2, "numpy.sort": 1}),
    ("q6", "norm of a vector", "test", {"numpy.linalg.norm": 1}),
]


def content() -> dict[str, pl.DataFrame]:
    """The tables of a snapshot."""
    documents = [
        {"doc_id": doc_id, "source": "numpy", "title": doc_id, "text": text, "url": None, "metadata": "{}"}
        for doc_id, text in DOCUMENTS.items()
    ]
    queries = [
        {"query_id": query_id, "text": text, "split": split, "source": "numpy"} for query_id, text, split, _ in QUERIES
    ]
    qrels = [
        {"query_id": query_id, "doc_id": doc_id, "grade": grade}
        for query_id, _, _, grades in QUERIES
        for doc_id, grade in grades.items()
    ]
    return {
        "documents": tables.make("documents", documents),
        "queries": tables.make("queries", queries),
        "qrels": tables.make("qrels", qrels),
        "slices": tables.make("slices", [{"query_id": "q4", "slice": "verbatim"}]),
    }
