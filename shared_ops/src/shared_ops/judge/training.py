"""What every family's training returns, and how a search model or a ranker answers a table of queries.

Knows no Dagster.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import polars as pl

from shared_ops.data.tables import Hits, hits_by_query, hits_table
from shared_ops.judge.evaluation import DEPTH
from shared_ops.release.inputs import Inputs


class Model(Protocol):
    """A model that can be saved."""

    def save(self, folder: Path) -> None:
        """Write the weights into `folder`."""


class Searcher(Model, Protocol):
    """A model that answers queries from the whole corpus."""

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        """The best `k` documents of each text, best first."""


class HitsRanker(Model, Protocol):
    """A model that orders the hits of search models."""

    def rank(self, text: str, hits: Mapping[str, Hits]) -> Hits:
        """All documents of each family's hits for a text, best first."""


class Answers(Protocol):
    """A loaded model with what it needs to answer the queries of one snapshot."""

    def one(self, query_id: str, text: str) -> Hits:
        """The hits of one query, found in the way in which the prediction service answers."""

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The `hits` table of queries (query_id, text)."""


class Ranking(Answers, Protocol):
    """A loaded ranker, which orders hits that it is given, too."""

    def rank(self, queries: pl.DataFrame, hits: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """The `hits` table of queries (query_id, text): the best DEPTH of the union of each family's `hits` table."""


Open = Callable[[Path, Inputs], Answers]
"""Opens the model that a family saved in a folder, to answer the queries of the inputs' snapshot."""


@dataclass(frozen=True)
class SearchAnswers:
    """The `Answers` of a search family."""

    model: Searcher

    def one(self, query_id: str, text: str) -> Hits:
        """The best DEPTH documents."""
        return self.model.search([text], DEPTH)[0]

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The best DEPTH documents of each query."""
        return answer(self.model, queries)


@dataclass(frozen=True)
class RankAnswers:
    """The `Ranking` of a ranking family."""

    model: HitsRanker
    hits: Mapping[str, Mapping[str, Hits]]
    """Family to query id to the hits that are ordered."""

    def one(self, query_id: str, text: str) -> Hits:
        """The order of the union of the query's hits."""
        return self.model.rank(text, {family: hits.get(query_id, []) for family, hits in self.hits.items()})

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The best DEPTH of the order of each query."""
        rows = queries.sort("query_id").select("query_id", "text").rows()
        return hits_table([query_id for query_id, _ in rows], [self.one(*query)[:DEPTH] for query in rows])

    def rank(self, queries: pl.DataFrame, hits: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """The best DEPTH of the order of each query, of the hits given here."""
        return RankAnswers(self.model, {family: hits_by_query(frame) for family, frame in hits.items()}).many(queries)


ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True)
class TrainingResult(Generic[ModelT]):
    """A trained model, the hyperparameters that its training chose, and its hits: split to a `hits` table.

    The hits of `train` come from models that had not learned from the query: the ranker learns from them. A family that
    learns from clicks also has hits of `asked`, for the queries of feedback (`inputs.asked_id`), from models that had
    not learned from the sessions.

    `reach` holds the documents that the model is able to find at all; None: all of them. The gate expects no others. A
    family with an empty `reach` abstains.
    """

    model: ModelT
    hyperparameters: dict[str, Any]
    hits: Mapping[str, pl.DataFrame]
    reach: Collection[str] | None = None


def answer(model: Searcher, queries: pl.DataFrame) -> pl.DataFrame:
    """The `hits` table of queries (query_id, text): the best DEPTH documents of each."""
    queries = queries.sort("query_id")
    return hits_table(queries["query_id"].to_list(), model.search(queries["text"].to_list(), DEPTH))
