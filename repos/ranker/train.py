"""The training of the ranker: hits and judgements in, the ranker and its order of every query out.

Knows no Dagster. Weights learn from train queries, through hits of models that had not learned from them, and from
clicks, through hits of models that had not learned from the same sessions; the passes and the kind of ranker are chosen
by judgements, on train queries out of fold and on dev; no test judgement is read.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from repos.ranker.clicks import Clicked, clicked_lists
from repos.ranker.features import FeatureSpace
from repos.ranker.fit import Data, Fit, Lessons, equal_fusion, learn_clicks, linear_fusion, network_fit
from repos.ranker.lists import Lists
from repos.ranker.model import Parameters, Ranker
from repos.ranker.network import Scaler
from shared_ops import tables
from shared_ops.evaluation import DEPTH, PRIMARY, per_query
from shared_ops.inputs import Asked
from shared_ops.tables import SPLITS, Hits, hits_by_query, hits_table
from shared_ops.text import held_back, normalise
from shared_ops.training import Trained

Log = Callable[[str], None]
SURE = 3.0
"""Standard errors: a gap that chance alone makes once in a thousand trainings."""


class OptimismError(ValueError):
    """A family's hits for the training queries are too good to be those of a model that had not learned from them."""


def train(
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
    hits: Mapping[str, pl.DataFrame],
    parameters: Parameters,
    log: Log = print,
    *,
    judged: pl.DataFrame | None = None,
    asked: Sequence[Asked] = (),
) -> Trained[Ranker]:
    """Learn the order of the union of the families' hits.

    `documents`, `queries` and `qrels` are tables of these schemas, holding every split; `hits` is each family's `hits`
    table of all splits, its train hits out of fold. The hits given back are the final order: of train out of fold too.

    `judged` is feedback, of the queries in `asked`: a network that was chosen learns its lists too, and nothing is
    chosen by them. Behavior's hits in `asked` are those of a model that had learned no click of the sessions that judge
    them (cross-fitting over sessions). They show what out-of-fold hits cannot, how far behavior can be trusted with a
    query that people ask again: out of fold, no query ever is one that it knows.

    Raises:
        OptimismError: when a family's train hits are better than its dev hits can explain.
        ValueError: when there are no hits of any family.
    """
    if not hits:
        raise ValueError("Expected hits of at least one family, got none: train a search model first.")
    gaps = optimism(queries, qrels, hits, parameters.max_optimism)
    for family, gap in gaps.items():
        log(f"{family}: {PRIMARY} of train hits minus that of dev hits {gap:+.3f}")
    space = FeatureSpace.build(documents, sorted(hits))
    queried = {split: _queried(queries, hits, split) for split in SPLITS}
    learned = {split: _lists(space, queried[split], qrels) for split in ("train", "dev")}
    missing = _lists(space, _with_one_missing(queried["train"], parameters), qrels)
    shown = tables.empty("judged") if judged is None else judged
    clicked = clicked_lists(shown, asked, space, held_back(queries), parameters)
    told = {"judged/lists": len(learned["train"].query_ids), **clicked.notes()}
    log(f"to learn from: {told}")
    scaler = Scaler.fit(learned["train"].features, len(space.names))
    with _reproducible(parameters.threads):
        texts = {one.query_id: one.text for one in queried["train"]}
        data = _data(learned["train"], missing, clicked, learned["dev"], texts, scaler, parameters)
        fit, notes = choose(data, parameters, log)
        ranker = Ranker(space, fit.kind, fit.fusion, scaler, fit.weights)
        out_of_fold = learned["train"].ordered(fit.train.numpy())
        ordered_hits = {}
        for split in SPLITS:
            ordered = [out_of_fold.get(one.query_id) or ranker.rank(one.text, one.hits) for one in queried[split]]
            ordered_hits[split] = hits_table(
                [one.query_id for one in queried[split]], [found[:DEPTH] for found in ordered]
            )
    notes |= {f"optimism/{family}": gap for family, gap in gaps.items()}
    return Trained(ranker, {**parameters.model_dump(), **told, **notes}, ordered_hits)


def optimism(
    queries: pl.DataFrame, qrels: pl.DataFrame, hits: Mapping[str, pl.DataFrame], bound: float
) -> dict[str, float]:
    """By family, nDCG@10 of its hits on train queries minus on dev queries; empty without judged queries of both.

    A model that answers queries it has learned from looks better on train than it is. Cross-fitted hits show a gap of
    chance alone.

    Raises:
        OptimismError: when a gap exceeds `bound` by more than 3 standard errors.
    """
    gaps = {}
    for family in sorted(hits):
        measured = {}
        for split in ("train", "dev"):
            asked = queries.filter(pl.col("split") == split).select("query_id")
            judged = qrels.join(asked, on="query_id", how="semi")
            found = hits[family].join(asked, on="query_id", how="semi")
            measured[split] = per_query(found, judged)[PRIMARY].to_numpy() if len(judged) else np.zeros(0)
        if not all(map(len, measured.values())):
            continue
        gaps[family] = float(measured["train"].mean() - measured["dev"].mean())
        error = float(np.sqrt(sum(values.var() / len(values) for values in measured.values())))
        if gaps[family] - SURE * error > bound:
            raise OptimismError(
                f"{family}'s hits reach {PRIMARY} {measured['train'].mean():.3f} on train queries and "
                f"{measured['dev'].mean():.3f} on dev queries (standard error of the gap {error:.3f}). Expected train "
                "hits that are out of fold: made by models that had not learned from the query. Train the family again "
                f"with cross-fitting, or raise max_optimism (now {bound}) if its train queries truly are that easy."
            )
    return gaps


def choose(data: Data, parameters: Parameters, log: Log = print) -> tuple[Fit, dict[str, Any]]:
    """The simplest way to order that none of the less simple ones clearly beats, and what each reached.

    Compared on nDCG@10 over train queries out of fold and dev queries: a kind replaces a simpler one when its mean gain
    exceeds `caution` standard errors (after Breiman et al. 1984). With fewer answered train queries than two a fold,
    or where `kind` says so, there is no choice.
    """
    fits = [equal_fusion(data)]
    answered = int((data.train.grades.sum(-1) > 0).sum())
    if answered < 2 * parameters.folds:
        log(f"{answered} train queries have an answer among their hits, too few to learn from: equal-weight fusion")
        return fits[0], {"kind_chosen": fits[0].kind}
    linear, by_fold = linear_fusion(data, parameters)
    fits += [linear, network_fit(data, by_fold, parameters, log)]
    values = {fit.kind: fit.values(data) for fit in fits}
    chosen = fits[0]
    for fit in fits[1:]:
        gain = values[fit.kind] - values[chosen.kind]
        error = gain.std() / np.sqrt(len(gain))
        log(f"{fit.kind} over {chosen.kind}: {gain.mean():+.4f}, standard error {error:.4f}")
        if gain.mean() > parameters.caution * error:
            chosen = fit
    if parameters.kind != "auto":
        chosen = next(fit for fit in fits if fit.kind == parameters.kind)
    log(f"chosen: {chosen.kind}")
    if chosen.kind == "network" and len(data.clicked.lists):
        chosen = learn_clicks(chosen, data, parameters, log)
    notes = {f"out_of_fold/{kind}": float(value.mean()) for kind, value in values.items()}
    return chosen, {**notes, **chosen.notes, "kind_chosen": chosen.kind}


@dataclass(frozen=True)
class Queried:
    """A query with what each family found for it."""

    query_id: str
    text: str
    hits: Mapping[str, Hits]


def _queried(queries: pl.DataFrame, hits: Mapping[str, pl.DataFrame], split: str) -> list[Queried]:
    """The queries of a split, in the order of their ids."""
    chosen = queries.filter(pl.col("split") == split).sort("query_id").select("query_id", "text")
    found = {family: hits_by_query(table.join(chosen, on="query_id", how="semi")) for family, table in hits.items()}
    return [
        Queried(query_id, text, {family: by_query.get(query_id, []) for family, by_query in found.items()})
        for query_id, text in chosen.iter_rows()
    ]


def _with_one_missing(queried: Sequence[Queried], parameters: Parameters) -> list[Queried]:
    """A random share of the queries, each as if one of the families were down."""
    random = np.random.default_rng(parameters.seed)
    lacking = []
    for one in queried:
        family = sorted(one.hits)[random.integers(len(one.hits))]
        if random.random() < parameters.missing:
            lacking.append(replace(one, hits={**one.hits, family: []}))
    return lacking


def _lists(space: FeatureSpace, queried: Sequence[Queried], qrels: pl.DataFrame) -> Lists:
    """The candidates of those queries that are judged and have any."""
    judged: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for query_id, doc_id, grade in qrels.select("query_id", "doc_id", "grade").iter_rows():
        judged[query_id][doc_id] = grade
    lists = Lists(len(space.families), len(space.names))
    for one in queried:
        if one.query_id in judged and any(one.hits.values()):
            lists.add(one.query_id, space.candidates(one.text, one.hits), judged[one.query_id])
    return lists


def _data(
    train: Lists,
    missing: Lists,
    clicked: Clicked,
    dev: Lists,
    texts: Mapping[str, str],
    scaler: Scaler,
    parameters: Parameters,
) -> Data:
    """The lists as tensors. Equal queries are in one fold, whether they were judged or clicked."""
    import torch

    keys = dict.fromkeys(normalise(texts[query_id]) for query_id in train.query_ids)
    drawn = np.random.default_rng(parameters.seed).permutation(len(keys)) % parameters.folds
    fold = dict(zip(keys, drawn.tolist(), strict=True))
    learn = train.followed_by(missing)
    judged = [fold[normalise(texts[query_id])] for query_id in learn.query_ids]
    # What no train query asks is in no fold: nothing is measured on it, so every member may learn from it.
    shown = [fold.get(key, -1) for key in clicked.lists.query_ids]
    weights = clicked.weights(len(train.query_ids), parameters)
    return Data(
        Lessons(learn.padded(scaler), torch.tensor(judged, dtype=torch.int64), torch.ones(len(judged))),
        len(train.query_ids),
        Lessons(clicked.lists.padded(scaler), torch.tensor(shown, dtype=torch.int64), torch.from_numpy(weights)),
        dev.padded(scaler),
    )


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Torch computes the same sums in the same order: algorithms that are deterministic, on so many threads."""
    import torch

    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, without its 9 s of imports
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
