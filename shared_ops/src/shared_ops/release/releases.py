"""Releases: one family's model in the staging area, with the manifest that says what it is and where it came from.

Knows no Dagster. docs/staging.md describes the layout and the order of writing. The manifest is the commit point: a
folder without one is no release.
"""

import hashlib
import json
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from shared_ops.data import storage
from shared_ops.data.feedback import FeedbackRef
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.settings import ROOT, current, file_url, repositories

FORMAT_VERSION = 1
MANIFEST = "manifest.json"

Metrics = dict[str, dict[str, float]]
"""Slice name to measure name to value, for instance {"all": {"nDCG@10": 0.52}}."""


class ReleaseError(RuntimeError):
    """A release that is missing, changed, or of a format that this code does not read."""


class FileEntry(BaseModel):
    """One file of a release: its path in the folder, its size in bytes and its SHA-256."""

    path: str
    size: int
    sha256: str


class ReleaseManifest(BaseModel):
    """What a release is and where it came from: enough to train it again."""

    format_version: int = FORMAT_VERSION
    family: str
    version: str
    created_at: datetime
    snapshot: SnapshotRef
    parameters: dict[str, Any] = Field(description="the configuration of the training, its seed included")
    hyperparameters: dict[str, Any] = Field(description="what the training chose")
    metrics: Metrics
    gate: dict[str, Any] = Field(description="the verdict, with its numbers")
    learned_from: dict[str, str] = Field(default={}, description="family to the version whose hits it learned from")
    feedback: FeedbackRef | None = Field(default=None, description="the clicks that it learned from")
    key: str = Field(default="", description="of the training's data, code, environment and configuration (Inputs.key)")
    environment: str = Field(description="SHA-256 of the environment's lock")
    code: str = Field(default="", description="hash of the code that it runs with (codes.tree); empty: never kept")
    code_version: str = Field(description="hash of the code that trains it: a part of the key")
    deployment: Literal["dev", "prod"]
    run_id: str
    files: list[FileEntry] = []

    @property
    def accepted(self) -> bool:
        """Whether it passed its own gate."""
        return bool(self.gate.get("accepted"))


class Staging:
    """The staging area of one deployment, at the fsspec URL `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def release_url(self, family: str, version: str) -> str:
        """The folder of a release."""
        return storage.join(self.url, family, "releases", version)

    def candidate_url(self, family: str, run_id: str) -> str:
        """The folder of a run's work in progress. No reader of releases looks there."""
        return storage.join(self.url, family, "candidates", run_id)

    def candidates(self) -> list[tuple[str, str]]:
        """The family and the run of every candidate, whether its run is at work or has ended."""
        folders = {family: storage.join(self.url, family, "candidates") for family in storage.names(self.url)}
        return [(family, run) for family, folder in folders.items() for run in storage.names(folder)]

    def publish(self, folder: Path, manifest: ReleaseManifest) -> ReleaseManifest:
        """Publish the files in `folder` as the release that `manifest` describes; a published release never changes.

        Returns the manifest with the files' sizes and hashes. Repeating a publish is harmless.
        """
        files = [
            FileEntry(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=storage.sha256(path))
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path != folder / MANIFEST
        ]
        manifest = manifest.model_copy(update={"files": files})
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        storage.publish_folder(folder, self.release_url(manifest.family, manifest.version), commit=MANIFEST)
        return self.manifest(manifest.family, manifest.version)

    def manifest(self, family: str, version: str) -> ReleaseManifest:
        """The manifest of a release.

        Raises:
            ReleaseError: when it is missing, cannot be read, or is of a newer format.
        """
        name = f"Release {family}/{version}"
        content = storage.read_bytes(storage.join(self.release_url(family, version), MANIFEST))
        if content is None:
            published = ", ".join(f"{family}/{each}" for each in self.versions(family)) or "none"
            raise ReleaseError(f"{name} is not in {self.url}: it has no {MANIFEST}. Published: {published}.")
        return read_manifest(name, content)

    def families(self) -> list[str]:
        """The families that have published here, whether or not repos.toml still lists them."""
        return [name for name in storage.names(self.url) if storage.names(storage.join(self.url, name, "releases"))]

    def releases(self) -> list[tuple[str, str]]:
        """The family and the version of every release."""
        return [(family, version) for family in self.families() for version in self.versions(family)]

    def versions(self, family: str) -> list[str]:
        """The versions published, oldest first."""
        root = storage.join(self.url, family, "releases")
        return [name for name in storage.names(root) if storage.exists(storage.join(root, name, MANIFEST))]

    def fetch(self, family: str, version: str) -> Path:
        """A local folder with the release, every file checked against the manifest.

        A release in a local staging area is read in place; another is copied once into the cache in SEARCHLOOP_HOME.

        Raises:
            ReleaseError: when the release is missing or of a newer format, or its files are not those of its manifest.
        """
        manifest = self.manifest(family, version)
        url, place = self.release_url(family, version), self.copy_of(family, version)
        folder = storage.local_path(url) or storage.copied_folder(url, place, commit=MANIFEST)
        verify(folder, manifest)
        return folder

    def checked_url(self, family: str, version: str) -> str:
        """The URL of a folder with the release, whose files this process has checked once, as `fetch` does.

        Raises:
            ReleaseError: as for `fetch`.
        """
        return _checked_url(self.url, family, version)

    def copy_of(self, family: str, version: str) -> Path:
        """The folder to which a release is copied when the staging area is not local."""
        return copies() / hashlib.sha256(self.release_url(family, version).encode()).hexdigest()[:16]

    def kept(self, family: str, keep: int, needed: Collection[str]) -> list[str]:
        """The versions that `tidy` leaves: the newest `keep`, the accepted one, and those `needed`."""
        versions = self.versions(family)
        chosen = {*versions[-keep:], *needed, self.accepted(family)}
        return [version for version in versions if version in chosen]

    def tidy(self, family: str, keep: int, needed: Collection[str]) -> list[str]:
        """Remove the family's releases but the newest `keep`, the accepted one and those `needed`; returns the removed.

        The manifest is removed first: what a kill leaves of a release is no release any more.
        """
        remaining = self.kept(family, keep, needed)
        old = [version for version in self.versions(family) if version not in remaining]
        for version in old:
            url = self.release_url(family, version)
            storage.remove(storage.join(url, MANIFEST))
            storage.remove(url)
        return old

    def accept(self, manifest: ReleaseManifest, passed_over: Collection[str] = ()) -> None:
        """Make this release the family's accepted one.

        Args:
            manifest: the newest release that passed its own gate, or an older one after a rollback.
            passed_over: the versions that a rollback leaves behind: they are not accepted again by themselves.
        """
        pointer = {
            "version": manifest.version,
            "snapshot": manifest.snapshot.model_dump(),
            "at": datetime.now(UTC).isoformat(),
            "passed_over": sorted(passed_over),
        }
        storage.write_json(storage.join(self.url, manifest.family, "accepted.json"), pointer)

    def accepted(self, family: str) -> str | None:
        """The version of the family's accepted release; None when there is none."""
        return self._pointer(family).get("version")

    def accepted_at(self, family: str) -> str | None:
        """When the accepted release was accepted, in ISO 8601; None without one, or where older code noted no time."""
        return self._pointer(family).get("at")

    def passed_over(self, family: str) -> list[str]:
        """The versions that a rollback left behind when it accepted the present one."""
        versions: list[str] = self._pointer(family).get("passed_over", [])
        return versions

    def _pointer(self, family: str) -> dict[str, Any]:
        content = storage.read_bytes(storage.join(self.url, family, "accepted.json"))
        return {} if content is None else dict(json.loads(content))


@lru_cache(maxsize=256)
def _checked_url(staging: str, family: str, version: str) -> str:
    return file_url(Staging(staging).fetch(family, version))


def copies() -> Path:
    """The folder of the copies of releases, in the home's cache."""
    return current().home / "cache" / "releases"


def read_manifest(name: str, content: bytes) -> ReleaseManifest:
    """Parse a manifest; `name` is what an error calls its release.

    Raises:
        ReleaseError: when it is not JSON, of a newer format, or lacks a field.
    """
    try:
        version = json.loads(content).get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ReleaseError(
                f"{name} has manifest format {version}, this code reads up to {FORMAT_VERSION}. "
                "Update the service, or train the release with this version."
            )
        return ReleaseManifest.model_validate_json(content)
    except (ValueError, AttributeError) as error:
        problems = error.errors() if isinstance(error, ValidationError) else error
        raise ReleaseError(
            f"{name} has a manifest that cannot be read: {problems}. Train the release again."
        ) from error


def verify(folder: Path, manifest: ReleaseManifest) -> None:
    """Check that `folder` holds exactly the files of the manifest: a model's loader may read whatever lies there.

    Raises:
        ReleaseError: naming the file that is missing or changed, or those that the manifest does not name.
    """
    name = f"Release {manifest.family}/{manifest.version}"
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file():
            raise ReleaseError(f"{name} lacks the file {entry.path}. Roll back, or train the release again.")
        if path.stat().st_size != entry.size or storage.sha256(path) != entry.sha256:
            raise ReleaseError(
                f"{name}: the file {entry.path} is not the one that was published (its SHA-256 differs from the "
                "manifest's). It is not loaded. Roll back, or train the release again."
            )
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    if strange := sorted(present - {MANIFEST, *(entry.path for entry in manifest.files)}):
        raise ReleaseError(
            f"{name} holds files that its manifest does not name: {', '.join(strange)}. It is not loaded. "
            f"Remove them from {folder}, or roll back."
        )


@cache
def environment_lock(family: str) -> str:
    """The SHA-256 of the lock of the family's environment."""
    return storage.sha256(lock_file(family))


def lock_file(family: str) -> Path:
    """The lock that the family's environment was made from, which envs/build.py leaves in it; else the checkout's.

    Where this process runs in an environment of the family, that one counts: the checkout may have a newer one by now.
    """
    folder, own = ROOT / "envs" / repositories()[family].environment, Path(sys.prefix).resolve()
    environment = own if own.parent == folder / ".venvs" else folder / ".venv"
    lock = environment / "requirements.txt"
    return lock if lock.exists() else folder / "requirements.txt"
