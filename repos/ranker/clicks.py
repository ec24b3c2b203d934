"""Training lists from clicks: documents that were shown for a query, with the features that the ranker saw then.

Knows the `judged` table of feedback; no network and no choice of weights.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import polars as pl

from repos.ranker.features import Array, Candidates, FeatureSpace
from repos.ranker.lists import Lists
from repos.ranker.model import Parameters

_NOT_WORD = re.compile(r"[\W_]+")


def query_key(text: str) -> str:
    """What equal queries share: their words, whatever their case, punctuation and spacing."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NOT_WORD.sub(" ", folded).strip() or " ".join(folded.split())


@dataclass(frozen=True)
class Clicked:
    """Lists from clicks, and what was left out."""

    lists: Lists
    """Their query ids are the queries' `query_key`s."""
    examinations: Array
    """[lists]: the evidence of each."""
    left_out: dict[str, int]
    """Why, to how many queries."""

    def weights(self, judged: int, parameters: Parameters) -> Array:
        """What each list weighs in the loss beside `judged` lists from judgements, which weigh 1 each.

        Its share of certainty, E / (E + click_evidence) for E examinations, times `click_weight`; less where all of
        them together would outweigh the judged lists by more than that.
        """
        sure = self.examinations / (self.examinations + parameters.click_evidence)
        return np.asarray(parameters.click_weight * min(1.0, judged / max(sure.sum(), 1e-9)) * sure, np.float32)

    def notes(self) -> dict[str, int | float]:
        """How much came from clicks, for the release."""
        return {
            "clicked/lists": len(self.examinations),
            "clicked/documents": sum(map(len, self.lists.doc_ids)),
            "clicked/examinations": round(float(self.examinations.sum()), 1),
            **{f"clicked/left out: {why}": count for why, count in self.left_out.items()},
        }


def clicked_lists(
    judged: pl.DataFrame,
    feature_names: Mapping[str, Sequence[str]],
    space: FeatureSpace,
    held_out: Set[str],
    parameters: Parameters,
) -> Clicked:
    """The lists of a `judged` table that may be learned from: those of the most evidence, at most `click_lists`.

    `feature_names` holds the columns that each ranker's release logged; what was logged by one whose columns are not
    those of `space` is left out, and so are the queries whose `query_key` is in `held_out`.

    A document's grade is how far its relevance is above the mean of all that were looked at, as a share of what is left
    to certainty, and 0 below `click_margin`: what is clicked no more than anything is no answer.
    """
    judged = judged.clear() if parameters.click_weight == 0 else judged.sort("query_id", "doc_id")
    names = space.names
    alike = [release for release, logged in feature_names.items() if list(logged) == names]
    rows = judged.with_columns(key=pl.col("text").map_elements(query_key, return_dtype=pl.String))
    free = rows.filter(~pl.col("key").is_in(list(held_out)))
    usable = free.filter(pl.col("ranker").is_in(alike) & (pl.col("features").list.len() == len(names)))
    graded = usable.with_columns(grade=_grade(judged, parameters.click_margin))
    queries = (
        graded.sort("key", "doc_id", "examinations", "query_id", descending=[False, False, True, False])
        .unique(["key", "doc_id"], keep="first", maintain_order=True)
        .group_by("key", maintain_order=True)
        .agg("doc_id", "grade", "features", pl.col("examinations").sum())
    )
    answered = queries.filter(
        (pl.col("grade").list.max() > 0) & (pl.col("grade").list.min() < pl.col("grade").list.max())
    )
    kept = answered.sort("examinations", "key", descending=[True, False]).head(parameters.click_lists)
    lists = Lists(len(space.families), len(names))
    for key, doc_ids, grades, features, _ in kept.iter_rows():
        lists.add(key, Candidates(doc_ids, np.array(features, np.float32)), dict(zip(doc_ids, grades, strict=True)))
    counts = [frame["key"].n_unique() for frame in (rows, free, usable, answered, kept)]
    reasons = ("of dev or test", "of other features", "of no clear click", "of too little evidence")
    left_out = dict(zip(reasons, (np.array(counts[:-1]) - counts[1:]).tolist(), strict=True))
    return Clicked(lists, kept["examinations"].to_numpy(), left_out)


def _grade(judged: pl.DataFrame, margin: float) -> pl.Expr:
    relevance, examinations = judged["relevance"].to_numpy(), judged["examinations"].to_numpy()
    mean = float(np.average(relevance, weights=examinations)) if len(judged) else 0.0
    above = (pl.col("relevance") - mean) / max(1 - mean, 1e-9)
    return pl.when(above < margin).then(0.0).otherwise(above)
