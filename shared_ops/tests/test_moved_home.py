"""A home that was moved, or restored elsewhere, is still whole: its references are relative to it."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from shared_ops.data.feedback import FeedbackManifest, FeedbackRef
from shared_ops.data.snapshots import SnapshotRef, load
from shared_ops.data.tables import empty
from shared_ops.pipeline.references import Candidate
from shared_ops.pipeline.resources import PROD
from shared_ops.release import inputs
from shared_ops.release.inputs import Inputs
from shared_ops.release.releases import ReleaseManifest
from shared_ops.settings import families


@pytest.fixture
def filled(home: Path, content: dict[str, pl.DataFrame]) -> Candidate:
    """A home with a snapshot, feedback, an accepted release and a live set; returns a candidate of one of its runs."""
    snapshot = PROD.snapshots.publish(content)
    PROD.snapshots.point_to(snapshot)
    feedback_manifest = FeedbackManifest(
        applications={}, left_out={}, propensities=[1.0], held_back_sessions=0, oldest=None, newest=None, watermark=7
    )
    feedback = PROD.feedback.publish(
        {name: empty(name) for name in ("clicks", "judged", "asked", "newest", "requests")}, feedback_manifest
    )
    PROD.feedback.point_to(feedback, feedback_manifest.watermark)
    candidate = home.parent / "candidate"
    candidate.mkdir()
    (candidate / "model.json").write_text("{}")
    manifest = ReleaseManifest(
        family="behavior", version="v1", created_at=datetime.now(UTC), snapshot=snapshot, feedback=feedback,
        parameters={}, hyperparameters={}, metrics={}, gate={"accepted": True, "reasons": []}, environment="e",
        code_version="c", deployment="prod", run_id="r",
    )  # fmt: skip
    PROD.staging.accept(PROD.staging.publish(candidate, manifest))
    sets = PROD.live_sets
    sets.go_live(sets.propose(dict.fromkeys(families(), "v1"), snapshot, "first"))
    data = inputs.find("behavior", PROD.snapshots, PROD.feedback.latest(), PROD.staging)
    url = PROD.staging.candidate_url("behavior", "run")
    return Candidate(
        inputs=data, key="k", code="c", code_version="v", environment="e", url=url, parameters={}, hyperparameters={}
    )


@pytest.fixture
def moved(home: Path, filled: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Moves the home; returns its new place."""

    def move() -> Path:
        target = tmp_path / "elsewhere" / "home"
        target.parent.mkdir()
        home.rename(target)
        monkeypatch.setenv("SEARCHLOOP_HOME", str(target))
        return target

    return move


def holds_together(place: Path) -> bool:
    """Whether everything that refers to something finds it in this home."""
    live, latest = PROD.live_sets.live(), PROD.snapshots.latest()
    manifest = PROD.staging.manifest("behavior", PROD.staging.accepted("behavior"))
    assert live.snapshot == latest == manifest.snapshot == PROD.live_sets.past(1).snapshot
    assert latest.url.startswith(f"file://{place}/") and len(load(latest).documents())
    assert manifest.feedback == PROD.feedback.latest() and PROD.feedback.watermark() == 7
    data = inputs.find("behavior", PROD.snapshots, PROD.feedback.latest(), PROD.staging)
    assert not len(data.clicked().clicks())
    assert inputs.result_of(data, PROD.staging).version == "v1"
    return True


def test_what_a_moved_home_refers_to_is_found_in_it(moved: Callable[[], Path]) -> None:
    assert holds_together(moved())


def test_nothing_in_a_home_names_its_place(home: Path, filled: Candidate) -> None:
    written = [path for path in home.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert [path for path in written if str(home).encode() in path.read_bytes()] == []


def test_a_run_that_goes_on_in_a_moved_home_finds_what_its_steps_handed_on(
    moved: Callable[[], Path], filled: Candidate
) -> None:
    handed_on = filled.model_dump_json()
    place = moved()
    again = Candidate.model_validate_json(handed_on)
    assert again.url == f"file://{place}/staging/prod/behavior/candidates/run"
    assert again.inputs.staging == f"file://{place}/staging/prod" and len(load(again.inputs.snapshot).documents())


def absolute(home: Path) -> None:
    """Rewrite every reference as older homes hold it: as an absolute URL."""
    for path in home.rglob("*.json"):
        path.write_text(path.read_text().replace('"home:', f'"file://{home}/'))
    assert str(home) in json.loads((home / "staging" / "prod" / "live.json").read_text())["snapshot"]["url"]


def test_an_old_home_with_absolute_references_is_read(home: Path, filled: Candidate) -> None:
    absolute(home)
    assert holds_together(home)


def test_an_old_home_that_was_moved_is_read(home: Path, moved: Callable[[], Path]) -> None:
    absolute(home)
    assert holds_together(moved())


def test_a_copy_of_an_old_home_reads_its_own_files(
    home: Path, filled: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute(home)
    shutil.copytree(home, tmp_path / "copy")
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "copy"))
    assert holds_together(tmp_path / "copy")


@pytest.mark.parametrize("url", ["s3://bucket/snapshots/prod/a", "file:///data/snapshots/prod/a", "memory://prod/a"])
def test_what_lies_outside_the_home_keeps_its_address(url: str) -> None:
    for kind in (SnapshotRef, FeedbackRef):
        ref = kind(id="a", url=url)
        assert ref.url == ref.model_dump()["url"] == kind.model_validate_json(ref.model_dump_json()).url == url


def test_a_root_that_somebody_chose_is_where_they_say(
    home: Path, filled: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the home holds a folder of the same name."""
    chosen = f"file://{tmp_path}/data/staging"
    monkeypatch.setenv("SEARCHLOOP_STAGING", chosen)
    assert (
        Inputs(family="ranker", snapshot=filled.inputs.snapshot, staging=f"{chosen}/prod").staging == f"{chosen}/prod"
    )
