"""Copies of releases go once nobody is about to load them, and come back where they are asked for."""

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release import copies
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.release.runtimes import KEPT_SECONDS
from shared_ops.settings import Settings

SNAPSHOT = SnapshotRef(id="s", url="file:///s")
VERSIONS = ("taken back", "before", "live", "proposed", "accepted", "idle", "new")


@pytest.fixture
def staging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Staging:
    """An object store with releases of keyword, all copied here; the new one a moment ago, the others before a day."""
    monkeypatch.setenv("SEARCHLOOP_STAGING", f"memory://{tmp_path.name}")
    made = Staging(Settings().staging_url("prod"))
    (folder := tmp_path / "release").mkdir()
    for version in VERSIONS:
        manifest = ReleaseManifest(
            family="keyword", version=version, created_at=datetime.now(UTC), snapshot=SNAPSHOT, parameters={},
            hyperparameters={}, metrics={}, gate={"accepted": True}, environment="", code_version="",
            deployment="prod", run_id="r",
        )  # fmt: skip
        made.publish(folder, manifest)
        copy, long_ago = made.fetch("keyword", version), time.time() - KEPT_SECONDS - 60
        if version != "new":
            os.utime(copy, (long_ago, long_ago))
    return made


@pytest.fixture
def sets(staging: Staging) -> LiveSets:
    made = LiveSets(staging.url)
    for version in ("before", "live", "taken back"):
        made.go_live(made.propose({"keyword": version}, SNAPSHOT, ""))
    made.go_live(made.past(2), goes_back=True)
    made.propose({"keyword": "proposed"}, SNAPSHOT, "")
    staging.accept(staging.manifest("keyword", "accepted"))
    return made


def there(staging: Staging) -> list[str]:
    return [version for version in VERSIONS if staging.copy_of("keyword", version).exists()]


def test_what_is_live_was_before_is_proposed_or_accepted_stays_and_what_was_just_copied(
    staging: Staging, sets: LiveSets
) -> None:
    assert len(copies.tidy()) == 2
    assert there(staging) == ["before", "live", "proposed", "accepted", "new"]


def test_a_copy_that_is_gone_is_made_again(staging: Staging, sets: LiveSets) -> None:
    copies.tidy()
    assert staging.fetch("keyword", "idle") == staging.copy_of("keyword", "idle")


def test_a_copy_that_was_only_half_removed_bears_no_release_s_name(
    staging: Staging, sets: LiveSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda _: None)  # as when it is killed there
    copies.tidy()
    assert "idle" not in there(staging)


def test_a_home_without_copies_has_none_to_remove() -> None:
    assert copies.tidy() == []
