"""Searches and clicks in Postgres, in the User Behavior Insights schema: `ubi_queries` and `ubi_events`.

Knows no Dagster, no model and no page. Field names and types are those of UBI 1.3.0 (the OpenSearch project's
specification); `event_id` and `stored_in` are ours. No address, user agent or user id has a place here: `client_id`
and `session_id` are random ids of a session.

What `query_attributes` of a search holds is `QueryAttributes`; a click's `event_attributes` is `EventAttributes`.
"""

import select
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from shared_ops.data.tables import MAX_ID_CHARACTERS

SIMULATION = "simulation"
"""The application that marks made-up searches and clicks."""
SIMULATED = "SIMULATED: nobody searched or clicked any of this"
"""The label that they bear wherever they are shown."""
CLICK = "click"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ubi_queries (
    application text NOT NULL,
    query_id text PRIMARY KEY,
    client_id text NOT NULL,
    user_query text NOT NULL,
    "timestamp" timestamptz NOT NULL,
    object_id_field text NOT NULL,
    query_response_id text NOT NULL,
    query_response_hit_ids text[] NOT NULL,
    query_attributes jsonb NOT NULL,
    stored_in xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE TABLE IF NOT EXISTS ubi_events (
    application text NOT NULL,
    event_id text PRIMARY KEY,
    action_name text NOT NULL,
    query_id text NOT NULL,
    session_id text NOT NULL,
    client_id text NOT NULL,
    "timestamp" timestamptz NOT NULL,
    message_type text,
    message text,
    event_attributes jsonb NOT NULL,
    stored_in xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX IF NOT EXISTS ubi_queries_stored_in ON ubi_queries (stored_in);
CREATE INDEX IF NOT EXISTS ubi_events_stored_in ON ubi_events (stored_in);
CREATE INDEX IF NOT EXISTS ubi_queries_timestamp ON ubi_queries ("timestamp");
CREATE INDEX IF NOT EXISTS ubi_events_timestamp ON ubi_events ("timestamp");
"""
_SCHEMA_LOCK = 7_700_001
"""The number of the advisory lock under which the tables are made: two processes that did it at once would collide."""


class LoggedFeatures(BaseModel):
    """The features of the documents shown, from which the ranker ordered them."""

    model_config = ConfigDict(frozen=True)

    release: str = Field(description="the ranker's version: it says what the columns are")
    values: list[list[float | None]] = Field(
        description="[documents shown, features] as served; None stands for NaN, what was not known"
    )


class LoggedHits(BaseModel):
    """One family's hits as the ranker received them, best first."""

    model_config = ConfigDict(frozen=True)

    doc_ids: list[str]
    scores: list[float]


class LoggedSet(BaseModel):
    """The live set that answered."""

    model_config = ConfigDict(frozen=True)

    number: int
    releases: dict[str, str]
    snapshot: str


class QueryAttributes(BaseModel):
    """What this app adds to a search."""

    model_config = ConfigDict(frozen=True)

    live_set: LoggedSet
    ranking: str = Field(description="who ordered the hits: ranker or rrf")
    degraded: list[str] = Field(default=[], description="families that had no part in the answer")
    features: LoggedFeatures | None = Field(
        default=None, description="None where the ranker had no part, and, as the hits, of searches beyond the sample"
    )
    hits: dict[str, LoggedHits] | None = Field(
        default=None, description="family to its hits, from which the features can be computed again"
    )


class ClickedObject(BaseModel):
    """The document that was clicked."""

    model_config = ConfigDict(frozen=True)

    object_id: str = Field(min_length=1, max_length=MAX_ID_CHARACTERS)
    object_id_field: str = "doc_id"


class Position(BaseModel):
    """Where on the page the clicked document stood, 1 for the first."""

    model_config = ConfigDict(frozen=True)

    ordinal: int = Field(ge=1, le=1000)


class EventAttributes(BaseModel):
    """The document that was clicked, and its position."""

    model_config = ConfigDict(frozen=True)

    object: ClickedObject
    position: Position


class UbiQuery(BaseModel):
    """One search and what it showed: the impressions, in the order of their positions."""

    model_config = ConfigDict(frozen=True)

    application: str = Field(max_length=100)
    query_id: str = Field(max_length=100)
    client_id: str = Field(max_length=100)
    user_query: str
    timestamp: datetime
    object_id_field: str = "doc_id"
    query_response_id: str
    query_response_hit_ids: list[str]
    query_attributes: QueryAttributes


class UbiEvent(BaseModel):
    """One thing that somebody did with a search's answer."""

    model_config = ConfigDict(frozen=True)

    application: str = Field(max_length=100)
    event_id: str = Field(max_length=100)
    action_name: str = Field(max_length=100)
    query_id: str = Field(max_length=100)
    session_id: str = Field(max_length=100)
    client_id: str = Field(max_length=100)
    timestamp: datetime
    message_type: str | None = Field(default=None, max_length=100)
    message: str | None = Field(default=None, max_length=1024)
    event_attributes: EventAttributes


class Outline(NamedTuple):
    """A search without what it showed: light enough to read by the thousand."""

    session: str
    text: str
    shown: int
    """How many results stood on the page."""
    clicked: tuple[int, ...]
    """The positions of the clicked results, 1 for the first."""


class Window(NamedTuple):
    """The rows that were stored by the transactions from `after` on and before `before`.

    Every transaction below `before` has ended, so a window that was read once never gains a row, whoever writes at the
    same time and however late an event arrives.
    """

    after: int
    before: int


CONNECT: dict[str, Any] = {
    "connect_timeout": 3,
    # A server that has gone silent is given up after some seconds (over TCP only; the names are libpq's).
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
KEPT_SECONDS = 30
"""How long an idle connection is kept: the network in between may drop one that is idle for minutes."""


def has_ended(connection: Any, since: float) -> bool:
    """Whether an idle connection must not be used again: Postgres closed it, or it was idle for KEPT_SECONDS.

    Sends nothing to Postgres: whatever arrives on a connection that waits for no answer is its end.

    Args:
        connection: a connection of psycopg2's.
        since: when it became idle, by time.monotonic().
    """
    if connection.closed or time.monotonic() - since > KEPT_SECONDS:
        return True
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return bool(poller.poll(0))


class Store:
    """Searches and clicks in the database at a SQLAlchemy or libpq URL, to which one idle connection is kept."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+psycopg2", "", 1)
        self._idle = deque[tuple[Any, float]]()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        connection = self._connection()
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        except BaseException:  # whatever it was: the state of the connection is not known
            connection.close()
            raise
        if self._idle:
            connection.close()
        else:
            self._idle.append((connection, time.monotonic()))

    def _connection(self) -> Any:
        import psycopg2

        with suppress(IndexError):
            while True:
                connection, since = self._idle.pop()
                if not has_ended(connection, since):
                    return connection
                connection.close()
        return psycopg2.connect(self._url, **CONNECT)

    def prepared(self) -> bool:
        """Whether the tables exist: they are made when the first search is stored.

        Raises:
            psycopg2.Error: when the database cannot be reached or refuses.
        """
        with self._transaction() as cursor:
            cursor.execute("SELECT count(to_regclass(name)) FROM unnest(ARRAY['ubi_queries', 'ubi_events']) AS name")
            return bool(cursor.fetchone()[0] == 2)

    def prepare(self) -> None:
        """Make the tables where they are missing.

        Raises:
            psycopg2.Error: when the database cannot be reached or refuses.
        """
        with self._transaction() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            cursor.execute(_SCHEMA)

    def add(self, queries: Sequence[UbiQuery], events: Sequence[UbiEvent]) -> None:
        """Store all of these rows or none. A row whose id is stored already stays as it is: repeating this is harmless.

        Raises:
            psycopg2.Error: when the database cannot be reached or refuses.
        """
        from psycopg2.extras import execute_values

        with self._transaction() as cursor:
            for table, rows in (("ubi_queries", queries), ("ubi_events", events)):
                if rows:
                    columns = list(type(rows[0]).model_fields)
                    quoted = ", ".join(f'"{column}"' for column in columns)
                    statement = f"INSERT INTO {table} ({quoted}) VALUES %s ON CONFLICT DO NOTHING"
                    execute_values(cursor, statement, [_values(row, columns) for row in rows])

    def window(self, after: int) -> Window:
        """The window from `after` (0: everything) up to now."""
        with self._transaction() as cursor:
            cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
            return Window(after, int(cursor.fetchone()[0]))

    def clicks(self, window: Window) -> int:
        """The number of clicks in a window that can be learned from: those on a document that their search showed."""
        with self._transaction() as cursor:
            cursor.execute(
                "SELECT count(*) FROM ubi_events e JOIN ubi_queries q USING (query_id) WHERE action_name = %s AND "
                "event_attributes->'object'->>'object_id' = ANY (query_response_hit_ids) AND "
                "e.stored_in >= %s::text::xid8 AND e.stored_in < %s::text::xid8",
                (CLICK, *window),
            )
            return int(cursor.fetchone()[0])

    def searches(self, window: Window) -> dict[str, int]:
        """The number of searches in a window, by application."""
        with self._transaction() as cursor:
            cursor.execute(
                "SELECT application, count(*) FROM ubi_queries WHERE stored_in >= %s::text::xid8 "
                "AND stored_in < %s::text::xid8 GROUP BY application",
                window,
            )
            return {application: int(count) for application, count in cursor}

    def outlines(self, window: Window, application: str, most: int, within: timedelta) -> list[Outline]:
        """An application's newest searches in a window, `most` at most, in the order of time.

        Only clicks that came `within` this time after their search count, so that an older search has no more time to
        be clicked than a newer one.
        """
        with self._transaction() as cursor:
            cursor.execute(
                "WITH asked AS (SELECT query_id, client_id, user_query, cardinality(query_response_hit_ids) AS shown, "
                '"timestamp" FROM ubi_queries WHERE application = %s AND stored_in >= %s::text::xid8 AND '
                'stored_in < %s::text::xid8 ORDER BY "timestamp" DESC, query_id DESC LIMIT %s) '
                "SELECT a.client_id, user_query, shown, "
                "array_remove(array_agg((event_attributes->'position'->>'ordinal')::int), NULL) "
                "FROM asked a LEFT JOIN ubi_events e ON e.query_id = a.query_id AND action_name = %s AND "
                'stored_in >= %s::text::xid8 AND e."timestamp" <= a."timestamp" + %s '
                'GROUP BY a.query_id, a.client_id, user_query, shown, a."timestamp" ORDER BY a."timestamp", a.query_id',
                (application, *window, most, CLICK, window.after, within),
            )
            return [Outline(session, text, shown, tuple(positions)) for session, text, shown, positions in cursor]

    def queries(self, window: Window) -> list[UbiQuery]:
        """The searches of a window, in the order of time."""
        return list(self.each_query(window))

    def events(self, window: Window) -> list[UbiEvent]:
        """The events of a window, in the order of time."""
        return list(self.each_event(window))

    def each_query(self, window: Window) -> Iterator[UbiQuery]:
        """The searches of a window one by one, in the order of time: the window may be larger than memory."""
        return (UbiQuery.model_validate(row) for row in self._rows("ubi_queries", UbiQuery, window))

    def each_event(self, window: Window) -> Iterator[UbiEvent]:
        """The events of a window one by one, in the order of time: the window may be larger than memory."""
        return (UbiEvent.model_validate(row) for row in self._rows("ubi_events", UbiEvent, window))

    def _rows(self, table: str, kind: type[BaseModel], window: Window) -> Iterator[dict[str, Any]]:
        columns = list(kind.model_fields)
        quoted = ", ".join(f'"{column}"' for column in columns)
        # The cursor has a name, so that the rows stay at the server until they are read.
        with self._transaction() as cursor, cursor.connection.cursor("rows") as rows:
            rows.execute(
                f"SELECT {quoted} FROM {table} WHERE stored_in >= %s::text::xid8 AND stored_in < %s::text::xid8 "
                f'ORDER BY "timestamp", 2',
                window,
            )
            for row in rows:
                yield dict(zip(columns, row, strict=True))

    def forget(self, before: datetime) -> tuple[int, int]:
        """Delete the searches and events older than `before`; returns how many of each."""
        with self._transaction() as cursor:
            cursor.execute('DELETE FROM ubi_queries WHERE "timestamp" < %s', (before,))
            queries = cursor.rowcount
            cursor.execute('DELETE FROM ubi_events WHERE "timestamp" < %s', (before,))
            return queries, cursor.rowcount


def _values(row: BaseModel, columns: Sequence[str]) -> list[Any]:
    from psycopg2.extras import Json

    values = (getattr(row, column) for column in columns)
    return [Json(value.model_dump(mode="json")) if isinstance(value, BaseModel) else value for value in values]
