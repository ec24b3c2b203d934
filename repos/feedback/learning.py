"""Computes from searches and clicks the tables of published feedback, and the manifest that says what they hold.

Knows no Dagster, no database and no storage. Equal events give equal tables, in whatever order they came.
"""

from collections import Counter
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import Field

from repos.feedback.parts import Events
from repos.feedback.positions import PositionParameters, propensities
from repos.feedback.sessions import Bounds, HoldoutPolicy, counted, newest_sessions
from shared_ops.data import tables
from shared_ops.data.feedback import FOLDS, HELD_BACK, Burst, EventCounts, FeedbackManifest
from shared_ops.data.text import fold_of

_HAS_FEATURES = pl.col("features").list.len() == pl.col("doc_ids").list.len()
"""Whether the ranker's features of each document shown were recorded."""
LISTED_BURSTS = 20
"""How many bursts the manifest lists at most; `left_out` counts all of them."""


class LearningParameters(Bounds, HoldoutPolicy, PositionParameters):
    """The parameters of computing feedback from events."""

    propensity_floor: float = Field(
        default=0.1, gt=0.0, le=1.0, description="a smaller propensity is raised to it: one click weighs 10 at most"
    )
    prior_examinations: float = Field(
        default=2.0, gt=0.0, description="looks that a document's relevance starts with, clicked as often as all were"
    )
    requests: int = Field(default=200, ge=0, description="searches whose features are computed again")


class FeedbackContent(NamedTuple):
    """What is published as feedback: the tables by name, and their manifest."""

    tables: dict[str, pl.DataFrame]
    manifest: FeedbackManifest


def learn(events: Events, watermark: int, parameters: LearningParameters) -> FeedbackContent:
    """Compute the tables and the manifest of feedback from events.

    `watermark` is the transaction before which all events were read; it goes into the manifest.
    """
    left_out: Counter[str] = Counter()
    searches, clicks, bursts = counted(events, parameters, left_out)
    newest = newest_sessions(searches, clicks, parameters)
    searches = searches.join(_folds(searches["session"].unique(), newest), on="session")
    impressions = _impressions(searches.filter(pl.col("fold") != HELD_BACK), clicks)
    positions = searches.select(pl.col("doc_ids").list.len().max()).item() or 1
    looked_at = propensities(_by_position(impressions), positions, parameters)
    clipped = np.maximum(looked_at, parameters.propensity_floor)
    texts = _texts(searches)
    documents = _shown(impressions, clipped).join(texts, on="query_id")
    content = {
        "clicks": documents,
        "judged": _judged(documents, parameters.prior_examinations),
        "asked": _asked(searches).join(texts, on="query_id"),
        "newest": _graded(clicks.filter(pl.col("session").is_in(newest.implode())), clipped).join(texts, on="query_id"),
        "requests": _requests(events.searches, parameters.requests),
    }
    manifest = FeedbackManifest(
        applications=_counts(searches, clicks),
        left_out=dict(sorted(left_out.items())),
        bursts=[Burst(**row) for row in bursts.select(*Burst.model_fields).head(LISTED_BURSTS).iter_rows(named=True)],
        propensities=looked_at.tolist(),
        held_back_sessions=len(newest),
        oldest=_moment(searches["timestamp"].min()),
        newest=_moment(searches["timestamp"].max()),
        watermark=watermark,
    )
    return FeedbackContent({name: _fitted(name, frame) for name, frame in content.items()}, manifest)


def _folds(sessions: pl.Series, newest: pl.Series) -> pl.DataFrame:
    """Each session's fold, by a hash of its id, so that it stays the same when others come; `newest` have their own."""
    held_back = set(newest)
    folds = [HELD_BACK if session in held_back else fold_of(session, FOLDS) for session in sessions]
    return pl.DataFrame({"session": sessions, "fold": folds}, schema={"session": pl.String, "fold": pl.Int64})


def _impressions(searches: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """A row for each document on each page: its position, and whether it was clicked."""
    clicked = clicks.select("search_id", "doc_id", "position", clicked=pl.lit(True))
    return (
        searches.select(
            "search_id", "query_id", "fold", "timestamp", "doc_ids",
            position=pl.int_ranges(1, pl.col("doc_ids").list.len() + 1, dtype=pl.Int64),
        )
        .explode("doc_ids", "position")
        .rename({"doc_ids": "doc_id"})
        .drop_nulls("doc_id")
        .join(clicked, on=["search_id", "doc_id", "position"], how="left")
        .with_columns(pl.col("clicked").fill_null(False))
    )  # fmt: skip


def _by_position(impressions: pl.DataFrame) -> pl.DataFrame:
    return impressions.group_by("query_id", "doc_id", "position").agg(impressions=pl.len(), clicks=pl.sum("clicked"))


def _shown(impressions: pl.DataFrame, clipped: np.ndarray) -> pl.DataFrame:
    """Each query's documents, by fold, with their clicks and how often they were probably looked at (`examinations`).

    `clipped` holds the propensity of each position, none below the floor. [positions]
    """
    looked_at = pl.Series(clipped)
    return (
        impressions.with_columns(looked_at=looked_at.gather(impressions["position"] - 1))
        .group_by("query_id", "doc_id", "fold")
        .agg(
            clicks=pl.sum("clicked"),
            impressions=pl.len(),
            mean_position=pl.mean("position"),
            # Summed in one order: the last bit of a sum depends on it, and the table's name on the last bit.
            examinations=pl.col("looked_at").sort().sum(),
            last_seen=pl.max("timestamp"),
        )
    )


def _judged(documents: pl.DataFrame, prior_examinations: float) -> pl.DataFrame:
    """`documents` with a column of their relevance to the sessions of their fold.

    Relevance is the clipped inverse-propensity estimate, clicks by examinations (Joachims et al. 2017, "Unbiased
    Learning-to-Rank with Biased Feedback"), under a Beta prior whose mean is the rate of all documents (empirical
    Bayes, as in Wang et al. 2011, "Click-Through Rate Estimation for Rare Events in Online Advertising"). So one click
    at one look is no certainty, and a document that nobody looked at is neither good nor bad.
    """
    rate: float = documents.select(pl.col("clicks").sum() / pl.col("examinations").sort().sum()).item()
    relevance = (pl.col("clicks") + prior_examinations * rate) / (pl.col("examinations") + prior_examinations)
    return documents.with_columns(relevance=relevance.clip(0.0, 1.0))


def _asked(searches: pl.DataFrame) -> pl.DataFrame:
    """For each query and fold, the newest search whose hits, which the ranker got, were recorded."""
    return (
        searches.filter(pl.col("hits").is_not_null())
        .sort("timestamp", "search_id")
        .unique(["query_id", "fold"], keep="last", maintain_order=True)
        .select("query_id", "fold", "hits")
    )


def _graded(clicks: pl.DataFrame, clipped: np.ndarray) -> pl.DataFrame:
    """The documents clicked for each query, graded by their clicks, each weighed by 1 / propensity of its position."""
    weight = pl.Series(1.0 / clipped).gather(clicks["position"] - 1)
    return (
        clicks.with_columns(weight=weight)
        .group_by("query_id", "doc_id")
        .agg(grade=pl.col("weight").sort().sum().round().clip(lower_bound=1))
    )


def _requests(searches: pl.DataFrame, newest: int) -> pl.DataFrame:
    """The newest searches with recorded hits and features: what the ranker got, and what it computed."""
    return (
        searches.filter(_HAS_FEATURES, pl.col("hits").is_not_null())
        .sort("timestamp", "search_id", descending=True)
        .head(newest)
        .rename({"search_id": "query_id"})
    )


def _texts(searches: pl.DataFrame) -> pl.DataFrame:
    """One text for each query: the one that it was asked in most often."""
    return (
        searches.group_by("query_id", "text")
        .len()
        .sort("len", "text", descending=[True, False])
        .unique("query_id", keep="first", maintain_order=True)
        .select("query_id", "text")
    )


def _counts(searches: pl.DataFrame, clicks: pl.DataFrame) -> dict[str, EventCounts]:
    counts = searches.group_by("application").agg(sessions=pl.col("session").n_unique(), searches=pl.len())
    clicked = clicks.group_by("application").agg(clicks=pl.len())
    joined = counts.join(clicked, on="application", how="full", coalesce=True).fill_null(0).sort("application")
    return {row.pop("application"): EventCounts(**row) for row in joined.iter_rows(named=True)}


def _moment(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _fitted(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of the table's schema, in its order and with its types."""
    schema = tables.empty(table).schema
    return frame.select(schema.names()).cast(schema)
