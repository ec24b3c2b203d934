"""A small corpus, and a home of its own for every test."""

from pathlib import Path

import polars as pl
import pytest

from shared_ops.data.snapshots import SnapshotRef, Snapshots
from tests import corpus


@pytest.fixture(autouse=True)
def _own_home(home: Path) -> None:
    """No test here reads or writes another one's state."""


@pytest.fixture
def content() -> dict[str, pl.DataFrame]:
    return corpus.content()


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots((tmp_path / "snapshots").as_uri())


@pytest.fixture
def snapshot(snapshots: Snapshots, content: dict[str, pl.DataFrame]) -> SnapshotRef:
    return snapshots.publish(content)
