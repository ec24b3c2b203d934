"""The training of the behavior model: clicks in, the model and its hits for every split out.

Knows no Dagster. Learns from clicks of training queries alone, chooses parameters on the dev queries' judgements, and
reads no test judgement.
"""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

from repos.behavior.clicks import learnable
from repos.behavior.model import BehaviorModel, Corpus, Parameters
from shared_ops.data import tables
from shared_ops.data.text import fold_of, normalise
from shared_ops.judge import evaluation
from shared_ops.judge.training import TrainingResult, answer
from shared_ops.release.inputs import ASKED, asked_id

Log = Callable[[str], None]

FEWEST_DEV_QUERIES = 30
"""Fewer judged dev queries choose no parameters: the best of many tries on a handful is luck."""


def train(
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
    clicks: Mapping[str, pl.DataFrame],
    parameters: Parameters,
    log: Log = print,
    *,
    asked: pl.DataFrame | None = None,
) -> TrainingResult[BehaviorModel]:
    """Learn `clicks`, choose parameters on the dev queries, and answer every query.

    Args:
        documents: the snapshot's table of this name.
        queries: the table of this name, with every split.
        qrels: the table of this name, with every split.
        clicks: `clicks` tables by their origin; all are learned together.
        parameters: where the search for better values starts.
        log: is called with lines of progress.
        asked: feedback's table of this name: people's queries are answered too, by models that learned nothing from the
            same sessions.

    Raises:
        ValueError: when no document holds a word.
    """
    corpus = Corpus.of(documents)
    usable = learnable(clicks, queries, documents, parameters.half_life)
    model = BehaviorModel.fit(corpus, usable.clicks, parameters)
    for origin, counts in usable.learned.items():
        log(f"{origin}: {counts['clicks']} clicks of {counts['impressions']} impressions, {counts['queries']} queries")
    log(f"{model.past_queries} past queries with clicks; left out {usable.held_out_rows} rows of held-out queries")
    chosen, dev_ndcg = choose(model, queries, qrels, log)
    model = model.with_parameters(chosen)

    hits = {split: answer(model, queries.filter(pl.col("split") == split)) for split in ("dev", "test")}
    hits["train"] = out_of_fold(corpus, queries, usable.clicks, chosen)
    if asked is not None:
        hits[ASKED] = out_of_sessions(corpus, documents, queries, clicks, asked, chosen)
    hyperparameters = {
        **chosen.model_dump(),
        "dev_ndcg": dev_ndcg,
        "learned_from": usable.learned,
        "past_queries": model.past_queries,
        "click_rows_of_held_out_queries": usable.held_out_rows,
        "click_rows_of_unknown_documents": usable.unknown_document_rows,
    }
    return TrainingResult(model, hyperparameters, hits, reach=model.reach)


def choose(model: BehaviorModel, queries: pl.DataFrame, qrels: pl.DataFrame, log: Log) -> tuple[Parameters, float]:
    """The parameters that answer the dev queries best, and their nDCG@10 there (0 without judged dev queries).

    A seeded search by tree-structured Parzen estimators (Bergstra et al. 2011, in optuna). What it finds replaces the
    given parameters only where the mean gain exceeds twice its standard error: the best of many tries always gains
    something. With fewer than `FEWEST_DEV_QUERIES` judged dev queries, no clicks or no trials, the given ones stay.
    """
    initial = model.parameters
    dev = queries.filter(pl.col("split") == "dev").join(qrels, on="query_id", how="semi").sort("query_id")
    if dev.is_empty():
        return initial, 0.0
    ndcg_of = _ndcg_by_parameters(model, dev, qrels)
    before = ndcg_of(initial)
    if len(dev) < FEWEST_DEV_QUERIES or model.past_queries == 0 or initial.trials == 0:
        log(f"dev nDCG@10 {before.mean():.4f} with the parameters as given")
        return initial, float(before.mean())
    best = _best_tried(initial, ndcg_of)
    after = ndcg_of(best)
    gain = after - before
    sure = gain.mean() > 2 * gain.std() / len(gain) ** 0.5
    log(f"dev nDCG@10 {before.mean():.4f} as given, {after.mean():.4f} at best: {'taken' if sure else 'within luck'}")
    return (best, float(after.mean())) if sure else (initial, float(before.mean()))


def _ndcg_by_parameters(
    model: BehaviorModel, queries: pl.DataFrame, qrels: pl.DataFrame
) -> Callable[[Parameters], np.ndarray]:
    """A function from parameters to each query's nDCG@10; it compares queries with the past ones only once."""
    judged = qrels.join(queries, on="query_id", how="semi")
    query_ids = queries["query_id"].to_list()
    similarities = model.similarities(queries["text"].to_list())

    def ndcg_of(parameters: Parameters) -> np.ndarray:
        hits = model.with_parameters(parameters).hits(similarities, 10)
        return evaluation.per_query(tables.hits_table(query_ids, hits), judged)[evaluation.PRIMARY].to_numpy()

    return ndcg_of


def _best_tried(initial: Parameters, ndcg_of: Callable[[Parameters], np.ndarray]) -> Parameters:
    """The best of `initial.trials` tries."""
    import optuna

    def objective(trial: optuna.Trial) -> float:
        suggested = {
            "clicked_text": trial.suggest_float("clicked_text", 0.0, 1.0),
            # Dev queries are well spelt: left free, the share that forgives misspelling would be chosen by chance.
            "characters": trial.suggest_float("characters", 0.25, 0.75),
            "exponent": trial.suggest_float("exponent", 0.5, 10.0),
            "neighbours": trial.suggest_int("neighbours", 3, 200, log=True),
        }
        return float(ndcg_of(initial.model_copy(update=suggested)).mean())

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=initial.seed))
    study.optimize(objective, n_trials=initial.trials)
    return initial.model_copy(update=study.best_params)


def out_of_fold(corpus: Corpus, queries: pl.DataFrame, clicks: pl.DataFrame, parameters: Parameters) -> pl.DataFrame:
    """The training queries' hits, each made by a model that never saw a click for its text.

    `clicks` are as `clicks.learnable` gives them. Queries of equal text are in one fold.
    """
    folds = parameters.folds
    training = _with_fold(queries.filter(pl.col("split") == "train").sort("query_id"), folds)
    learnable_clicks = _with_fold(clicks, folds)
    hits = []
    for fold in range(folds):
        model = BehaviorModel.fit(corpus, learnable_clicks.filter(pl.col("fold") != fold).drop("fold"), parameters)
        hits.append(answer(model, training.filter(pl.col("fold") == fold)))
    return pl.concat(hits).sort("query_id", "rank")


def out_of_sessions(
    corpus: Corpus,
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    clicks: Mapping[str, pl.DataFrame],
    asked: pl.DataFrame,
    parameters: Parameters,
) -> pl.DataFrame:
    """The hits of what was asked in each fold of the sessions, by a model that never saw a click of that fold.

    That model may have seen the query in other folds: a query that is asked again is answered by what others clicked
    for it, as it will be when this model is live. So the ranker learns how far that can be trusted.
    """
    hits = []
    for (fold,), part in asked.group_by("fold", maintain_order=True):
        others = {origin: table.filter(pl.col("fold") != fold) for origin, table in clicks.items()}
        usable = learnable(others, queries, documents, parameters.half_life)
        model = BehaviorModel.fit(corpus, usable.clicks, parameters)
        searches = part.with_columns(pl.Series("query_id", [asked_id(each, int(fold)) for each in part["query_id"]]))
        hits.append(answer(model, searches))
    return pl.concat([tables.empty("hits"), *hits]).sort("query_id", "rank")


def _with_fold(frame: pl.DataFrame, folds: int) -> pl.DataFrame:
    fold = [fold_of(normalise(text), folds) for text in frame["text"]]
    return frame.with_columns(pl.Series("fold", fold, dtype=pl.Int64))
