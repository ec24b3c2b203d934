"""A release is published whole or not at all, and is not loaded when a byte of it changed."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared_ops.data import storage
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release.codes import code_version
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import MANIFEST, ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import Settings


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging((tmp_path / "staging").as_uri())


def manifest(version: str = "v1", family: str = "keyword", accepted: bool = True) -> ReleaseManifest:
    return ReleaseManifest(
        family=family,
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        snapshot=SnapshotRef(id="s", url="file:///s"),
        parameters={"seed": 0},
        hyperparameters={"k1": 1.2},
        metrics={"all": {"nDCG@10": 0.5}},
        gate={"accepted": accepted, "reasons": []},
        environment="e",
        code_version="c",
        deployment="dev",
        run_id="r",
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "candidate"
    (folder / "hits").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"numbers" * 100)
    (folder / "hits" / "test.parquet").write_bytes(b"rows")
    return folder


def test_what_was_published_is_fetched(staging: Staging, weights: Path) -> None:
    published = staging.publish(weights, manifest())
    assert {entry.path for entry in published.files} == {"weights.safetensors", "hits/test.parquet"}
    assert (staging.fetch("keyword", "v1") / "weights.safetensors").read_bytes() == b"numbers" * 100


def test_one_changed_byte_is_refused_by_name(staging: Staging, weights: Path) -> None:
    staging.publish(weights, manifest())
    path = storage.local_path(staging.release_url("keyword", "v1")) / "weights.safetensors"
    changed = bytearray(path.read_bytes())
    changed[10] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ReleaseError, match=r"keyword/v1: the file weights\.safetensors"):
        staging.fetch("keyword", "v1")


def test_a_missing_file_is_refused_by_name(staging: Staging, weights: Path) -> None:
    staging.publish(weights, manifest())
    (storage.local_path(staging.release_url("keyword", "v1")) / "hits" / "test.parquet").unlink()
    with pytest.raises(ReleaseError, match=r"lacks the file hits/test\.parquet"):
        staging.fetch("keyword", "v1")


@pytest.mark.parametrize("stranger", ["index.faiss", "hits/train.parquet", ".hidden", "parts/manifest.json"])
def test_a_file_that_the_manifest_does_not_name_is_refused_by_name(
    staging: Staging, weights: Path, stranger: str
) -> None:
    staging.publish(weights, manifest())
    path = storage.local_path(staging.release_url("keyword", "v1")) / stranger
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"not of this release")
    with pytest.raises(ReleaseError, match=f"keyword/v1 holds files that its manifest does not name: {stranger}"):
        staging.fetch("keyword", "v1")
    path.unlink()
    assert staging.fetch("keyword", "v1")


def test_a_link_that_the_manifest_does_not_name_is_refused_too(staging: Staging, weights: Path, tmp_path: Path) -> None:
    staging.publish(weights, manifest())
    (storage.local_path(staging.release_url("keyword", "v1")) / "more").symlink_to(tmp_path)
    with pytest.raises(ReleaseError, match="does not name: more"):
        staging.fetch("keyword", "v1")


def test_a_file_of_a_model_may_be_called_as_the_manifest_is(staging: Staging, weights: Path) -> None:
    (weights / "hits" / MANIFEST).write_text("{}")
    staging.publish(weights, manifest())
    assert (staging.fetch("keyword", "v1") / "hits" / MANIFEST).read_text() == "{}"


def test_a_newer_manifest_is_refused(staging: Staging, weights: Path) -> None:
    staging.publish(weights, manifest())
    path = storage.local_path(staging.release_url("keyword", "v1")) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(ReleaseError, match="format 99, this code reads up to 1"):
        staging.fetch("keyword", "v1")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format_version": 1}', b"\xff\xfe"])
def test_a_broken_manifest_is_a_clear_error(staging: Staging, weights: Path, content: bytes) -> None:
    staging.publish(weights, manifest())
    (storage.local_path(staging.release_url("keyword", "v1")) / MANIFEST).write_bytes(content)
    with pytest.raises(ReleaseError, match="cannot be read"):
        staging.manifest("keyword", "v1")


def test_a_folder_without_manifest_is_no_release(staging: Staging, weights: Path) -> None:
    staging.publish(weights, manifest())
    (storage.local_path(staging.url) / "keyword" / "releases" / "v2").mkdir()
    assert staging.versions("keyword") == ["v1"]
    with pytest.raises(ReleaseError, match=r"v2 is not in .* Published: keyword/v1"):
        staging.fetch("keyword", "v2")


def test_publishing_again_changes_nothing(staging: Staging, weights: Path) -> None:
    first = staging.publish(weights, manifest())
    (weights / "weights.safetensors").unlink()
    (weights / "weights.safetensors").write_bytes(b"other")
    assert staging.publish(weights, manifest()) == first
    assert (staging.fetch("keyword", "v1") / "weights.safetensors").read_bytes() == b"numbers" * 100


def test_accepted_moves_only_when_told(staging: Staging, weights: Path) -> None:
    published = staging.publish(weights, manifest())
    assert staging.accepted("keyword") is None
    staging.accept(published)
    assert staging.accepted("keyword") == "v1"


def test_an_object_store_is_fetched_into_the_cache_and_verified(weights: Path, home: Path) -> None:
    staging = Staging("memory://staging")
    staging.publish(weights, manifest())
    folder = staging.fetch("keyword", "v1")
    assert folder.is_relative_to(home)
    (folder / "weights.safetensors").write_bytes(b"changed")
    with pytest.raises(ReleaseError, match=r"weights\.safetensors"):
        staging.fetch("keyword", "v1")


def test_code_versions_differ_between_families() -> None:
    assert code_version("keyword") != code_version("behavior")
    assert code_version("keyword") == code_version("keyword")


def test_a_set_moves_as_one_and_its_history_stays(staging: Staging) -> None:
    sets, snapshot = LiveSets(staging.url), SnapshotRef(id="s", url="file:///s")
    assert sets.live() is None
    first = sets.propose({"keyword": "v1"}, snapshot, "first")
    assert sets.proposed() == first and sets.live() is None
    sets.go_live(first)
    second = sets.propose({"keyword": "v2"}, snapshot, "second")
    assert sets.live() == first and second.number == 2
    sets.withdraw()
    assert sets.proposed() is None and sets.live() == first
    sets.go_live(sets.propose({"keyword": "v3"}, snapshot, "third"))
    assert sets.live().releases == {"keyword": "v3"}
    assert [sets.past(number).note for number in sets.numbers()] == ["first", "third"]


PUBLISHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_releases import manifest
from shared_ops.release.releases import Staging
staging = Staging(Path(sys.argv[2]).as_uri())
print("ready", flush=True)
for number in range(10_000):
    staging.accept(staging.publish(Path(sys.argv[1]), manifest(f"v{number:05}")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay_ms", [3, 17, 40, 111])
def test_a_kill_at_any_moment_leaves_whole_releases(
    staging: Staging, weights: Path, tmp_path: Path, delay_ms: int
) -> None:
    """Whatever a killed publisher leaves, each listed release verifies and `accepted` names one of them."""
    root = storage.local_path(staging.url)
    here = str(__import__("pathlib").Path(__file__).parent)
    (weights / "big.bin").write_bytes(b"x" * 2_000_000)
    command = [sys.executable, "-c", PUBLISHER, str(weights), str(root), here]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as publisher:
        assert publisher.stdout.readline() == b"ready\n"
        time.sleep(delay_ms / 1000)
        publisher.kill()
    versions = staging.versions("keyword")
    for version in versions:
        staging.fetch("keyword", version)
    accepted = staging.accepted("keyword")
    assert accepted is None or accepted in versions


def test_a_home_with_a_space_is_one_folder(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "my home"))
    Staging(Settings().staging_url("dev")).publish(weights, manifest())
    assert (tmp_path / "my home" / "staging" / "dev" / "keyword" / "releases" / "v1" / MANIFEST).exists()
