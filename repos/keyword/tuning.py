"""The search for a tokenizer and BM25's parameters that serve the dev queries best.

Knows no files and no model: counts and judged queries in, a choice out.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from repos.keyword.bm25 import TermCounts, TermIndex, WordCounts
from repos.keyword.words import Tokenizer, words

if TYPE_CHECKING:
    from optuna import Trial

DEPTH = 10
"""nDCG is measured at this rank."""
FEWEST = 20
"""Judged dev queries that a choice needs: resampled on three collections, choices by 10 lost more than they gained."""
CAUTION = 1.5
"""Standard errors by which a choice must beat the default. With fewer, a choice by 10 to 60 dev queries loses more than
one by 160 to 300 gains (resampled on three collections)."""


@dataclass(frozen=True)
class Choice:
    """What the search decides: a tokenizer and BM25's parameters."""

    tokenizer: Tokenizer
    k1: float
    b: float
    title_weight: float

    def flat(self) -> dict[str, float | int | str | bool]:
        """The choice by the names of its parts, as releases report it."""
        return {**asdict(self.tokenizer), "k1": self.k1, "b": self.b, "title_weight": self.title_weight}


@dataclass(frozen=True)
class DevJudgements:
    """Queries with known answers. Documents are named by their row in the counts."""

    texts: Mapping[str, str]
    """Query id to text."""
    grades: Mapping[str, Mapping[int, int]]
    """Query id to document to grade (at least 1). Every query has one or more."""


def tune(
    counts: WordCounts, judged: DevJudgements, default: Choice, trials: int, seed: int, log: Callable[[str], None]
) -> Choice:
    """The choice with the best mean nDCG@10 over the judged queries among those surely better than the default.

    Surely better means that the mean difference lies more than `CAUTION` standard errors above 0. The default stays
    where no choice is surely better, or where there are fewer than `FEWEST` queries: the best mean over a handful of
    queries is mostly luck, and lost up to 0.07 on other queries of the same collection. Optuna's TPE sampler proposes
    trials from `seed`, one after another: the same input gives the same choice.
    """
    if len(judged.texts) < FEWEST or not trials:
        log(
            f"The given parameters stand: {len(judged.texts)} judged dev queries ({FEWEST} are needed), {trials} trials"
        )
        return default
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    measure = _measure(counts, judged)
    before = measure(default)
    best, best_mean, sure = default, float(before.mean()), 0

    def objective(trial: "Trial") -> float:
        nonlocal best, best_mean, sure
        choice = _propose(trial, default)
        values = measure(choice)
        mean = float(values.mean())
        if _surely_better(values - before):
            sure += 1
            best, best_mean = max((best, best_mean), (choice, mean), key=lambda one: one[1])
        return mean

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=trials)
    log(
        f"{trials} trials on {len(before)} judged dev queries, {sure} surely better than the default: "
        f"nDCG@{DEPTH} {before.mean():.4f} by default, {best_mean:.4f} with {best.flat()}"
    )
    return best


def _surely_better(gains: NDArray[np.float64]) -> bool:
    return bool(gains.mean() > CAUTION * gains.std(ddof=1) / np.sqrt(len(gains)))


def _propose(trial: "Trial", default: Choice) -> Choice:
    tokenizer = replace(
        default.tokenizer,
        stem=trial.suggest_categorical("stem", [True, False]),
        stop_words=trial.suggest_categorical("stop_words", [True, False]),
    )
    return Choice(
        tokenizer,
        k1=round(trial.suggest_float("k1", 0.3, 3.0, log=True), 3),
        b=round(trial.suggest_float("b", 0.0, 1.0), 3),
        title_weight=round(trial.suggest_float("title_weight", 0.5, 10.0, log=True), 3),
    )


def _measure(counts: WordCounts, judged: DevJudgements) -> Callable[[Choice], NDArray[np.float64]]:
    """A function from a choice to each judged query's nDCG@10, in the queries' order."""
    import ir_measures

    ids = list(judged.texts)
    measure = ir_measures.nDCG @ DEPTH
    qrels = {query: {str(document): grade for document, grade in judged.grades[query].items()} for query in ids}
    evaluator = ir_measures.evaluator([measure], qrels)
    query_words = [words(text) for text in judged.texts.values()]

    @cache
    def tokenized(tokenizer: Tokenizer) -> tuple[TermCounts, list[list[int]]]:
        terms = [tokenizer.query(text_words) for text_words in query_words]
        every = TermCounts.of(counts, tokenizer)
        column = {term: place for place, term in enumerate(every.terms)}
        used = sorted({column[term] for query in terms for term in query if term in column})
        place = {every.terms[at]: new for new, at in enumerate(used)}
        queries = [[place[term] for term in query if term in place] for query in terms]
        return every.only(np.array(used, np.int64)), queries

    def values(choice: Choice) -> NDArray[np.float64]:
        term_counts, queries = tokenized(choice.tokenizer)
        index = TermIndex.of(term_counts, choice.k1, choice.b, choice.title_weight)
        documents, scores = index.search(queries, min(DEPTH, index.size))
        run = {
            query: {
                str(document): float(score) for document, score in zip(row, score_row, strict=True) if document >= 0
            }
            for query, row, score_row in zip(ids, documents.tolist(), scores.tolist(), strict=True)
        }
        ndcg = {value.query_id: float(value.value) for value in evaluator.iter_calc(run)}
        return np.array([ndcg.get(query, 0.0) for query in ids])

    return values
