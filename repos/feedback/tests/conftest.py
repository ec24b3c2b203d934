"""A stack's database of searches and clicks, empty at first."""

from pathlib import Path

import psycopg2
import pytest

from shared_ops.data.ubi import Store


@pytest.fixture
def store(postgres: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The stack's searches and clicks, none so far."""
    monkeypatch.setenv("SEARCHLOOP_POSTGRES_URL", postgres)
    with psycopg2.connect(postgres.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS ubi_queries, ubi_events")
    connection.close()
    events = Store(postgres)
    events.prepare()
    return events
