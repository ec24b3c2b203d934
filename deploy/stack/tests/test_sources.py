"""Sources are looked at before anything starts, in the corpus' own environment; what comes too late is told."""

import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.stack import sources
from deploy.stack.__main__ import commands
from deploy.stack.processes.lifecycle import StackError
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release.livesets import LiveSets
from shared_ops.settings import Settings

SEVERAL = """
sources:
  - {kind: table, name: faq, documents: {path: nowhere.csv}}
  - {kind: beir, name: folder, path: nowhere}
  - {kind: sql, name: shop, url: "postgresql+psycopg2://reader:s3cret@127.0.0.1:1/shop", documents: {query: SELECT 1}}
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a home of the test's own, its sources file not written yet."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEARCHLOOP_SOURCES", str(tmp_path / "sources.yaml"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return Settings()


def test_up_starts_nothing_on_sources_that_cannot_be_read_and_says_all_that_is_wrong(settings: Settings) -> None:
    missing = CliRunner().invoke(commands, ["up"])
    assert "There is no sources file at" in str(missing.exception) and "SEARCHLOOP_SOURCES" in str(missing.exception)
    settings.sources.write_text(SEVERAL)
    broken = CliRunner().invoke(commands, ["up"])
    assert isinstance(broken.exception, StackError)
    said = str(broken.exception).splitlines()[1:]
    assert [line.partition(":")[0] for line in said] == [
        "- Source 'faq'",
        *["- Source 'folder'"] * sum("'folder'" in line for line in said),
        "- Source 'shop'",
    ]
    assert "nowhere.csv is not there" in said[0] and "cannot be read" in said[-1] and "s3cret" not in said[-1]
    assert not (settings.home / "supervisor").exists() and not (settings.home / "logs").exists()


def test_where_a_set_is_live_it_is_said_and_search_goes_on(settings: Settings) -> None:
    sets = LiveSets(settings.staging_url("prod"))
    sets.go_live(sets.propose({"ranker": "v1"}, SnapshotRef(id="s", url="file:///s"), note="a test's"))
    told: list[str] = []
    sources.check(settings, told.append)
    (line,) = told
    assert "There is no sources file" in line and line.endswith("What is live stays as it is.")


def test_a_look_that_takes_too_long_is_given_up_with_a_word_and_stops_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.sources.write_text(SEVERAL)
    monkeypatch.setattr(sources, "SECONDS", 0.01)
    told: list[str] = []
    sources.check(settings, told.append)
    assert told == ["sources: the look at them was given up after 0.01 s; the build will say what is wrong with them."]
