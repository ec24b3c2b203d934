"""The training of the ranker: hits and judgements in, the ranker and its order of every query out.

Knows no Dagster. Weights are learned from train queries, with the hits of models that had not learned from them, and
from clicks, with the hits of models that had not learned from the same sessions. The number of passes and the kind of
ranker are chosen by judgements, on train queries out of fold and on dev; no test judgement is read. Where too few train
queries are judged, clicks take their place, in learning and in choosing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl

from repos.ranker.clicks import clicked_lists
from repos.ranker.features import Array, FeatureSpace
from repos.ranker.fit import Data, RankerFit, equal_fusion, learn_clicks, linear_fusion, network_fit
from repos.ranker.model import Kind, Parameters, Ranker
from repos.ranker.teaching import TrainingSet, judged_lists, queries_of, with_one_missing
from shared_ops.data import tables
from shared_ops.data.tables import hits_table
from shared_ops.data.text import SPLITS, held_back
from shared_ops.judge.evaluation import DEPTH, PRIMARY, per_query
from shared_ops.judge.training import TrainingResult
from shared_ops.release.inputs import Asked

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
) -> TrainingResult[Ranker]:
    """Learn the order of the union of the families' hits.

    The hits of the result are the final order; those of train queries are out of fold.

    Args:
        documents: the snapshot's table of this name.
        queries: the table of this name, with every split.
        qrels: the table of this name, with every split.
        hits: each family's `hits` table of all splits, with the train queries' hits out of fold.
        parameters: how to train.
        log: is called with lines of progress.
        judged: feedback's table of this name, for the searches in `asked`. If a network is chosen, it learns from the
            lists of this table too, and nothing is chosen by them. Only where fewer than `enough` train queries are
            judged, everything is learned from these lists and chosen by them, out of fold.
        asked: people's searches with each family's hits. Behavior's hits are those of a model that had learned no click
            of the sessions that judge them (cross-fitting over sessions). They show what out-of-fold hits cannot: how
            far behavior can be trusted with a query that people ask again. Out of fold, behavior knows no query.

    Raises:
        OptimismError: when a family's train hits are better than its dev hits can explain.
        ValueError: when there are no hits of any family.
    """
    if not hits:
        raise ValueError("Expected hits of at least one family, got none: train a search model first.")
    measured = alone(queries, qrels, hits)
    gaps = optimism(measured, parameters.max_optimism)
    for family, gap in gaps.items():
        log(f"{family}: {PRIMARY} of train hits minus that of dev hits {gap:+.3f}")
    space = FeatureSpace.build(documents, worth(measured))
    queried = {split: queries_of(split, queries, hits) for split in SPLITS}
    train_lists, dev_lists = (judged_lists(space, queried[split], qrels) for split in ("train", "dev"))
    feedback = tables.empty("judged") if judged is None else judged
    clicked = clicked_lists(feedback, asked, space, held_back(queries), parameters)
    sizes = {"judged/lists": len(train_lists.query_ids), **clicked.notes()}
    log(f"to learn from: {sizes}")
    with _reproducible(parameters.threads):
        if train_lists.answered >= enough(parameters):
            missing = judged_lists(space, with_one_missing(queried["train"], parameters), qrels)
            texts = {one.query_id: one.text for one in queried["train"]}
            training_set = TrainingSet.of_judgements(space, train_lists, missing, texts, clicked, dev_lists, parameters)
        else:
            lacking = clicked_lists(feedback, with_one_missing(clicked.asked, parameters), space, set(), parameters)
            training_set = TrainingSet.of_clicks(space, clicked, lacking, dev_lists, parameters)
        fit, notes = choose(training_set.data, parameters, log)
        ranker = Ranker(space, fit.kind, fit.fusion, training_set.scaler, fit.weights)
        out_of_fold = training_set.out_of_fold(fit.train.numpy())
        ordered_hits = {}
        for split in SPLITS:
            ordered = [out_of_fold.get(one.query_id) or ranker.rank(one.text, one.hits) for one in queried[split]]
            ordered_hits[split] = hits_table(
                [one.query_id for one in queried[split]], [order[:DEPTH] for order in ordered]
            )
    notes |= {f"optimism/{family}": gap for family, gap in gaps.items()}
    return TrainingResult(ranker, {**parameters.model_dump(), **sizes, **notes}, ordered_hits)


def alone(queries: pl.DataFrame, qrels: pl.DataFrame, hits: Mapping[str, pl.DataFrame]) -> dict[str, dict[str, Array]]:
    """By family, nDCG@10 of its hits on each judged query of "train" and of "dev"."""
    measured: dict[str, dict[str, Array]] = {}
    for family in sorted(hits):
        measured[family] = {}
        for split in ("train", "dev"):
            split_queries = queries.filter(pl.col("split") == split).select("query_id")
            judged = qrels.join(split_queries, on="query_id", how="semi")
            split_hits = hits[family].join(split_queries, on="query_id", how="semi")
            values = per_query(split_hits, judged)[PRIMARY].to_numpy() if len(judged) else np.zeros(0)
            measured[family][split] = values
    return measured


def worth(measured: Mapping[str, Mapping[str, Array]]) -> dict[str, float]:
    """By family, what its own order is worth: nDCG@10 over train and dev queries; 1 for each where none is judged."""
    values = {family: np.concatenate(list(by_split.values())) for family, by_split in measured.items()}
    means = {family: float(each.mean()) if len(each) else 0.0 for family, each in values.items()}
    return means if any(means.values()) else dict.fromkeys(means, 1.0)


def optimism(measured: Mapping[str, Mapping[str, Array]], bound: float) -> dict[str, float]:
    """By family, nDCG@10 of its hits on train queries minus on dev queries; empty without judged queries of both.

    A model that answers queries that it has learned from looks better on train than it is. Cross-fitted hits show only
    a gap of chance.

    Args:
        measured: what `alone` gives.
        bound: how large a gap may be.

    Raises:
        OptimismError: when a gap exceeds `bound` by more than 3 standard errors.
    """
    gaps = {}
    for family, by_split in measured.items():
        if not all(map(len, by_split.values())):
            continue
        train, dev = by_split["train"], by_split["dev"]
        gaps[family] = float(train.mean() - dev.mean())
        error = float(np.sqrt(sum(values.var() / len(values) for values in (train, dev))))
        if gaps[family] - SURE * error > bound:
            raise OptimismError(
                f"{family}'s hits reach {PRIMARY} {train.mean():.3f} on train queries and {dev.mean():.3f} on dev "
                f"queries (standard error of the gap {error:.3f}). Expected train hits that are out of fold: made by "
                "models that had not learned from the query. Train the family again with cross-fitting, or raise "
                f"max_optimism (now {bound}) if its train queries truly are that easy."
            )
    return gaps


def enough(parameters: Parameters) -> int:
    """How many answered queries there must be to learn from: two for each fold."""
    return 2 * parameters.folds


def choose(data: Data, parameters: Parameters, log: Log = print) -> tuple[RankerFit, dict[str, Any]]:
    """The linear fusion, or the network where it is clearly better; and the nDCG@10 that each way to order reached.

    Compared on nDCG@10 over train queries out of fold and dev queries: the network is taken when its mean gain exceeds
    `caution` standard errors (after Breiman et al. 1984). With fewer answered train queries than two a fold it is
    equal-weight fusion, and where `kind` says so there is no choice.
    """
    equal = equal_fusion(data)
    if data.answered < enough(parameters):
        log(f"{data.answered} queries have an answer among their hits, too few to learn from: equal-weight fusion")
        return equal, {"kind_chosen": equal.kind}
    linear, by_fold = linear_fusion(data, parameters)
    fits = {fit.kind: fit for fit in (equal, linear, network_fit(data, by_fold, parameters, log))}
    values = {kind: fit.values(data) for kind, fit in fits.items()}
    gain = values["network"] - values["linear"]
    error = gain.std() / np.sqrt(len(gain))
    log(f"network over linear: {gain.mean():+.4f}, standard error {error:.4f}")
    better: Kind = "network" if gain.mean() > parameters.caution * error else "linear"
    chosen = fits[better if parameters.kind == "auto" else parameters.kind]
    log(f"chosen: {chosen.kind}")
    if chosen.kind == "network" and len(data.clicked.lists):
        chosen = learn_clicks(chosen, data, parameters, log)
    notes = {f"out_of_fold/{kind}": float(value.mean()) for kind, value in values.items()}
    return chosen, {**notes, **chosen.notes, "kind_chosen": chosen.kind}


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    """Have torch compute the same sums in the same order: by deterministic algorithms, on this many threads."""
    import torch

    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, without its 9 s of imports
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
