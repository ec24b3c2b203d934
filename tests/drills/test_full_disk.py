"""The disk of the staging area fills up during a publish: what is accepted and live stays, nothing half is visible."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.training import FORCE
from shared_ops.data import storage
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.settings import families
from tests.conftest import Stack
from tests.drills.conftest import finish

pytestmark = pytest.mark.slow

SNAPSHOT = SnapshotRef(id="0" * 16, url="file:///nowhere")
FILES = {"weights.safetensors": 300_000, "hits/test.parquet": 60_000, "terms.json": 9_000}
LEVELS = 24
"""How many times the disk fills up, each time a little later in the writing."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size in `folder`; skips where this process may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "searchloop-drill", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("There is no mount here: a small disk cannot be made.")
    if done.returncode != 0:
        pytest.skip(f"A small disk takes root's rights to mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=2) as folder:
        yield folder


def fill(disk: Path, leave: int = 0) -> Path:
    """Fill a disk but for so many bytes; returns the file that does."""
    filler = disk / ".filler"
    filler.write_bytes(bytes(free(disk) - leave))
    return filler


def free(disk: Path) -> int:
    """Bytes that are free."""
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def release(folder: Path, version: str, fill_with: int) -> tuple[Path, ReleaseManifest]:
    """A folder of weights, and what it is."""
    for name, size in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes([fill_with]) * size)
    return folder, ReleaseManifest(
        family="keyword",
        version=version,
        created_at=datetime.now(UTC),
        snapshot=SNAPSHOT,
        parameters={},
        hyperparameters={},
        metrics={"all": {"nDCG@10": 0.5}},
        gate={"accepted": True},
        environment="0",
        code_version="0",
        deployment="prod",
        run_id="drill",
    )


def live_set(number: int, version: str) -> LiveSet:
    releases = dict.fromkeys(families(), version)
    return LiveSet(number=number, releases=releases, snapshot=SNAPSHOT, created_at=datetime.now(UTC))


def names(disk: Path) -> set[str]:
    return {path.relative_to(disk).as_posix() for path in disk.rglob("*") if path.is_file()}


def test_a_publish_on_a_full_disk_leaves_what_was_and_goes_through_once_there_is_space(
    disk: Path, tmp_path: Path, say: Callable[[str], None]
) -> None:
    staging, sets = Staging(f"file://{disk}/prod"), LiveSets(f"file://{disk}/prod")
    empty = free(disk)
    staging.accept(staging.publish(*release(tmp_path / "one", "1", 1)))
    takes = empty - free(disk)
    sets.go_live(live_set(1, "1"))
    before, live, after = names(disk), sets.live(), live_set(2, "2")
    second = release(tmp_path / "two", "2", 2)
    for level in range(LEVELS):
        filler = fill(disk, leave=takes * level // LEVELS)
        with pytest.raises(OSError, match="No space left on device"):
            staging.publish(*second)
        filler.unlink()
        assert names(disk) == before
        assert staging.versions("keyword") == ["1"] and staging.accepted("keyword") == "1"
        staging.fetch("keyword", "1")
    manifest = staging.publish(*second)
    pointers_on_a_full_disk(disk, staging, sets, manifest, after)
    staging.accept(manifest)
    sets.go_live(after, instead_of=live)
    assert staging.accepted("keyword") == "2" and sets.live() == after
    staging.fetch("keyword", "2")
    say(f"full disk: {LEVELS} publishes stopped at different moments, what was live stayed, then one went through")


def pointers_on_a_full_disk(
    disk: Path, staging: Staging, sets: LiveSets, manifest: ReleaseManifest, after: LiveSet
) -> None:
    before, live = names(disk), sets.live()
    filler = fill(disk)
    moves: list[Callable[[], object]] = [
        lambda: staging.accept(manifest),
        lambda: sets.go_live(after, instead_of=live),
        lambda: sets.propose(live.releases, SNAPSHOT, "drill"),
    ]
    for move in moves:
        with pytest.raises(OSError) as raised:
            move()
        assert raised.value.errno == errno.ENOSPC
    assert staging.accepted("keyword") == "1" and sets.live() == live
    filler.unlink()
    assert names(disk) - {"prod/.live.lock"} == before - {"prod/.live.lock"}


def test_a_training_that_finds_no_space_fails_by_name_and_what_is_live_answers_on(
    stack: Stack, dagit: Dagit, staging: Staging, sets: LiveSets, queries: list[str], tmp_path: Path
) -> None:
    dagit.settle()
    live, accepted, versions = sets.live(), staging.accepted("keyword"), staging.versions("keyword")
    folder = storage.local_path(storage.join(staging.url, "keyword"))
    shutil.copytree(folder, tmp_path / "kept")
    with small_disk(folder, megabytes=64):
        shutil.copytree(tmp_path / "kept", folder, dirs_exist_ok=True)
        fill(folder, leave=100_000)
        run = dagit.launch("keyword", "keyword_prod", FORCE)
        assert finish(dagit, run) == "FAILURE"
        errors = [event.error for event in dagit.run(run).events if event.error]
        assert any("No space left on device" in error for error in errors), errors
        assert staging.accepted("keyword") == accepted and staging.versions("keyword") == versions
        staging.fetch("keyword", accepted)
        assert sets.live() == live
        answer = stack.search(queries[0])
        assert answer["live_set"]["number"] == live.number and answer["degraded"] == []
    assert finish(dagit, dagit.launch("keyword", "keyword_prod", FORCE)) == "SUCCESS"
    assert staging.accepted("keyword") not in versions
