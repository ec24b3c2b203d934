"""What the ranker learns from, as tensors: lists from judgements with lists from clicks beside them, or clicks alone.

Knows no network and no choice of weights. Equal queries are in one fold, whether they were judged or clicked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
import polars as pl

from repos.ranker.clicks import Clicked
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
class Queried:
    """A query with what each family found for it."""

    query_id: str
    text: str
    hits: Mapping[str, Hits]


One = TypeVar("One", Queried, Asked)


def queries_of(split: str, queries: pl.DataFrame, hits: Mapping[str, pl.DataFrame]) -> list[Queried]:
    """The queries of a split, in the order of their ids."""
    chosen = queries.filter(pl.col("split") == split).sort("query_id").select("query_id", "text")
    found = {family: hits_by_query(table.join(chosen, on="query_id", how="semi")) for family, table in hits.items()}
    return [
        Queried(query_id, text, {family: by_query.get(query_id, []) for family, by_query in found.items()})
        for query_id, text in chosen.iter_rows()
    ]


def judged_lists(space: FeatureSpace, asked: Sequence[Queried], qrels: pl.DataFrame) -> Lists:
    """The candidates of those queries that are judged and have any."""
    judged: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for query_id, doc_id, grade in qrels.select("query_id", "doc_id", "grade").iter_rows():
        judged[query_id][doc_id] = grade
    lists = Lists(len(space.families), len(space.names))
    for one in asked:
        if one.query_id in judged and any(one.hits.values()):
            lists.add(one.query_id, space.candidates(one.text, one.hits), judged[one.query_id])
    return lists


@dataclass(frozen=True)
class Teaching:
    """What to learn from and to choose by, and how features are scaled for it."""

    data: Data
    scaler: Scaler
    judged: Lists | None
    """The lists of the train queries; None where clicks alone teach."""

    def out_of_fold(self, scores: Array) -> dict[str, Hits]:
        """The train queries' order by these scores [train lists, documents], which no model gave that learned them."""
        return self.judged.ordered(scores) if self.judged else {}

    @classmethod
    def of_judgements(
        cls,
        space: FeatureSpace,
        judged: Lists,
        missing: Lists,
        texts: Mapping[str, str],
        clicked: Clicked,
        dev: Lists,
        parameters: Parameters,
    ) -> Self:
        """Judged train queries, some a second time without one family, and beside them lists from clicks."""
        scaler = Scaler.fit(judged.features, len(space.names))
        learned = judged.followed_by(missing)
        keys = [normalise(texts[query_id]) for query_id in learned.query_ids]
        fold = _folds(keys[: len(judged.query_ids)], parameters)
        # What no train query asks is in no fold: nothing is measured on it, so every member may learn from it.
        shown = [fold.get(key, -1) for key in clicked.lists.query_ids]
        data = Data(
            _lessons(learned, [fold[key] for key in keys], np.ones(len(keys)), scaler),
            len(judged.query_ids),
            _numbers(judged.query_ids),
            _lessons(clicked.lists, shown, clicked.weights(len(judged.query_ids), parameters), scaler),
            dev.padded(scaler),
        )
        return cls(data, scaler, judged)

    @classmethod
    def of_clicks(
        cls, space: FeatureSpace, clicked: Clicked, missing: Clicked, dev: Lists, parameters: Parameters
    ) -> Self:
        """Lists from clicks in place of judged ones: each weighs by its certainty, and they choose too.

        Features are scaled by all candidates of what was asked: a list holds only those of them that were shown.
        """
        candidates = [space.candidates(one.text, one.hits).features for one in clicked.asked]
        scaler = Scaler.fit(candidates, len(space.names))
        learned = clicked.lists.followed_by(missing.lists)
        fold = _folds(clicked.lists.query_ids, parameters)
        certain = np.concatenate([clicked.certainty(parameters), missing.certainty(parameters)])
        weights = certain / certain.mean() if len(certain) else certain
        nothing = Lists(len(space.families), len(space.names))
        data = Data(
            _lessons(learned, [fold[key] for key in learned.query_ids], weights, scaler),
            len(clicked.lists.query_ids),
            _numbers(clicked.lists.query_ids),
            _lessons(nothing, [], np.ones(0), scaler),
            dev.padded(scaler),
        )
        return cls(data, scaler, None)


def _lessons(lists: Lists, folds: Sequence[int], weights: Array, scaler: Scaler) -> Lessons:
    import torch

    weighed = torch.from_numpy(weights.astype(np.float32))
    return Lessons(lists.padded(scaler), torch.tensor(folds, dtype=torch.int64), weighed)


def _folds(keys: Sequence[str], parameters: Parameters) -> dict[str, int]:
    """The fold of each query, by its key: as many queries in each, drawn by the seed."""
    distinct = list(dict.fromkeys(keys))
    drawn = np.random.default_rng(parameters.seed).permutation(len(distinct)) % parameters.folds
    return dict(zip(distinct, drawn.tolist(), strict=True))


def _numbers(names: Sequence[str]) -> "Tensor":
    """Each name's number: equal names, equal numbers."""
    import torch

    number = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return torch.tensor([number[name] for name in names], dtype=torch.int64)


def with_one_missing(asked: Sequence[One], parameters: Parameters) -> list[One]:
    """A random share of what was asked, each as if one of the families were down."""
    random = np.random.default_rng(parameters.seed)
    lacking = []
    for one in asked:
        family = sorted(one.hits)[random.integers(len(one.hits))]
        if random.random() < parameters.missing:
            lacking.append(replace(one, hits={**one.hits, family: []}))
    return lacking
