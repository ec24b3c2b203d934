"""Records answered searches and clicks: on disk at once, in Postgres when it is there. Knows no route and no page.

A search that cannot be recorded is answered all the same; that is counted, logged once, and said in /health.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing, nullcontext
from datetime import UTC, datetime
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from services.search.answering import Answer
from services.search.outbox import Levels, Outbox
from services.search.sampling import Sample
from services.search.shipping import KINDS, Shipper
from services.search.visitors import Visitor
from shared_ops.data.ubi import LoggedFeatures, LoggedHits, LoggedSet, QueryAttributes, Store, UbiEvent, UbiQuery
from shared_ops.settings import Settings

log = logging.getLogger(__name__)

_NAMES = {kind: name for name, kind in KINDS.items()}


class Recorder(Collector):
    """Keeps searches and events until Postgres has them. Its metrics say how many wait, and for how long."""

    def __init__(self, settings: Settings) -> None:
        self.on = settings.feedback
        self.lost = 0
        self.problem: str | None = None
        """Why nothing could be recorded when last tried."""
        self._sample = Sample(settings.learned_per_minute)
        self._outbox = Outbox(settings.home / "outbox" / "search.sqlite")
        url = settings.postgres_url
        self._shipper = Shipper(self._outbox, Store(url), settings.ship_seconds) if url else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ship to Postgres while the block runs."""
        with closing(self._outbox), self._shipper.running() if self._shipper and self.on else nullcontext():
            yield

    async def search(self, result: Answer, who: Visitor) -> None:
        """Record an answered search, on disk when this returns."""
        if self.on:
            is_whole = self._sample.takes()
            await self._keep(lambda: [as_query(result, who, is_whole=is_whole)], 1)

    async def events(self, events: Sequence[UbiEvent]) -> bool:
        """Record events. Returns whether they are kept, on disk when this returns."""
        return await self._keep(lambda: events, len(events))

    async def _keep(self, rows: Callable[[], Sequence[UbiQuery | UbiEvent]], count: int) -> bool:
        try:
            await asyncio.to_thread(
                lambda: self._outbox.put([(_NAMES[type(row)], row.model_dump_json()) for row in rows()])
            )
        except (sqlite3.Error, OSError, ValidationError) as error:
            self.lost += count
            self._failed(error)
            return False
        self.problem = None
        return True

    def _failed(self, error: Exception) -> None:
        if self.problem is None:
            log.error("Cannot record searches and clicks in %s", self._outbox.path, exc_info=error)
        self.problem = f"{type(error).__name__}: {error}"

    def health(self) -> dict[str, Any]:
        """What /health says of it."""
        if not self.on:
            return {"feedback": {"on": False}}
        levels = self._levels()
        shipping = self._shipper.problem if self._shipper else "No database: SEARCHLOOP_POSTGRES_URL is not set."
        return {
            "feedback": {
                "on": True,
                "waiting": levels and levels.waiting,
                "set_aside": levels and levels.set_aside,
                "lost": self.lost,
                "recording": self.problem,
                "shipping": shipping,
            }
        }

    def collect(self) -> Iterable[Metric]:
        """The metrics, read when scraped."""
        yield CounterMetricFamily("searchloop_feedback_lost", "Searches and clicks that no disk took.", self.lost)
        stored = self._shipper.stored if self._shipper else 0
        yield CounterMetricFamily("searchloop_feedback_stored", "Searches and clicks stored in Postgres.", stored)
        levels = self._levels() if self.on else None
        if levels is not None:
            yield GaugeMetricFamily("searchloop_feedback_waiting", "Waiting on disk for Postgres.", levels.waiting)
            yield GaugeMetricFamily("searchloop_feedback_set_aside", "Refused by Postgres, on disk.", levels.set_aside)
            yield GaugeMetricFamily(
                "searchloop_feedback_seconds_behind", "Age of the oldest that waits.", levels.seconds_behind
            )

    def _levels(self) -> Levels | None:
        """How much is in the outbox, None where that cannot be read: /health and the metrics go on without."""
        try:
            return self._outbox.levels()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return None


def as_query(result: Answer, who: Visitor, *, is_whole: bool) -> UbiQuery:
    """An answered search as it is stored, with what it was ordered by if it `is_whole`: 20 times as much.

    One response answers a search, so both have the same id.
    """
    live_set, explained = result.live_set, result.explained if is_whole else None
    attributes = QueryAttributes(
        live_set=LoggedSet(number=live_set.number, releases=live_set.releases, snapshot=live_set.snapshot.id),
        ranking=result.ranking,
        degraded=[each.family for each in result.degraded],
        features=LoggedFeatures(release=explained.release, values=explained.features) if explained else None,
        hits=_logged(result) if is_whole else None,
    )
    return UbiQuery(
        application=who.application,
        query_id=result.query_id,
        client_id=who.session,
        user_query=result.query,
        timestamp=datetime.now(UTC),
        query_response_id=result.query_id,
        query_response_hit_ids=[hit.doc_id for hit in result.hits],
        query_attributes=attributes,
    )


def _logged(result: Answer) -> dict[str, LoggedHits]:
    return {
        family: LoggedHits(doc_ids=[doc_id for doc_id, _ in hits], scores=[score for _, score in hits])
        for family, hits in result.basis.by_family.items()
    }
