import os

import polars as pl
import pytest

from repos.semantic.encoder import PACKAGED, Encoder, find

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]

TOPICS = {
    "sorting": ["order the rows of a table", "arrange numbers from small to large", "sort values"],
    "matrices": ["invert a square matrix", "multiply two matrices", "solve linear equations"],
    "clustering": ["group similar points together", "find clusters in data", "assign points to centroids"],
    "plotting": ["draw a line chart", "show a histogram of values", "save a figure to a file"],
    "dates": ["parse a date from text", "convert between time zones", "find the day of the week"],
    "graphs": ["shortest path between two nodes", "count the neighbours of a node", "colour the vertices"],
}


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return find(PACKAGED)


@pytest.fixture(scope="session")
def tables() -> Tables:
    """18 documents on 6 topics, each with a train, a dev and a test query."""
    documents, queries, qrels = [], [], []
    for topic, sentences in TOPICS.items():
        for number, sentence in enumerate(sentences):
            doc_id = f"{topic}-{number}"
            text = f"This function helps you to {sentence}.\n\nIt belongs to the chapter on {topic}. " * 12
            documents.append((doc_id, "test", f"{topic}.{number}", text, None, "{}"))
            for split, words in {"train": "how do I", "dev": "a way to", "test": "please"}.items():
                query_id = f"{split}-{doc_id}"
                queries.append((query_id, f"{words} {sentence}", split, "test"))
                qrels.append((query_id, doc_id, 1))
    return (
        pl.DataFrame(
            documents,
            schema={name: pl.String for name in ("doc_id", "source", "title", "text", "url", "metadata")},
            orient="row",
        ),
        pl.DataFrame(
            queries, schema={name: pl.String for name in ("query_id", "text", "split", "source")}, orient="row"
        ),
        pl.DataFrame(qrels, schema={"query_id": pl.String, "doc_id": pl.String, "grade": pl.Int64}, orient="row"),
    )
