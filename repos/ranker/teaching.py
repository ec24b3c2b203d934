"""What the ranker learns from, as tensors: lists from judgements with lists from clicks beside them, or clicks alone.

Knows no network and no choice of weights. Equal queries are in one fold, whether they were judged or clicked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import polars as pl

from repos.ranker.clicks import ClickLists
from repos.ranker.features import Array, FeatureSpace
from repos.ranker.fit import Data, Lessons
from repos.ranker.lists import Lists
from repos.ranker.model import Parameters
from repos.ranker.network import Scaler
from shared_ops.data.tables import Hits, hits_by_query
from shared_ops.data.text import normalise
from shared_ops.release.inputs import Asked

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class QueryHits:
    """A query with each family's hits."""

    query_id: str
    text: str
    hits: Mapping[str, Hits]


One = TypeVar("One", QueryHits, Asked)


def queries_of(split: str, queries: pl.DataFrame, hits: Mapping[str, pl.DataFrame]) -> list[QueryHits]:
    """The queries of a split with each family's hits, in the order of their ids."""
    chosen = queries.filter(pl.col("split") == split).sort("query_id").select("query_id", "text")
    by_family = {family: hits_by_query(table.join(chosen, on="query_id", how="semi")) for family, table in hits.items()}
    return [
        QueryHits(query_id, text, {family: by_query.get(query_id, []) for family, by_query in by_family.items()})
        for query_id, text in chosen.iter_rows()
    ]


def judged_lists(space: FeatureSpace, queries: Sequence[QueryHits], qrels: pl.DataFrame) -> Lists:
    """The lists of those queries that are judged and have hits."""
    judged: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for query_id, doc_id, grade in qrels.select("query_id", "doc_id", "grade").iter_rows():
        judged[query_id][doc_id] = grade
    lists = Lists(space.fused, len(space.names))
    for query in queries:
        if query.query_id in judged and any(query.hits.values()):
            lists.add(query.query_id, space.candidates(query.text, query.hits), judged[query.query_id])
    return lists


@dataclass(frozen=True)
class TrainingSet:
    """What to learn from and to choose by, and how features are scaled for it."""

    data: Data
    scaler: Scaler
    judged: Lists | None
    """The lists of the train queries; None where clicks alone teach."""

    def out_of_fold(self, scores: Array) -> dict[str, Hits]:
        """The train queries' order by these scores [train lists, documents], of members that left the query out."""
        return self.judged.ordered(scores) if self.judged else {}

    @classmethod
    def of_judgements(
        cls,
        space: FeatureSpace,
        judged: Lists,
        missing: Lists,
        texts: Mapping[str, str],
        clicked: ClickLists,
        dev: Lists,
        parameters: Parameters,
    ) -> Self:
        """Judged train queries, some a second time without one family, and beside them lists from clicks."""
        scaler = Scaler.fit(judged.features, len(space.names))
        lists = judged.followed_by(missing)
        keys = [normalise(texts[query_id]) for query_id in lists.query_ids]
        fold = _folds(keys[: len(judged.query_ids)], parameters)
        # A clicked query that is no train query is in no fold: nothing is measured on it, so every member may learn it.
        clicked_folds = [fold.get(key, -1) for key in clicked.lists.query_ids]
        data = Data(
            _lessons(lists, [fold[key] for key in keys], np.ones(len(keys)), scaler),
            len(judged.query_ids),
            _numbers(judged.query_ids),
            _lessons(clicked.lists, clicked_folds, clicked.weights(len(judged.query_ids), parameters), scaler),
            dev.batch(scaler),
        )
        return cls(data, scaler, judged)

    @classmethod
    def of_clicks(
        cls, space: FeatureSpace, clicked: ClickLists, missing: ClickLists, dev: Lists, parameters: Parameters
    ) -> Self:
        """Lists from clicks in place of judged ones: each weighs its certainty, and choices are made by them too.

        Features are scaled by all candidates of the searches: a list holds only those that were shown.
        """
        candidates = [space.candidates(one.text, one.hits).features for one in clicked.asked]
        scaler = Scaler.fit(candidates, len(space.names))
        lists = clicked.lists.followed_by(missing.lists)
        fold = _folds(clicked.lists.query_ids, parameters)
        certain = np.concatenate([clicked.certainty(parameters), missing.certainty(parameters)])
        weights = certain / certain.mean() if len(certain) else certain
        nothing = Lists(space.fused, len(space.names))
        data = Data(
            _lessons(lists, [fold[key] for key in lists.query_ids], weights, scaler),
            len(clicked.lists.query_ids),
            _numbers(clicked.lists.query_ids),
            _lessons(nothing, [], np.ones(0), scaler),
            dev.batch(scaler),
        )
        return cls(data, scaler, None)


def _lessons(lists: Lists, folds: Sequence[int], weights: Array, scaler: Scaler) -> Lessons:
    import torch

    weighed = torch.from_numpy(weights.astype(np.float32))
    return Lessons(lists.batch(scaler), torch.tensor(folds, dtype=torch.int64), weighed)


def _folds(keys: Sequence[str], parameters: Parameters) -> dict[str, int]:
    """Each query's fold by its key: folds of equal size, drawn by the seed."""
    distinct = list(dict.fromkeys(keys))
    folds = np.random.default_rng(parameters.seed).permutation(len(distinct)) % parameters.folds
    return dict(zip(distinct, folds.tolist(), strict=True))


def _numbers(names: Sequence[str]) -> "Tensor":
    """Each name's number: equal names, equal numbers."""
    import torch

    number = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names], dtype=torch.int64)


def with_one_missing(queries: Sequence[One], parameters: Parameters) -> list[One]:
    """A random share of these queries, each as if one of the families were down."""
    random = np.random.default_rng(parameters.seed)
    lacking = []
    for one in queries:
        family = sorted(one.hits)[random.integers(len(one.hits))]
        if random.random() < parameters.missing:
            lacking.append(replace(one, hits={**one.hits, family: []}))
    return lacking
