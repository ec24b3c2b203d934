"""Keeps searches and clicks from Postgres as Parquet files: one immutable part for each window that was read.

Knows no Dagster, and nothing of what is learned from them.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import polars as pl

from shared_ops.data import storage, tables
from shared_ops.data.ubi import CLICK, UbiEvent, UbiQuery, Window

SEARCHES: dict[str, Any] = {
    "search_id": pl.String,
    "application": pl.String,
    "session": pl.String,
    "text": pl.String,
    "timestamp": pl.Datetime("us", "UTC"),
    "doc_ids": pl.List(pl.String),
    "ranker": pl.String,
    "features": pl.List(pl.List(pl.Float32)),
    "hits": pl.String,
}
CLICKS: dict[str, Any] = {
    "event_id": pl.String,
    "application": pl.String,
    "search_id": pl.String,
    "doc_id": pl.String,
    "position": pl.Int64,
    "timestamp": pl.Datetime("us", "UTC"),
}
_RANKING = ("ranker", "features", "hits")
"""The columns with what the ranker got (hits) and computed (features): some 20 kB a search."""
WITH_RANKING = 5_000
"""How many of the newest searches are read with those columns: as many as the ranker learns lists from."""
BATCH = 2_000
"""How many rows are Python objects at one time: a search's features are hundreds of numbers, 24 bytes each until they
are in a table."""

_COMMIT = "searches.parquet"
_Row = TypeVar("_Row")


class Events(NamedTuple):
    """Searches with what they showed, and clicks, as flat tables of the columns SEARCHES and CLICKS."""

    searches: pl.DataFrame
    clicks: pl.DataFrame


def flat(queries: Iterable[UbiQuery], events: Iterable[UbiEvent]) -> Events:
    """Searches and clicks as tables, without other kinds of events. Unknown features are NaN."""
    searches = [pl.DataFrame([_search(query) for query in batch], schema=SEARCHES) for batch in _batches(queries)]
    clicks = [
        pl.DataFrame([_click(event) for event in batch if event.action_name == CLICK], schema=CLICKS)
        for batch in _batches(events)
    ]
    return Events(
        pl.concat([pl.DataFrame(schema=SEARCHES), *searches]), pl.concat([pl.DataFrame(schema=CLICKS), *clicks])
    )


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def _search(query: UbiQuery) -> dict[str, Any]:
    attributes = query.query_attributes
    hits = attributes.hits
    return {
        "search_id": query.query_id,
        "application": query.application,
        "session": query.client_id,
        "text": query.user_query,
        "timestamp": query.timestamp,
        "doc_ids": query.query_response_hit_ids,
        "ranker": attributes.features and attributes.features.release,
        "features": attributes.features and [_numbers(row) for row in attributes.features.values],
        "hits": hits and json.dumps({family: each.model_dump() for family, each in hits.items()}, sort_keys=True),
    }


def _numbers(row: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in row]


def _click(event: UbiEvent) -> dict[str, Any]:
    attributes = event.event_attributes
    return {
        "event_id": event.event_id,
        "application": event.application,
        "search_id": event.query_id,
        "doc_id": attributes.object.object_id,
        "position": attributes.position.ordinal,
        "timestamp": event.timestamp,
    }


class Parts:
    """The parts in the folder at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def add(self, window: Window, events: Events) -> str:
        """Write the events of a window as a new part, and return its name.

        The name ends with a hash of the events' ids: a database that was replaced may have the same window again.
        """
        ids = [*events.searches["search_id"], *events.clicks["event_id"]]
        digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:8]
        name = f"{window.after}-{window.before}-{digest}"
        with tempfile.TemporaryDirectory() as scratch:
            for table, frame in events._asdict().items():
                frame.write_parquet(Path(scratch) / f"{table}.parquet", compression="zstd")
            storage.publish_folder(Path(scratch), storage.join(self.url, name), commit=_COMMIT)
        return name

    def names(self) -> list[str]:
        """The names of the parts that are complete."""
        return [name for name in storage.names(self.url) if storage.exists(storage.join(self.url, name, _COMMIT))]

    def read(self, since: datetime) -> Events:
        """The searches and clicks from `since` on, each event once however many parts hold it.

        Clicks on a search before `since` are left out too, however late: their search would be unknown. The columns
        with what the ranker got and computed are null for all but the newest `WITH_RANKING` searches.
        """
        flat_columns = {name: dtype for name, dtype in SEARCHES.items() if name not in _RANKING}
        searches = self._table("searches", flat_columns, "search_id")
        clicks = self._table("clicks", CLICKS, "event_id")
        old = searches.filter(pl.col("timestamp") < since)
        recent = searches.filter(pl.col("timestamp") >= since)
        newest = recent.sort("timestamp", "search_id").tail(WITH_RANKING)
        ranked = self._table(
            "searches", {name: SEARCHES[name] for name in ("search_id", *_RANKING)}, "search_id", newest
        )
        return Events(
            recent.join(ranked, on="search_id", how="left", maintain_order="left").select(*SEARCHES),
            clicks.filter(pl.col("timestamp") >= since).join(old, on="search_id", how="anti"),
        )

    def forget(self, before: datetime) -> list[str]:
        """Remove the parts that hold nothing but events older than `before`; returns their names."""
        old_parts = [name for name in self.names() if not self._reaches(name, before)]
        for name in old_parts:
            storage.remove(storage.join(self.url, name))
        return old_parts

    def _reaches(self, name: str, moment: datetime) -> bool:
        """Whether a part holds an event of `moment` or later."""
        frames = (tables.read(storage.join(self.url, name, f"{table}.parquet")) for table in Events._fields)
        return any((frame["timestamp"] >= moment).any() for frame in frames)

    def _table(self, table: str, schema: dict[str, Any], key: str, only: pl.DataFrame | None = None) -> pl.DataFrame:
        """The columns of `schema` from all parts, each `key` once. With `only`, just its keys are read into memory."""
        frames = [pl.DataFrame(schema=schema)]
        for name in self.names():
            part = tables.read(storage.join(self.url, name, f"{table}.parquet"), list(schema))
            frames.append(part if only is None else part.join(only, on=key, how="semi"))
        return pl.concat(frames).unique(key, keep="first", maintain_order=True)
