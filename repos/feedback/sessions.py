"""Decides which searches and clicks count: not those of bots, no repetitions, no clicks on what was not shown.

A session costs nothing: anybody who reaches the search app can invent any number of them. So `Bounds` limits what the
narrow ones teach together, those that asked a single query or clicked no more than one document.

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
WEEK = timedelta(weeks=1)
HOUR = timedelta(hours=1)

REPEATED_QUERY = "a query repeated in its session"
REPEATED_CLICK = "a click repeated in its session"
UNKNOWN_SEARCH = "a click for an unknown search"
NOT_SHOWN = "a click on a document that was not shown"
OTHER_POSITION = "a click at another position than shown"
FAST = "a session with too many searches in a minute"
MANY = "a session with too many searches"
CLICKED_ALL = "a session that clicked too much of what it was shown"
BURST = "a session of one query or one document, one of too many in an hour"
BURST_REASONS = (BURST, "a session of a single query, one of too many for it in an hour")
"""What a burst is called: the first by this code, the other in feedback that was published before."""


class HoldoutPolicy(BaseModel):
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
    """Limits of what one session teaches, and of what narrow sessions teach together.

    A session beyond the former does more than a person does, and is left out whole.

    A narrow session asked a single query, or clicked no more than one document. Those that push a document are narrow,
    and so are most people's (77.6% are of a single query in Silverstein et al. 1999, "Analysis of a Very Large Web
    Search Engine Query Log"); no click can be told to be honest by itself (Radlinski 2007, "Addressing Malicious Noise
    in Clickthrough Data"). So the number of narrow sessions is limited, by query and hour, and that of what they
    clicked, by document and hour (once for a session and query). Nothing that comes in the same hour raises these
    limits, since it may have been invented with them; what came for the same query or document in the week before does.
    Where there are more, none of them counts in that hour: what is true is learned from sessions that asked and clicked
    more.
    """

    model_config = ConfigDict(frozen=True)

    searches_a_minute: int = Field(default=30, ge=1, description="in any minute of a session")
    searches_in_all: int = Field(default=500, ge=1, description="in a session")
    clicked_share: float = Field(default=0.5, gt=0.0, le=1.0, description="of the results that a session was shown")
    clicked_share_from: int = Field(default=30, ge=1, description="results shown from which on the share is judged")
    impressions_of_a_query: int = Field(default=3, ge=1, description="searches of one query that count in a session")
    narrow_sessions: int = Field(
        default=15, ge=0, description="sessions of one query or one document that count for a query in an hour"
    )
    narrow_clicks: int = Field(
        default=30, ge=0, description="clicks of such sessions that count for a document in an hour, whatever the query"
    )
    usual_hours: float = Field(
        default=3.0, ge=0.0, description="more of both: so many times what the mean hour of the week before had"
    )


class CountedEvents(NamedTuple):
    """The searches and clicks that count, and the bursts: by query_id and hour, the sessions and clicks left out."""

    searches: pl.DataFrame
    clicks: pl.DataFrame
    bursts: pl.DataFrame


def counted(events: Events, bounds: Bounds, left_out: Counter[str]) -> CountedEvents:
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
    searches = _in_bursts(searches, clicks, bounds)
    clicks = clicks.join(searches.select("search_id", "hour", "why"), on="search_id")
    bursts = _bursts(searches, clicks)
    return CountedEvents(_leave_out(searches, left_out).drop("hour"), _leave_out(clicks, left_out).drop("hour"), bursts)


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


def _in_bursts(searches: pl.DataFrame, clicks: pl.DataFrame, bounds: Bounds) -> pl.DataFrame:
    """The searches with their hour; `why` says BURST for those of narrow sessions that were too many in it."""
    searches = searches.with_columns(hour=pl.col("timestamp").dt.truncate(HOUR))
    narrow = _narrow(searches, clicks)
    too_many = pl.concat(
        narrow.join(_too_many(narrow, key, bound, bounds.usual_hours), on=[key, "hour"], how="semi")["search_id"]
        for key, bound in (("query_id", bounds.narrow_sessions), ("doc_id", bounds.narrow_clicks))
    )
    why = pl.when(pl.col("search_id").is_in(too_many.implode())).then(pl.lit(BURST))
    return searches.with_columns(why=why)


def _narrow(searches: pl.DataFrame, clicks: pl.DataFrame) -> pl.DataFrame:
    """A row for each click of the sessions of one query or one document, and for each of their searches without any."""
    asked = searches.select("search_id", "session", "query_id", "hour")
    by_click = asked.join(clicks.select("search_id", "doc_id"), on="search_id", how="left")
    queries, documents = (
        values.n_unique().over("session") for values in (pl.col("query_id"), pl.col("doc_id").drop_nulls())
    )
    return by_click.filter((queries == 1) | (documents <= 1))


def _too_many(narrow: pl.DataFrame, key: str, bound: int, usual_hours: float) -> pl.DataFrame:
    """The values of `key` with the hours in which they have too many rows of `narrow`: more than `bound` and usual.

    For one query a session counts once, however often it asks it.
    """
    counts = (
        narrow.drop_nulls(key)
        .group_by(key, "hour")
        .agg(number=pl.struct("session", "query_id").n_unique())
        .sort(key, "hour")
    )
    week_before = pl.col("number").rolling_sum_by("hour", WEEK, closed="left").over(key).fill_null(0)
    return counts.filter(pl.col("number") > bound + usual_hours * week_before / (WEEK / HOUR))


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


def newest_sessions(searches: pl.DataFrame, clicks: pl.DataFrame, policy: HoldoutPolicy) -> pl.Series:
    """The ids of the newest sessions that clicked, by their first search: as many as `policy` holds back.

    Sessions without a click are useless to measure by, and those of a program that searches all day would displace all
    others.
    """
    clicked = searches.join(clicks, on="session", how="semi")
    first = clicked.group_by("session").agg(pl.col("timestamp").min()).sort("timestamp", "session")
    share = round(len(first) * policy.newest_share) if len(first) >= policy.fewest_sessions else 0
    return first["session"].tail(min(share, policy.most_newest))
