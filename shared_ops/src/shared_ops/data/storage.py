"""Reads and writes files and folders at fsspec URLs; a file is replaced in one step.

Knows no Dagster and nothing of what the files mean. A local folder is used as it is; an object store replaces an object
as a whole, which is one step too.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec


def join(url: str, *parts: str) -> str:
    """`url` with more path segments."""
    return "/".join([url.rstrip("/"), *parts])


def local_path(url: str) -> Path | None:
    """The path that `url` names on this machine; None when it names another store."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return Path(path) if "file" in _protocols(filesystem) else None


def _protocols(filesystem: Any) -> tuple[str, ...]:
    return (filesystem.protocol,) if isinstance(filesystem.protocol, str) else tuple(filesystem.protocol)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename is lost in a power cut until its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make every file and name below `folder` durable."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            fsync_folder(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    fsync_folder(folder)


def write_atomic(url: str, content: bytes) -> None:
    """Replace the file at `url` in one step: a reader sees the old content or the new, even if this is killed."""
    path = local_path(url)
    if path is None:
        filesystem, name = fsspec.core.url_to_fs(url)
        filesystem.pipe_file(name, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    fsync_folder(path.parent)


@contextmanager
def exclusive(url: str) -> Iterator[None]:
    """Hold the lock file at `url` for the block: one holder at a time on this machine; a killed holder releases it.

    Object stores have no locks: there only the caller's own check of what it replaces protects it.
    """
    path = local_path(url)
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_json(url: str, value: Any) -> None:
    """Replace the JSON file at `url` in one step."""
    write_atomic(url, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def read_bytes(url: str) -> bytes | None:
    """The content of the file at `url`; None when there is no such file."""
    filesystem, path = fsspec.core.url_to_fs(url)
    try:
        content: bytes = filesystem.cat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content


def exists(url: str) -> bool:
    """Whether `url` names a file or a folder."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return bool(filesystem.exists(path))


def age(url: str) -> float:
    """Seconds since the file at `url` was last written; 0 when there is no such file."""
    filesystem, path = fsspec.core.url_to_fs(url)
    try:
        written: datetime = filesystem.modified(path)
    except (FileNotFoundError, NotADirectoryError):
        return 0.0
    return (datetime.now(UTC) - written).total_seconds()


def names(url: str) -> list[str]:
    """The sorted names in the folder at `url`, without hidden ones; empty when there is no such folder."""
    filesystem, path = fsspec.core.url_to_fs(url)
    # An object store's client may cache a listing; what another process published has to be in it.
    filesystem.invalidate_cache(path)
    if not filesystem.isdir(path):
        return []
    entries = (entry.rstrip("/").rsplit("/", 1)[-1] for entry in filesystem.ls(path, detail=False))
    return sorted(name for name in entries if not name.startswith("."))


def stamp(url: str) -> str:
    """A hash of what the store says of each file in the folder at `url` (its size, times, entity tag).

    It differs once a file was written, and costs no reading of files.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache(path)
    files = filesystem.find(path, detail=True)
    return hashlib.sha256(json.dumps(files, sort_keys=True, default=str).encode()).hexdigest()


def remove(url: str) -> None:
    """Remove the file or folder at `url`, if it is there."""
    filesystem, path = fsspec.core.url_to_fs(url)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


@contextmanager
def written_folder(url: str) -> Iterator[Path]:
    """An empty local folder to write into; when the block ends without an error, it replaces the folder at `url`.

    Use it for work in progress. What readers rely on is published by `publish_folder`.
    """
    target = local_path(url)
    with tempfile.TemporaryDirectory(dir=_scratch(target)) as scratch:
        folder = Path(scratch) / "content"
        folder.mkdir()
        yield folder
        remove(url)
        if target is None:
            filesystem, path = fsspec.core.url_to_fs(url)
            filesystem.put(f"{folder}/", f"{path}/", recursive=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)


def _scratch(target: Path | None) -> Path | None:
    """A folder on the target's own file system, so that a rename can move what is written there."""
    if target is None:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent


@contextmanager
def local_folder(url: str) -> Iterator[Path]:
    """The folder at `url` as a local path; for the block it is copied to this machine when it lies elsewhere."""
    path = local_path(url)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        fetch_folder(url, Path(scratch))
        yield Path(scratch)


def fetch_folder(url: str, target: Path) -> None:
    """Copy the folder at `url` into the local folder `target`."""
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.get(f"{path}/", f"{target}/", recursive=True)


def copied_folder(url: str, place: Path, commit: str) -> Path:
    """Copy the published folder at `url` to `place` unless an earlier call did; returns `place`.

    The copy appears whole or not at all. `commit` names the file that makes the folder complete.
    """
    if not (place / commit).exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            fetch_folder(url, Path(scratch))
            publish_folder(Path(scratch), str(place), commit)
    return place


def publish_folder(folder: Path, url: str, commit: str) -> None:
    """Publish the local `folder` at `url` so that the file named `commit` appears last, or together with the rest.

    Locally the synced folder is renamed into place; elsewhere `commit` is uploaded after everything else. A folder
    already published at `url` stays as it is: published folders never change.
    """
    target = local_path(url)
    if exists(join(url, commit)):
        return
    if target is None:
        filesystem, path = fsspec.core.url_to_fs(url)
        files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / commit]
        for file in [*files, folder / commit]:
            filesystem.put_file(str(file), f"{path}/{file.relative_to(folder).as_posix()}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".publishing-") as scratch:
        beside = Path(scratch) / target.name
        # Copied, not linked: later changes in the folder must not reach what was published.
        shutil.copytree(folder, beside)
        fsync_tree(beside)
        try:
            beside.rename(target)
        except OSError:
            # Another run published the same content a moment ago: then it is there, whole.
            if not exists(join(url, commit)):
                raise
    fsync_folder(target.parent)
