"""From the outbox to Postgres, in a thread of its own: batch by batch, and out of the outbox only what is stored.

Knows neither searches nor pages. What is stored twice by its id counts once (shared_ops.data.ubi), so a batch whose
fate is not known is simply sent again.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg2

from services.search.outbox import Outbox, OutboxEntry
from shared_ops.data.ubi import Store, UbiEvent, UbiQuery

log = logging.getLogger(__name__)

BATCH = 200
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between the attempts while Postgres is away: twice as long each time."""

KINDS: dict[str, type[UbiQuery] | type[UbiEvent]] = {"query": UbiQuery, "event": UbiEvent}

_REFUSED = ("22", "23", "54")
"""SQLSTATE classes that are the row's fault: data exception, constraint violation, program limit exceeded."""


class Shipper:
    """Stores what waits in the outbox, every so many seconds; keeps on trying while Postgres is away."""

    def __init__(self, outbox: Outbox, store: Store, every: float) -> None:
        self.stored = 0
        self.problem: str | None = None
        """Why nothing could be stored when last tried."""
        self._outbox, self._store, self._every = outbox, store, every
        self._prepared = False
        self._ended = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ship while the block runs."""
        thread = threading.Thread(target=self._run, name="ship", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            # Not for ever: a database that hangs must not hold up the end. What was not stored waits on disk.
            thread.join(timeout=LONGEST_PAUSE)

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                full = self._ship()
            except Exception as error:
                if self.problem is None:
                    log.exception("Searches and clicks wait on disk in %s", self._outbox.path)
                self.problem = f"{type(error).__name__}: {str(error).strip()}"
                # Another database may be behind the URL next time, or one that was made anew.
                self._prepared = False
                pause = min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            else:
                if self.problem is not None:
                    log.info("Searches and clicks are stored again")
                self.problem = None
                pause = 0.0 if full else self._every

    def _ship(self) -> bool:
        """Store one batch. Returns whether it was a full one: then more may wait."""
        entries = self._outbox.first(BATCH)
        if entries:
            if not self._prepared:
                self._store.prepare()
                self._prepared = True
            self._store_all(entries)
        return len(entries) == BATCH

    def _store_all(self, entries: Sequence[OutboxEntry]) -> None:
        """Store a batch in one transaction; where it is refused, its halves, until a bad row is alone and set aside."""
        try:
            rows = [KINDS[entry.kind].model_validate_json(entry.content) for entry in entries]
            self._store.add(
                [row for row in rows if isinstance(row, UbiQuery)], [row for row in rows if isinstance(row, UbiEvent)]
            )
        except Exception as error:
            if not _refused(error):
                raise
            if len(entries) == 1:
                log.warning("Set aside a %s: %s", entries[0].kind, type(error).__name__)
                self._outbox.set_aside(entries[0], f"{type(error).__name__}: {error}")
            else:
                middle = len(entries) // 2
                self._store_all(entries[:middle])
                self._store_all(entries[middle:])
            return
        self._outbox.remove(entries)
        self.stored += len(entries)


def _refused(error: Exception) -> bool:
    """Whether the rows are at fault, and would be again. psycopg2 raises ValueError for a text that holds a NUL."""
    if isinstance(error, psycopg2.Error):
        return str(error.pgcode or "")[:2] in _REFUSED
    return isinstance(error, ValueError | KeyError)
