"""A small corpus of real sentences, and a place of its own for every test's state."""

from pathlib import Path

import polars as pl
import pytest

from shared_ops.data.snapshots import SnapshotRef, Snapshots
from tests import corpus


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, so that no test touches a person's stack."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    for name in ("STAGING", "SNAPSHOTS", "SOURCES", "POSTGRES_URL"):
        monkeypatch.delenv(f"SEARCHLOOP_{name}", raising=False)
    return tmp_path / "home"


@pytest.fixture
def content() -> dict[str, pl.DataFrame]:
    return corpus.content()


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots((tmp_path / "snapshots").as_uri())


@pytest.fixture
def snapshot(snapshots: Snapshots, content: dict[str, pl.DataFrame]) -> SnapshotRef:
    return snapshots.publish(content)
