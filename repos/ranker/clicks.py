"""Training lists from clicks: documents that were shown for a query, with the features that the ranker would see now.

Knows the `judged` table of feedback; no network and no choice of weights.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import polars as pl

from repos.ranker.features import Array, FeatureSpace
from repos.ranker.lists import Lists
from repos.ranker.model import Parameters
from shared_ops.data.text import normalise
from shared_ops.release.inputs import Asked

HELD_OUT, NO_HITS, UNCLEAR, TOO_LITTLE = REASONS = (
    "of dev or test",
    "of unknown hits",
    "of no clear click",
    "of too little evidence",
)


@dataclass(frozen=True)
class ClickLists:
    """Lists from clicks, and what was left out."""

    lists: Lists
    """A list's query id is the query's normalised text, which may stand there once for each fold of the sessions."""
    examinations: Array
    """[lists]: how many examinations each rests on, which is its evidence."""
    asked: list[Asked]
    """[lists]: the search that each comes from, with each family's hits."""
    left_out: dict[str, int]
    """Reason to the number of lists that were left out for it."""

    def weights(self, judged: int, parameters: Parameters) -> Array:
        """What each list weighs in the loss beside `judged` lists from judgements, which weigh 1 each.

        That is its certainty times `click_weight`; less where all lists from clicks together would weigh more than
        `click_weight` times the judged lists.
        """
        sure = self.certainty(parameters)
        return np.asarray(parameters.click_weight * min(1.0, judged / max(sure.sum(), 1e-9)) * sure, np.float32)

    def certainty(self, parameters: Parameters) -> Array:
        """[lists], 0 to 1: each list's share of its full weight, E / (E + click_evidence) for E examinations."""
        return np.asarray(self.examinations / (self.examinations + parameters.click_evidence))

    def notes(self) -> dict[str, int | float]:
        """How much came from clicks, as the release reports it."""
        return {
            "clicked/lists": len(self.examinations),
            "clicked/documents": sum(map(len, self.lists.doc_ids)),
            "clicked/examinations": round(float(self.examinations.sum()), 1),
            **{f"clicked/left out: {why}": count for why, count in self.left_out.items()},
        }


def clicked_lists(
    judged: pl.DataFrame, asked: Sequence[Asked], space: FeatureSpace, held_out: Set[str], parameters: Parameters
) -> ClickLists:
    """The lists of a `judged` table that may be learned from: those of the most evidence, at most `click_lists`.

    A list is what the sessions of one fold were shown for a query. Its features are computed from the hits in `asked`;
    queries whose normalised text is in `held_out` are left out.

    A document's grade is (relevance - mean) / (1 - mean), by the mean relevance of all documents that were looked at,
    and 0 below `click_margin`: a document that is clicked hardly more than any other is no answer.
    """
    judged = judged.clear() if parameters.click_weight == 0 else judged.sort("query_id", "fold", "doc_id")
    pages = (
        judged.with_columns(grade=_grade(judged, parameters.click_margin))
        .group_by("query_id", "fold", "text", maintain_order=True)
        .agg("doc_id", "grade", pl.col("examinations").sum())
        .sort("examinations", "query_id", "fold", descending=[True, False, False])
    )
    answered = {(each.query_id, each.fold): each for each in asked}
    lists, left_out = Lists(space.fused, len(space.names)), dict.fromkeys(REASONS, 0)
    examinations: list[float] = []
    searches: list[Asked] = []
    for query_id, fold, text, doc_ids, grades, looks in pages.iter_rows():
        graded, key = dict(zip(doc_ids, grades, strict=True)), normalise(text)
        if key in held_out:
            left_out[HELD_OUT] += 1
        elif (query_id, fold) not in answered:
            left_out[NO_HITS] += 1
        elif min(grades) == max(grades):
            left_out[UNCLEAR] += 1
        elif len(examinations) == parameters.click_lists:
            left_out[TOO_LITTLE] += 1
        else:
            search = answered[query_id, fold]
            lists.add(key, space.candidates(text, search.hits).among(graded), graded)
            examinations.append(looks)
            searches.append(search)
    return ClickLists(lists, np.array(examinations, np.float64), searches, left_out)


def _grade(judged: pl.DataFrame, margin: float) -> pl.Expr:
    relevance, examinations = judged["relevance"].to_numpy(), judged["examinations"].to_numpy()
    mean = float(np.average(relevance, weights=examinations)) if len(judged) else 0.0
    above = (pl.col("relevance") - mean) / max(1 - mean, 1e-9)
    return pl.when(above < margin).then(0.0).otherwise(above)
