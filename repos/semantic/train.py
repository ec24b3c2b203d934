"""Training: cut and encode the documents, adapt, and answer every split's queries.

Knows no Dagster. Weights learn from train, choices are made on dev, and test is only answered.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from repos.semantic.bert import Precision
from repos.semantic.contrast import Examples, mine
from repos.semantic.encoder import best_precision, find
from repos.semantic.finetune import learn_encoder
from repos.semantic.head import Head, Recipe, learn
from repos.semantic.model import Parameters, SemanticModel
from repos.semantic.task import Encoding, Log, Task
from shared_ops.data.text import SPLITS, fold_of, normalise
from shared_ops.judge.evaluation import DEPTH
from shared_ops.judge.training import TrainingResult

UNSEEN = ("train", "dev")
"""The splits whose queries decide whether the learned model replaces the frozen encoder. Dev alone may be a handful of
queries, so train queries count too, as answered by models that did not learn from them.
"""
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the way from the frozen encoder to the learned head; one is chosen on dev (Wortsman et al. 2022)."""


@dataclass(frozen=True)
class SemanticFit:
    """A way to learn, with its choices made."""

    rows: np.ndarray
    """The rows of the queries to learn from."""
    model: Callable[[np.ndarray], tuple[SemanticModel, Encoding]]
    """Takes some of those rows; returns a model that learned from them alone, and the encoding that it searches."""
    folds: int
    chosen: dict[str, Any]


def train(
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
    parameters: Parameters,
    cache: Path | None = None,
    log: Log = lambda _: None,
) -> TrainingResult[SemanticModel]:
    """Train on the tables `documents`, `queries` and `qrels` of a snapshot, all splits in them.

    `cache` is a folder that keeps vectors from one training to the next. Without train or dev queries nothing can be
    learned or chosen, and the frozen encoder answers.

    Raises:
        ValueError: when there are no documents.
        EncoderError: when there is no such encoder.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(parameters.seed)
    tf.config.experimental.enable_op_determinism()
    precision = best_precision() if parameters.precision == "auto" else cast(Precision, parameters.precision)
    encoder = find(parameters.encoder, precision)
    task = Task.of(documents, queries, qrels, encoder, parameters, cache, log)
    frozen = task.encode(encoder)
    model = task.model(frozen, Head.identity(encoder.width))
    hits = {split: task.answer(model, frozen, task.rows(split), DEPTH) for split in SPLITS}
    chosen: dict[str, Any] = {"adapted": "none"}
    if fit := _fit(task, frozen):
        learned, encoded = fit.model(fit.rows)
        answered = {split: task.answer(learned, encoded, task.rows(split), DEPTH) for split in ("dev", "test")}
        answered["train"] = _cross_fit(task, fit, hits["train"])
        gains = {split: task.measure(answered[split], split) - task.measure(hits[split], split) for split in UNSEEN}
        for split, gain in gains.items():
            log(f"On {len(gain)} {split} queries that it did not learn from it gains {_mean(gain):+.4f} nDCG@10")
            chosen[f"{split}_gain"] = round(_mean(gain), 4)
        if _worth(np.concatenate(list(gains.values()))):
            model, hits = learned, answered
            chosen |= {"adapted": parameters.adapt, **fit.chosen}
    described = {
        "encoder": parameters.encoder,
        "encoder_sha256": encoder.sha256,
        "precision": precision,
        "passages": len(task.passages.inputs),
        "tokens_encoded_share": round(task.passages.share, 4),
    }
    return TrainingResult(model, described | chosen, hits)


def _fit(task: Task, frozen: Encoding) -> SemanticFit | None:
    """The way to learn that `adapt` names; None where there is nothing to learn from or to choose by."""
    rows = np.array([row for row in task.rows("train") if task.relevant[row] and task.query_inputs[row]], np.int64)
    if task.parameters.adapt == "none":
        return None
    if not len(rows) or not any(task.relevant[row] for row in task.rows("dev")):
        task.log("There are no judged train or dev queries to learn from and to choose by: the frozen encoder answers.")
        return None
    relevant = [task.relevant[row] for row in rows]
    hard = task.parameters.hard_negatives
    examples = mine(frozen.queries[rows], relevant, frozen.passages, task.passages.starts, hard)
    way = _head_fit if task.parameters.adapt == "head" else _encoder_fit
    return way(task, frozen, examples, rows)


def _worth(gains: np.ndarray) -> bool:
    """Whether gains are more than chance (the one-standard-error rule, Breiman et al. 1984)."""
    return len(gains) > 1 and bool(gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)))


def _head_fit(task: Task, frozen: Encoding, examples: Examples, rows: np.ndarray) -> SemanticFit:
    """Learn a head, and go as far from the frozen encoder towards it as is best on dev."""
    parameters = task.parameters
    recipe = Recipe(
        learning_rate=parameters.learning_rate,
        epochs=parameters.epochs,
        batch=parameters.batch,
        negatives=parameters.hard_negatives,
        temperature=parameters.temperature,
        weight_decay=parameters.weight_decay,
        seed=parameters.seed,
    )

    def learned(chosen: np.ndarray) -> Head:
        return learn(examples, np.searchsorted(rows, chosen), frozen.passages, recipe)

    def quality(head: Head) -> float:
        model = task.model(frozen, head, exact=True)
        return _mean(task.measure(task.answer(model, frozen, task.rows("dev"), 10), "dev"))

    whole = learned(rows)
    reached = {share: quality(whole.times(share)) for share in SHARES}
    task.log(f"nDCG@10 on dev by the share of the head: {', '.join(f'{s}: {q:.4f}' for s, q in reached.items())}")
    share = max(SHARES, key=lambda share: (reached[share], -share))

    def model(chosen: np.ndarray) -> tuple[SemanticModel, Encoding]:
        head = whole if np.array_equal(chosen, rows) else learned(chosen)
        return task.model(frozen, head.times(share)), frozen

    return SemanticFit(rows, model, parameters.folds, {**asdict(recipe), "share": share})


def _encoder_fit(task: Task, frozen: Encoding, examples: Examples, rows: np.ndarray) -> SemanticFit:
    """Learn the whole encoder; each model encodes all passages again."""
    parameters = task.parameters
    queries = [task.query_inputs[row] for row in rows]

    def model(chosen: np.ndarray) -> tuple[SemanticModel, Encoding]:
        places = np.searchsorted(rows, chosen)
        encoder = learn_encoder(frozen.encoder, queries, task.passages.inputs, examples, places, parameters)
        encoded = task.encode(encoder, cached=False)
        return task.model(encoded, Head.identity(encoder.width), learned=True), encoded

    chosen = {"steps": parameters.encoder_steps, "learning_rate": parameters.encoder_learning_rate}
    return SemanticFit(rows, model, parameters.encoder_folds, chosen)


def _cross_fit(task: Task, fit: SemanticFit, frozen: pl.DataFrame) -> pl.DataFrame:
    """The hits of the train queries, part by part: each part is answered by a model that learned from the others alone.

    Where the others hold nothing to learn from, the frozen encoder's hits stand. Equal queries are in one part.
    """
    folds = np.array([fold_of(normalise(text), fit.folds) for text in task.queries["text"]])
    parts = []
    for fold in range(fit.folds):
        rows = task.rows("train")[folds[task.rows("train")] == fold]
        others = fit.rows[folds[fit.rows] != fold]
        if len(others):
            parts.append(task.answer(*fit.model(others), rows, DEPTH))
            task.log(f"Part {fold + 1} of {fit.folds} of the train queries is answered by a model that did not see it")
        else:
            parts.append(frozen.join(task.queries[rows].select("query_id"), on="query_id", how="semi"))
    return pl.concat(parts)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
