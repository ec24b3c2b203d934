"""A small corpus, and a place of its own for every test's state."""

import polars as pl
import pytest

from shared_ops.data import tables
from shared_ops.data.snapshots import SnapshotRef, Snapshots

NAMES = ("mean", "median", "std", "linalg.norm", "sort", "argsort", "unique", "cumsum")
QUERIES = [
    ("q1", "sorted copy", "train", "numpy.sort"),
    ("q3", "standard deviation", "dev", "numpy.std"),
    ("q4", "median along an axis", "test", "numpy.median"),
    ("q5", "indices that sort", "test", "numpy.argsort"),
    ("q6", "norm of a vector", "test", "numpy.linalg.norm"),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of the test's own: nothing of it touches a stack of a person."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    for name in ("STAGING", "SNAPSHOTS", "SOURCES", "POSTGRES_URL"):
        monkeypatch.delenv(f"SEARCHLOOP_{name}", raising=False)
    return tmp_path / "home"


@pytest.fixture
def content() -> dict[str, pl.DataFrame]:
    documents = [
        {
            "doc_id": f"numpy.{name}",
            "source": "numpy",
            "title": name,
            "text": f"About {name}.",
            "url": None,
            "metadata": "{}",
        }
        for name in NAMES
    ]
    asked = [{"query_id": each, "text": text, "split": split, "source": "numpy"} for each, text, split, _ in QUERIES]
    judged = [{"query_id": query_id, "doc_id": doc_id, "grade": 1} for query_id, _, _, doc_id in QUERIES]
    return {
        "documents": tables.make("documents", documents),
        "queries": tables.make("queries", asked),
        "qrels": tables.make("qrels", judged),
        "slices": tables.make("slices", [{"query_id": "q4", "slice": "verbatim"}]),
    }


@pytest.fixture
def snapshots(tmp_path) -> Snapshots:
    return Snapshots((tmp_path / "snapshots").as_uri())


@pytest.fixture
def snapshot(snapshots, content) -> SnapshotRef:
    return snapshots.publish(content)
