"""Decides which searches and clicks count: not those of bots, no repetitions, no clicks on what was not shown.

A session costs nothing: anybody who reaches the search app can invent any number of them, with one search and one click
each. So `Bounds` limits how many sessions of a single query count for each query and hour, whatever they click.

Knows no Dagster and no click model. Everything that is left out is counted by its reason.
"""

from collections import Counter
from datetime import timedelta
from typing import NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from repos.feedback.parts import Events
from shared_ops.data.text import text_id
from shared_ops.data.ubi import SIMULATION

MINUTE = timedelta(minutes=1)

REPEATED_QUERY = "a query repeated in its session"
REPEATED_CLICK = "a click repeated in its session"
UNKNOWN_SEARCH = "a click for an unknown search"
NOT_SHOWN = "a click on a document that was not shown"
OTHER_POSITION = "a click at another position than shown"
FAST = "a session with too many searches in a minute"
MANY = "a session with too many searches"
CLICKED_ALL = "a session that clicked too much of what it was shown"
BURST = "a session of a single query, one of too many for it in an hour"


class Split(BaseModel):
    """Which sessions are held back to measure by."""

    model_config = ConfigDict(frozen=True)

    newest_share: float = Field(
        default=0.2, ge=0.0, lt=1.0, description="of the sessions that clicked, held back to measure by"
    )
    most_newest: int = Field(
        default=50, ge=0, description="sessions held back at most: what people want now is not learned from them"
    )
    fewest_sessions: int = Field(default=20, ge=2, description="with less, nothing is held back")


class Bounds(BaseModel):
    """Limits of what one session teaches, and of what the sessions of a single query teach together.

    A session beyond the limits does more than a person does, and is left out whole.

    Three of four sessions are of a single query (77.6% in Silverstein et al. 1999, "Analysis of a Very Large Web Search
    Engine Query Log"). So where people come for a query, some of them ask other queries too. If many sessions of that
    query alone come in an hour, and too few that ask another as well, then the former are left out for this hour. No
    document and no click plays a part in this, since no click can be told to be honest by itself (Radlinski 2007,
    "Addressing Malicious Noise in Clickthrough Data"): what is true is learned later, from sessions that ask more.
    """

    model_config = ConfigDict(frozen=True)

    searches_a_minute: int = Field(default=30, ge=1, description="in any minute of a session")
    searches_in_all: int = Field(default=500, ge=1, description="in a session")
    clicked_share: float = Field(default=0.5, gt=0.0, le=1.0, description="of the results that a session was shown")
    clicked_share_from: int = Field(default=30, ge=1, description="results shown from which on the share is judged")
    impressions_of_a_query: int = Field(default=3, ge=1, description="searches of one query that count in a session")
    alone: int = Field(
        default=15, ge=0, description="sessions of a single query that count for it in an hour, whoever else comes"
    )
    alone_for_each: int = Field(
        default=10, ge=0, description="more for each session that asks it and another: people pass it once in 50 hours"
    )


class Counted(NamedTuple):
    """The searches and clicks that count, and the bursts: by query_id and hour, the sessions and clicks left out."""

    searches: pl.DataFrame
    clicks: pl.DataFrame
    bursts: pl.DataFrame


def counted(events: Events, bounds: Bounds, left_out: Counter[str]) -> Counted:
    """Select the searches and clicks that count; the number of the others is added to `left_out`, by reason.

    Searches get a column query_id, equal for texts that differ in nothing but case, punctuation and spacing. A click
    belongs to the session of its search, and is simulated if either of the two is.
    """
    searches = events.searches.join(_query_ids(events.searches), on="text").sort("timestamp", "search_id")
    clicks = _shown(events.clicks, searches, left_out)
    why = pl.coalesce(
        "why", pl.when(_nth("session", "query_id") > bounds.impressions_of_a_query).then(pl.lit(REPEATED_QUERY))
    )
    searches = searches.join(_bots(searches, clicks, bounds), on="session", how="left").with_columns(why)
    clicks = clicks.join(searches.select("search_id", "why"), on="search_id")
    searches, clicks = _leave_out(searches, left_out), _leave_out(clicks, left_out)
    again = _nth("session", "query_id", "doc_id") > 1
    clicks = _leave_out(clicks.with_columns(why=pl.when(again).then(pl.lit(REPEATED_CLICK))), left_out)
    searches = _in_bursts(searches, bounds)
    clicks = clicks.join(searches.select("search_id", "hour", "why"), on="search_id")
    bursts = _bursts(searches, clicks)
    return Counted(_leave_out(searches, left_out).drop("hour"), _leave_out(clicks, left_out).drop("hour"), bursts)


def _query_ids(searches: pl.DataFrame) -> pl.DataFrame:
    texts = searches["text"].unique()
    return pl.DataFrame(
        {"text": texts, "query_id": [f"asked:{text_id(text)}" for text in texts]},
        schema={"text": pl.String, "query_id": pl.String},
    )


def _shown(clicks: pl.DataFrame, searches: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """The clicks on what their search showed, in the order of time, with the session and query_id of the search."""
    by_search = searches.select("search_id", "session", "query_id", "doc_ids", search_application="application")
    at_position = pl.col("doc_ids").list.get(pl.col("position") - 1, null_on_oob=True)
    why = (
        pl.when(pl.col("session").is_null()).then(pl.lit(UNKNOWN_SEARCH))
        .when(~pl.col("doc_ids").list.contains(pl.col("doc_id"))).then(pl.lit(NOT_SHOWN))
        .when(at_position.ne_missing(pl.col("doc_id"))).then(pl.lit(OTHER_POSITION))
    )  # fmt: skip
    application = pl.when(pl.col("application") == SIMULATION).then("application").otherwise("search_application")
    joined = clicks.join(by_search, on="search_id", how="left").with_columns(why=why, application=application)
    return _leave_out(joined, left_out).drop("doc_ids", "search_application").sort("timestamp", "event_id")


def _bots(searches: pl.DataFrame, clicks: pl.DataFrame, bounds: Bounds) -> pl.DataFrame:
    """The sessions that do more than a person does, and why."""
    clicked = clicks.group_by("session").agg(clicked=pl.struct("search_id", "position").n_unique())
    time = pl.col("timestamp").sort()
    sessions = searches.group_by("session").agg(
        searches=pl.len(),
        shown=pl.col("doc_ids").list.len().sum(),
        shortest=(time - time.shift(bounds.searches_a_minute)).min(),
    )
    share = pl.col("clicked").fill_null(0) / pl.col("shown")
    why = (
        pl.when(pl.col("shortest") < MINUTE).then(pl.lit(FAST))
        .when(pl.col("searches") > bounds.searches_in_all).then(pl.lit(MANY))
        .when((pl.col("shown") >= bounds.clicked_share_from) & (share > bounds.clicked_share)).then(pl.lit(CLICKED_ALL))
    )  # fmt: skip
    return sessions.join(clicked, on="session", how="left").select("session", why=why).drop_nulls("why")


def _in_bursts(searches: pl.DataFrame, bounds: Bounds) -> pl.DataFrame:
    """The searches with their hour; `why` says BURST for sessions of a single query that are too many in the hour."""
    searches = searches.with_columns(
        hour=pl.col("timestamp").dt.truncate("1h"), alone=pl.col("query_id").n_unique().over("session") == 1
    )
    alone, others = (
        pl.col("session").filter(chosen).n_unique().over("query_id", "hour")
        for chosen in (pl.col("alone"), ~pl.col("alone"))
    )
    too_many = pl.col("alone") & (alone > bounds.alone + bounds.alone_for_each * others)
    return searches.with_columns(why=pl.when(too_many).then(pl.lit(BURST))).drop("alone")


def _bursts(searches: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """How many sessions and clicks are left out as a burst, by query and hour, the most sessions first."""
    sessions, clicked = (frame.drop_nulls("why").group_by("query_id", "hour") for frame in (searches, clicks))
    return (
        sessions.agg(text=pl.col("text").min(), sessions=pl.col("session").n_unique())
        .join(clicked.agg(clicks=pl.len()), on=["query_id", "hour"], how="left")
        .with_columns(pl.col("clicks").fill_null(0))
        .sort("sessions", "text", "hour", descending=[True, False, False])
    )


def _nth(*keys: str) -> pl.Expr:
    """The number of a row among those with equal `keys`, from 1, in the order of the rows."""
    return pl.int_range(1, pl.len() + 1).over(*keys)


def _leave_out(frame: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """The rows without a reason in the column `why`; the others are counted in `left_out` by theirs."""
    for why, rows in frame.drop_nulls("why")["why"].value_counts().iter_rows():
        left_out[why] += rows
    return frame.filter(pl.col("why").is_null()).drop("why")


def newest_sessions(searches: pl.DataFrame, clicks: pl.DataFrame, split: Split) -> pl.Series:
    """The ids of the newest sessions that clicked, by their first search: as many as `split` holds back.

    Sessions without a click are useless to measure by, and those of a program that searches all day would displace all
    others.
    """
    clicked = searches.join(clicks, on="session", how="semi")
    first = clicked.group_by("session").agg(pl.col("timestamp").min()).sort("timestamp", "session")
    share = round(len(first) * split.newest_share) if len(first) >= split.fewest_sessions else 0
    return first["session"].tail(min(share, split.most_newest))
