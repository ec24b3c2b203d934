"""Short ways to write searches and clicks as the search app records them."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count

import polars as pl

from shared_ops.data.ubi import (
    ClickedObject,
    EventAttributes,
    LoggedFeatures,
    LoggedHits,
    LoggedSet,
    Position,
    QueryAttributes,
    UbiEvent,
    UbiQuery,
)

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
"""Yesterday, so that no event is too old to be kept, and none is in the future."""
_ids = count()


def in_all(clicks: pl.DataFrame) -> pl.DataFrame:
    """The rows of a `clicks` table summed by document, over all queries and folds."""
    return (
        clicks.group_by("doc_id")
        .agg(
            pl.sum("clicks", "impressions", "examinations"),
            mean_position=(pl.col("mean_position") * pl.col("impressions")).sum() / pl.sum("impressions"),
            last_seen=pl.max("last_seen"),
        )
        .sort("doc_id")
    )


def search(
    text: str,
    doc_ids: Iterable[str],
    session: str,
    at: float = 0.0,
    application: str = "searchloop",
    features: list[list[float | None]] | None = None,
    ranker: str = "r1",
    hits: bool = False,
    search_id: str = "",
) -> UbiQuery:
    """A search `at` seconds after START; `features` is one row of numbers for each document."""
    search_id, shown = search_id or f"search-{next(_ids)}", list(doc_ids)
    return UbiQuery(
        application=application,
        query_id=search_id,
        client_id=session,
        user_query=text,
        timestamp=START + timedelta(seconds=at),
        query_response_id=search_id,
        query_response_hit_ids=shown,
        query_attributes=QueryAttributes(
            live_set=LoggedSet(number=1, releases={"ranker": ranker}, snapshot="s"),
            ranking="ranker" if features else "rrf",
            features=LoggedFeatures(release=ranker, values=features) if features else None,
            hits={"keyword": LoggedHits(doc_ids=shown, scores=[1.0] * len(shown))} if hits else None,
        ),
    )


def click(
    on: UbiQuery,
    doc_id: str,
    position: int | None = None,
    at: float | None = None,
    application: str | None = None,
    event_id: str = "",
    action: str = "click",
) -> UbiEvent:
    """A click on a search's document, 5 seconds after the search and where it stood unless said otherwise."""
    doc_ids = on.query_response_hit_ids
    time = on.timestamp + timedelta(seconds=5) if at is None else START + timedelta(seconds=at)
    return UbiEvent(
        application=application or on.application,
        event_id=event_id or f"event-{next(_ids)}",
        action_name=action,
        query_id=on.query_id,
        session_id=on.client_id,
        client_id=on.client_id,
        timestamp=time,
        event_attributes=EventAttributes(
            object=ClickedObject(object_id=doc_id), position=Position(ordinal=position or doc_ids.index(doc_id) + 1)
        ),
    )
