"""The training of the behavior model: clicks in, the model and its hits for every split out.

Knows no Dagster. Learns from clicks of training queries alone, chooses parameters on the dev queries' judgements, and
reads no test judgement.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from repos.behavior.clicks import fold_of, learnable
from repos.behavior.features import normalised
from repos.behavior.model import BehaviorModel, Corpus, Parameters
from shared_ops import evaluation, tables

Log = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A trained model, what was chosen for it, and its best hits for every split."""

    model: BehaviorModel
    hyperparameters: dict[str, float | int | str | bool]
    hits: dict[str, pl.DataFrame]
    """The `hits` table of train, dev and test, 100 hits a query; train's are out of fold."""


def train(
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
    clicks: pl.DataFrame,
    parameters: Parameters,
    *,
    clicks_application: str,
    log: Log = print,
) -> Trained:
    """Learn `clicks`, choose parameters on the dev queries, and answer every query.

    The first four are tables of these schemas, holding every split. `parameters` are where the search for better values
    starts; `clicks_application` says where the clicks come from, for instance `simulation.APPLICATION`; `log` is called
    with lines of progress.

    Raises:
        ValueError: when no document holds a word.
    """
    corpus = Corpus.of(documents)
    usable = learnable(clicks, queries, documents)
    model = BehaviorModel.fit(corpus, usable.clicks, parameters)
    log(f"{model.past_queries} past queries with clicks; left out {usable.held_out_rows} rows of held-out queries")
    chosen, dev_ndcg = choose(model, queries, qrels, log)
    model = model.with_parameters(chosen)

    hits = {split: _hits(model, queries.filter(pl.col("split") == split)) for split in ("dev", "test")}
    hits["train"] = out_of_fold(corpus, queries, usable.clicks, chosen)
    hyperparameters = {
        **chosen.model_dump(),
        "dev_ndcg": dev_ndcg,
        "clicks_application": clicks_application,
        "past_queries": model.past_queries,
        "clicks": int(usable.clicks["clicks"].sum()),
        "impressions": int(usable.clicks["impressions"].sum()),
        "click_rows_of_held_out_queries": usable.held_out_rows,
        "click_rows_of_unknown_documents": usable.unknown_document_rows,
    }
    return Trained(model, hyperparameters, hits)


def choose(model: BehaviorModel, queries: pl.DataFrame, qrels: pl.DataFrame, log: Log) -> tuple[Parameters, float]:
    """The parameters that answer the dev queries best, and their nDCG@10 there.

    A seeded search by tree-structured Parzen estimators (Bergstra et al. 2011, in optuna). What it finds replaces the
    given parameters only where the mean gain exceeds its standard error (the rule of Breiman et al. 1984): on a handful
    of dev queries, the best of many tries is mostly luck. Without judged dev queries, or clicks, the given ones stay.
    """
    import optuna

    given = model.parameters
    dev = queries.filter(pl.col("split") == "dev").join(qrels, on="query_id", how="semi").sort("query_id")
    if dev.is_empty() or model.past_queries == 0:
        return given, 0.0
    judged = qrels.join(dev, on="query_id", how="semi")
    query_ids = dev["query_id"].to_list()
    similarities = model.similarities(dev["text"].to_list())

    def measured(parameters: Parameters) -> np.ndarray:
        hits = model.with_parameters(parameters).hits(similarities, 10)
        return evaluation.per_query(tables.hits_table(query_ids, hits), judged)[evaluation.PRIMARY].to_numpy()

    def objective(trial: optuna.Trial) -> float:
        suggested = {
            "clicked_text": trial.suggest_float("clicked_text", 0.0, 1.0),
            "characters": trial.suggest_float("characters", 0.25, 0.75),
            "exponent": trial.suggest_float("exponent", 0.5, 10.0),
            "neighbours": trial.suggest_int("neighbours", 3, 200, log=True),
        }
        return float(measured(given.model_copy(update=suggested)).mean())

    before = measured(given)
    if given.trials == 0:
        return given, float(before.mean())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=given.seed))
    study.optimize(objective, n_trials=given.trials)
    best = given.model_copy(update=study.best_params)
    after = measured(best)
    gain = after - before
    sure = gain.mean() > gain.std() / len(gain) ** 0.5
    log(f"dev nDCG@10 {before.mean():.4f} as given, {after.mean():.4f} at best: {'taken' if sure else 'within luck'}")
    return (best, float(after.mean())) if sure else (given, float(before.mean()))


def out_of_fold(corpus: Corpus, queries: pl.DataFrame, clicks: pl.DataFrame, parameters: Parameters) -> pl.DataFrame:
    """The training queries' hits, each made by a model that never saw a click for its text.

    `clicks` as `clicks.learnable` gives them. A query and all of equal normalised text are in one fold.
    """
    folds = parameters.folds
    asked = _with_fold(queries.filter(pl.col("split") == "train").sort("query_id"), folds)
    seen = _with_fold(clicks, folds)
    answered = []
    for fold in range(folds):
        model = BehaviorModel.fit(corpus, seen.filter(pl.col("fold") != fold).drop("fold"), parameters)
        answered.append(_hits(model, asked.filter(pl.col("fold") == fold)))
    return pl.concat(answered).sort("query_id", "rank")


def _with_fold(frame: pl.DataFrame, folds: int) -> pl.DataFrame:
    fold = [fold_of(normalised(text), folds) for text in frame["text"]]
    return frame.with_columns(pl.Series("fold", fold, dtype=pl.Int64))


def _hits(model: BehaviorModel, queries: pl.DataFrame) -> pl.DataFrame:
    ordered = queries.sort("query_id")
    found = model.search(ordered["text"].to_list(), evaluation.DEPTH)
    return tables.hits_table(ordered["query_id"].to_list(), found)
