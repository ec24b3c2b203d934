"""A small library with three search models of known skill: each sees the answers through noise of its own.

The hits are simulated, so that a test can say what a model knew of a query; documents, features and training are real.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from repos.ranker.model import Parameters
from shared_ops.data import tables
from shared_ops.data.tables import hits_by_query
from shared_ops.judge.evaluation import PRIMARY, per_query

ACTS = ["sort", "invert", "plot", "cluster", "smooth", "index", "group", "reshape", "sample", "merge"]
THINGS = ["array", "matrix", "signal", "table", "graph", "image", "series", "tensor"]
SPLITS = {"train": 120, "dev": 30, "test": 50}
FOUND = 30

FAST = Parameters(width=16, epochs=15, fusions=60)


@dataclass(frozen=True)
class Collection:
    documents: pl.DataFrame
    queries: pl.DataFrame
    qrels: pl.DataFrame

    def ids(self, split: str) -> list[str]:
        return self.queries.filter(pl.col("split") == split)["query_id"].to_list()

    def ndcg(self, hits: pl.DataFrame, split: str = "test") -> float:
        """Mean nDCG@10 of the hits of a split's queries."""
        qrels = self.qrels.filter(pl.col("query_id").is_in(self.ids(split)))
        split_hits = hits.filter(pl.col("query_id").is_in(self.ids(split)))
        mean: float = per_query(split_hits, qrels).select(pl.mean(PRIMARY)).item()
        return mean

    def text(self, query_id: str) -> str:
        text: str = self.queries.filter(pl.col("query_id") == query_id)["text"].item()
        return text


def _documents() -> pl.DataFrame:
    rows = [
        {
            "doc_id": f"{act}-{thing}",
            "source": f"library-{number % 2}",
            "title": f"lib{number % 2}.{act}_{thing}",
            "text": f"Use this function to {act} a {thing}. It returns a new {thing} and leaves the old one as it is.",
            "url": None,
            "metadata": "{}",
        }
        for number, act in enumerate(ACTS)
        for thing in THINGS
    ]
    return tables.make("documents", rows)


@pytest.fixture(scope="session")
def collection() -> Collection:
    random = np.random.default_rng(7)
    queries, qrels = [], []
    for split, count in SPLITS.items():
        for number in range(count):
            act, thing = random.choice(ACTS), random.choice(THINGS)
            query_id = f"{split}-{number:03}"
            text = f"how do I {act} every {thing} in case {query_id}"
            queries.append({"query_id": query_id, "text": text, "split": split, "source": "library"})
            qrels.append({"query_id": query_id, "doc_id": f"{act}-{thing}", "grade": 2})
            other = random.choice(THINGS)
            if other != thing:
                qrels.append({"query_id": query_id, "doc_id": f"{act}-{other}", "grade": 1})
    return Collection(_documents(), tables.make("queries", queries), tables.make("qrels", qrels))


Search = Callable[..., pl.DataFrame]


@pytest.fixture(scope="session")
def simulate(collection: Collection) -> Search:
    """simulate(name, skill, scale, known) gives the `hits` table of a model.

    It scores a document by skill x grade plus noise of its own, times `scale`; for the queries of the splits in
    `known` it knows every grade.
    """
    grades = {(q, d): g for q, d, g in collection.qrels.iter_rows()}
    doc_ids = collection.documents["doc_id"].to_list()

    def hits(name: str, skill: float, scale: float = 1.0, known: tuple[str, ...] = ()) -> pl.DataFrame:
        results = []
        for query_id, split in collection.queries.select("query_id", "split").iter_rows():
            digest = hashlib.sha256(f"{name}:{query_id}".encode()).digest()
            noise = np.random.default_rng(np.frombuffer(digest, np.uint32)).normal(size=len(doc_ids))
            relevant = np.array([grades.get((query_id, doc_id), 0) for doc_id in doc_ids])
            scores = 10 * relevant + noise if split in known else skill * relevant + noise
            best = np.argsort(-scores, kind="stable")[:FOUND]
            results.append([(doc_ids[row], float(scale * scores[row])) for row in best])
        return tables.hits_table(collection.queries["query_id"].to_list(), results)

    return hits


@pytest.fixture(scope="session")
def hits(simulate: Search) -> dict[str, pl.DataFrame]:
    """A good, a fair and a weak model, with scores on scales of their own."""
    return {
        "keyword": simulate("keyword", 1.0, scale=20.0),
        "semantic": simulate("semantic", 0.8, scale=0.1),
        "behavior": simulate("behavior", 0.2, scale=3.0),
    }


def unions(hits: dict[str, pl.DataFrame], query_ids: list[str]) -> list[dict[str, tables.Hits]]:
    """Each query's hits by family."""
    by_family = {family: hits_by_query(table) for family, table in hits.items()}
    return [{family: by_query.get(query_id, []) for family, by_query in by_family.items()} for query_id in query_ids]
