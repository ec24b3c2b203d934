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
class Clicked:
    """Lists from clicks, and what was left out."""

    lists: Lists
    """Their query ids are the queries' normalised texts; one may stand there once for each fold of the sessions."""
    examinations: Array
    """[lists]: the evidence of each."""
    asked: list[Asked]
    """[lists]: what was asked, with each family's hits."""
    left_out: dict[str, int]
    """Why, to how many lists."""

    def weights(self, judged: int, parameters: Parameters) -> Array:
        """What each list weighs in the loss beside `judged` lists from judgements, which weigh 1 each.

        Its share of certainty, E / (E + click_evidence) for E examinations, times `click_weight`; less where all of
        them together would outweigh the judged lists by more than that.
        """
        sure = self.certainty(parameters)
        return np.asarray(parameters.click_weight * min(1.0, judged / max(sure.sum(), 1e-9)) * sure, np.float32)

    def certainty(self, parameters: Parameters) -> Array:
        """How much of its full weight each list has by its evidence: [lists], 0 to 1."""
        return np.asarray(self.examinations / (self.examinations + parameters.click_evidence))

    def notes(self) -> dict[str, int | float]:
        """How much came from clicks, for the release."""
        return {
            "clicked/lists": len(self.examinations),
            "clicked/documents": sum(map(len, self.lists.doc_ids)),
            "clicked/examinations": round(float(self.examinations.sum()), 1),
            **{f"clicked/left out: {why}": count for why, count in self.left_out.items()},
        }


def clicked_lists(
    judged: pl.DataFrame, asked: Sequence[Asked], space: FeatureSpace, held_out: Set[str], parameters: Parameters
) -> Clicked:
    """The lists of a `judged` table that may be learned from: those of the most evidence, at most `click_lists`.

    A list is what the sessions of one fold were shown for a query. Its features are computed from the hits in `asked`;
    queries whose normalised text is in `held_out` are left out.

    A document's grade is how far its relevance is above the mean of all that were looked at, as a share of what is left
    to certainty, and 0 below `click_margin`: what is clicked no more than anything is no answer.
    """
    judged = judged.clear() if parameters.click_weight == 0 else judged.sort("query_id", "fold", "doc_id")
    pages = (
        judged.with_columns(grade=_grade(judged, parameters.click_margin))
        .group_by("query_id", "fold", "text", maintain_order=True)
        .agg("doc_id", "grade", pl.col("examinations").sum())
        .sort("examinations", "query_id", "fold", descending=[True, False, False])
    )
    answered = {(each.query_id, each.fold): each for each in asked}
    lists, left_out = Lists(len(space.families), len(space.names)), dict.fromkeys(REASONS, 0)
    examinations: list[float] = []
    kept: list[Asked] = []
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
            one = answered[query_id, fold]
            lists.add(key, space.candidates(text, one.hits).among(graded), graded)
            examinations.append(looks)
            kept.append(one)
    return Clicked(lists, np.array(examinations, np.float64), kept, left_out)


def _grade(judged: pl.DataFrame, margin: float) -> pl.Expr:
    relevance, examinations = judged["relevance"].to_numpy(), judged["examinations"].to_numpy()
    mean = float(np.average(relevance, weights=examinations)) if len(judged) else 0.0
    above = (pl.col("relevance") - mean) / max(1 - mean, 1e-9)
    return pl.when(above < margin).then(0.0).otherwise(above)
