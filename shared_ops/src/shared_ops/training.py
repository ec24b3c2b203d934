"""What every family's `train` gives back, and how a search model answers a table of queries.

Knows no Dagster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import polars as pl

from shared_ops.evaluation import DEPTH
from shared_ops.tables import Hits, hits_table


class Model(Protocol):
    """A model that can be saved."""

    def save(self, folder: Path) -> None:
        """Write the weights into `folder`."""


class Searcher(Model, Protocol):
    """A model that answers queries from the whole corpus."""

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        """The best `k` documents of each text, best first."""


ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True)
class Trained(Generic[ModelT]):
    """A trained model, what its training chose, and its hits: split to a `hits` table.

    The hits of train were made by models that had not learned from the query: the ranker learns from them.
    """

    model: ModelT
    hyperparameters: dict[str, Any]
    hits: Mapping[str, pl.DataFrame]


def answer(model: Searcher, queries: pl.DataFrame) -> pl.DataFrame:
    """The `hits` table of a `queries` table: the best DEPTH documents of each query."""
    queries = queries.sort("query_id")
    return hits_table(queries["query_id"].to_list(), model.search(queries["text"].to_list(), DEPTH))
