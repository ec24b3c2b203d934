"""Published feedback: what people searched for and clicked, as immutable tables named by the hash of their content.

Knows no Dagster. It is made from the events in Postgres, and families that learn from clicks learn from it.

clicks
    what a search model learns from: documents shown for a query, with clicks corrected for their positions
judged
    what a ranker learns from: how relevant the same documents were
asked
    each family's hits for the queries that people asked
newest
    what the newest sessions clicked: held back from both tables above, to measure by
requests
    the newest searches, whose features are computed again and compared

Sessions are divided into `FOLDS` folds; the newest have a fold of their own. A fold's queries are answered by a model
that learned none of the fold's clicks, and these clicks judge the answer: so a ranker learns how far clicks can be
trusted.
"""

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shared_ops.data import published, storage
from shared_ops.data.home_urls import HomeUrl
from shared_ops.data.published import MANIFEST, Manifest

TABLES = ("clicks", "judged", "asked", "newest", "requests")
FOLDS = 5
HELD_BACK = FOLDS
"""The fold of the newest sessions: no row of `clicks` or `judged` comes from it."""


class FeedbackRef(BaseModel):
    """What travels between ops instead of feedback: its id and the URL of its folder."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: HomeUrl


class EventCounts(BaseModel):
    """How many sessions, searches and clicks came from one application."""

    sessions: int = 0
    searches: int = 0
    clicks: int = 0


class Burst(BaseModel):
    """An hour in which one query came from so many sessions that nothing is learned from them."""

    text: str
    hour: datetime
    sessions: int
    clicks: int


class FeedbackManifest(Manifest):
    """What feedback holds and where it came from."""

    applications: dict[str, EventCounts] = Field(description="by application; `simulation` marks made-up events")
    left_out: dict[str, int] = Field(
        description="reason to number of events left out: bots, repeated clicks, unknown searches"
    )
    bursts: list[Burst] = Field(default=[], description="left out for their number, the largest first")
    propensities: list[float] = Field(description="the chance that position 1, 2, ... is looked at, 1 for the first")
    held_back_sessions: int = Field(description="the number of the newest sessions, which are in `newest` alone")
    oldest: datetime | None = Field(description="the time of the oldest search")
    newest: datetime | None = Field(description="the time of the newest search")
    watermark: int = Field(description="the transaction before which every event was read (ubi.Window.before)")


class Feedback:
    """Published feedback; each table is read when its method is called."""

    def __init__(self, ref: FeedbackRef) -> None:
        self.ref = ref

    def clicks(self) -> pl.DataFrame:
        """The `clicks` table."""
        return self._read("clicks")

    def judged(self) -> pl.DataFrame:
        """The `judged` table."""
        return self._read("judged")

    def asked(self) -> pl.DataFrame:
        """The `asked` table."""
        return self._read("asked")

    def newest(self) -> pl.DataFrame:
        """The `newest` table."""
        return self._read("newest")

    def requests(self) -> pl.DataFrame:
        """The `requests` table."""
        return self._read("requests")

    def manifest(self) -> FeedbackManifest:
        """The manifest.

        Raises:
            PublishedError: when the feedback is missing or was written by a newer schema.
        """
        how = "What people search for and click makes it: docs/feedback.md."
        return published.read_manifest(self.ref.url, FeedbackManifest, "feedback", how)

    def _read(self, table: str) -> pl.DataFrame:
        return published.read_table(self.ref.url, table, f"feedback {self.ref.id}")


class Feedbacks:
    """The feedback of one deployment, in the folder at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def publish(self, content: Mapping[str, pl.DataFrame], manifest: FeedbackManifest) -> FeedbackRef:
        """Check the tables, put them in canonical order and publish them; equal content is published once.

        Raises:
            tables.TableError: when a table does not hold to its schema.
        """
        manifest = published.publish(self.url, {name: content[name] for name in TABLES}, manifest)
        return FeedbackRef(id=manifest.id, url=storage.join(self.url, manifest.id))

    def point_to(self, ref: FeedbackRef, watermark: int) -> None:
        """Make `ref` the latest feedback; it holds every event that was stored before the transaction `watermark`."""
        storage.write_json(storage.join(self.url, "latest.json"), {**ref.model_dump(), "watermark": watermark})

    def tidy(self, needed: Collection[str], before: datetime) -> list[str]:
        """Remove feedback that holds no search from `before` on; returns the removed ids.

        The latest feedback stays, and so does feedback whose id is in `needed`.
        """
        latest = self.latest()
        removed = []
        for name in storage.names(self.url):
            url = storage.join(self.url, name)
            if name in needed or (latest and name == latest.id) or not storage.exists(storage.join(url, MANIFEST)):
                continue
            newest = Feedback(FeedbackRef(id=name, url=url)).manifest().newest
            if newest is None or newest < before:
                storage.remove(url)
                removed.append(name)
        return removed

    def latest(self) -> FeedbackRef | None:
        """The latest feedback; None when none was published yet."""
        pointer = self._pointer()
        return FeedbackRef.model_validate(pointer) if pointer else None

    def watermark(self) -> int:
        """The transaction before which every event is in the latest feedback; 0 when there is no feedback."""
        pointer = self._pointer()
        return int(pointer["watermark"]) if pointer else 0

    def _pointer(self) -> dict[str, Any] | None:
        content = storage.read_bytes(storage.join(self.url, "latest.json"))
        if content is None:
            return None
        pointer: dict[str, Any] = json.loads(content)
        return pointer
