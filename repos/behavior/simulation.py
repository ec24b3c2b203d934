"""Simulated clicks, for as long as no one has used the app: a seeded position-based click model.

It reads only the judgements of training queries, so what learns from its clicks has seen no dev or test answer. Knows
no Dagster and no model. Whoever learns from the table says that it is simulated: nobody clicked any of this.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from shared_ops.data import tables

SESSION_INTERVAL = timedelta(hours=1)


class SimulationParameters(BaseModel):
    """A position-based click model and the pages it is shown.

    A result is clicked where it is both examined, with probability 1 / rank^eta, and attractive, which depends on its
    grade (Craswell et al. 2008, "An experimental comparison of click position-bias models"; Chuklin et al. 2015, "Click
    Models for Web Search"). Attractiveness is noise + (1 - noise) (2^grade - 1) / (2^highest grade - 1), as in Ai et
    al. 2018, "Unbiased Learning to Rank with Unbiased Propensity Estimation".
    """

    seed: int = Field(default=0, description="Same seed and same judgements: same clicks.")
    sessions: int = Field(default=50, ge=1, description="Pages shown for each training query.")
    page_size: int = Field(default=10, ge=1, description="Results on a page.")
    relevant_share: float = Field(
        default=0.5, gt=0.0, le=1.0, description="Largest share of a page that holds judged documents; the rest do not."
    )
    distractors: int = Field(
        default=20, ge=0, description="Documents without a judgement that a query's pages draw on."
    )
    eta: float = Field(default=1.0, ge=0.0, description="Decay of examination over the ranks: 1 / rank^eta.")
    noise: float = Field(
        default=0.1, ge=0.0, lt=1.0, description="Clicks on an examined document that answers nothing."
    )
    epoch: str = Field(
        default="2026-01-01T00:00:00+00:00",
        description="Time of every query's first session, as ISO 8601 with its zone; the next follow hourly.",
    )


def simulate_clicks(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, parameters: SimulationParameters
) -> pl.DataFrame:
    """The `clicks` table that `parameters.sessions` pages for each training query would have left.

    Its `examinations` are exact, where those of real clicks are estimated: the sum of the probabilities that the
    simulated user looked at the document.

    Each page mixes documents drawn from the query's judged ones with distractors drawn from the rest of the corpus, in
    a random order. A query draws from a seed of its own, so one more query changes no other's clicks. Judgements of
    dev and test queries, and of documents outside `documents`, are not read.
    """
    training = queries.filter(pl.col("split") == "train").select("query_id", "text")
    judged = (
        qrels.join(training, on="query_id").join(documents.select("doc_id"), on="doc_id", how="semi")
        .sort("query_id", "doc_id")
        .group_by("query_id", "text", maintain_order=True)
        .agg("doc_id", "grade")
    )  # fmt: skip
    highest = max((max(grades) for grades in judged["grade"]), default=1)
    doc_ids = documents["doc_id"].sort().to_numpy()
    rows = [row for query in judged.iter_rows(named=True) for row in _query_rows(query, highest, doc_ids, parameters)]
    return tables.make("clicks", rows)


def _query_rows(
    query: dict[str, Any], highest: int, doc_ids: np.ndarray, parameters: SimulationParameters
) -> Iterator[dict[str, Any]]:
    """One query's rows of the `clicks` table: one for each document that was on one of its pages."""
    from shared_ops.data.schemas import NO_SESSION

    digest = hashlib.sha256(f"{parameters.seed}:{query['query_id']}".encode()).digest()
    random = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
    judged = np.array(query["doc_id"])
    sample = random.choice(doc_ids, size=min(len(doc_ids), parameters.distractors + len(judged)), replace=False)
    others = sample[~np.isin(sample, judged)][: parameters.distractors]
    pool = np.concatenate([judged, others])
    grades = np.concatenate([np.array(query["grade"]), np.zeros(len(others), dtype=np.int64)])
    attractive = parameters.noise + (1 - parameters.noise) * (2.0**grades - 1) / (2.0**highest - 1)

    ranks = _pages(len(judged), len(others), parameters, random)
    examined = np.where(ranks > 0, 1.0 / np.maximum(ranks, 1) ** parameters.eta, 0.0)
    clicked = random.random(ranks.shape) < examined * attractive
    impressions = (ranks > 0).sum(axis=0)
    for column in np.flatnonzero(impressions):
        sessions = np.flatnonzero(ranks[:, column])
        yield {
            "query_id": query["query_id"],
            "text": query["text"],
            "doc_id": str(pool[column]),
            "clicks": int(clicked[:, column].sum()),
            "impressions": int(impressions[column]),
            "mean_position": float(ranks[sessions, column].mean()),
            "examinations": float(examined[sessions, column].sum()),
            "last_seen": datetime.fromisoformat(parameters.epoch) + int(sessions[-1]) * SESSION_INTERVAL,
            "fold": NO_SESSION,
        }


def _pages(judged: int, others: int, parameters: SimulationParameters, random: np.random.Generator) -> np.ndarray:
    """Ranks of judged documents, then others, on each session's page: sessions x documents, 0 where not shown."""
    sessions = parameters.sessions
    few = max(1, round(parameters.relevant_share * parameters.page_size))
    # Sorting random keys draws without replacement, for all sessions at once.
    from_judged = np.argsort(random.random((sessions, judged)), axis=1)[:, :few]
    from_others = judged + np.argsort(random.random((sessions, others)), axis=1)
    pages = np.concatenate([from_judged, from_others[:, : parameters.page_size - from_judged.shape[1]]], axis=1)
    pages = random.permuted(pages, axis=1)
    ranks = np.zeros((sessions, judged + others), dtype=np.int64)
    np.put_along_axis(ranks, pages, np.arange(1, pages.shape[1] + 1)[None, :], axis=1)
    return ranks
