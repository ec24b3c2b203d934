"""What waits on disk for the database: a small SQLite file, written before an answer is sent.

Knows neither Postgres nor HTTP, nor what its entries mean. The process may be killed at any moment: everything for
which `put` has returned is there at the next start. The operating system writes commits to the disk: a machine that
loses its power may lose the last second, and the file stays sound.

sqlite3 and no queue library: persist-queue pickles by default and acknowledges entries one by one, while a batch here
is one transaction.
"""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
-- AUTOINCREMENT: a number is never used again, so removing an entry twice never takes another with it.
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, content TEXT NOT NULL, since REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting_since ON waiting (since);
CREATE TABLE IF NOT EXISTS set_aside (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, content TEXT NOT NULL, since REAL NOT NULL, reason TEXT NOT NULL
);
"""


class OutboxEntry(NamedTuple):
    """Something that waits. Numbers grow in the order of arrival."""

    number: int
    kind: str
    content: str


class Levels(NamedTuple):
    """How much is in the outbox."""

    waiting: int
    set_aside: int
    seconds_behind: float
    """The age of the oldest that waits; 0 where nothing does."""


class Outbox:
    """The outbox in the file at `path`. Safe to use from many threads, and by several processes at once.

    Every method raises sqlite3.Error or OSError when the disk is full, or the file cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def put(self, entries: Iterable[tuple[str, str]]) -> None:
        """Keep all of these (kind, content), or none."""
        now = time.time()
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO waiting (kind, content, since) VALUES (?, ?, ?)", [(*entry, now) for entry in entries]
            )

    def first(self, count: int) -> list[OutboxEntry]:
        """The `count` oldest that wait."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT number, kind, content FROM waiting ORDER BY number LIMIT ?", (count,))
            return [OutboxEntry(*row) for row in rows]

    def remove(self, entries: Sequence[OutboxEntry]) -> None:
        """Forget entries: they are stored elsewhere."""
        with self._transaction() as connection:
            _delete(connection, entries)

    def set_aside(self, entry: OutboxEntry, reason: str) -> None:
        """Keep an entry apart, with the reason why it cannot be stored."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO set_aside SELECT number, kind, content, since, ? FROM waiting WHERE number = ?",
                (reason, entry.number),
            )
            _delete(connection, [entry])

    def levels(self) -> Levels:
        """How much waits, how much was set aside, and since when the oldest waits.

        This uses a connection of its own, which waits for no writer: the event loop calls it.
        """
        with closing(self._open()) as connection:
            waiting, since = connection.execute("SELECT count(*), min(since) FROM waiting").fetchone()
            (set_aside,) = connection.execute("SELECT count(*) FROM set_aside").fetchone()
        return Levels(waiting, set_aside, 0.0 if since is None else max(time.time() - since, 0.0))

    def close(self) -> None:
        """Let go of the file. The next use opens it again."""
        with self._lock:
            self._let_go()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                with self._connection:
                    yield self._connection
            except (sqlite3.Error, OSError):
                # The connection may be useless now (its file was removed, its disk was full): the next call opens anew.
                self._let_go()
                raise

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(self.path, check_same_thread=False)
        try:
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _let_go(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _delete(connection: sqlite3.Connection, entries: Sequence[OutboxEntry]) -> None:
    connection.executemany("DELETE FROM waiting WHERE number = ?", [(entry.number,) for entry in entries])
