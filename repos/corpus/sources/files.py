"""Files at fsspec URLs: whether they exist, their states, and their bytes.

Knows no file formats but compression.
"""

import hashlib
import json
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import fsspec
from pydantic import BaseModel, ConfigDict, Field

from repos.corpus.sources.collected import SourceError, installing
from shared_ops.data import storage

# RuntimeError: an archive with a password or of an unknown compression. TypeError: a part of a URL is missing.
_FAULTS = (
    *(OSError, EOFError, ValueError, ImportError, TypeError, RuntimeError),
    *(zlib.error, lzma.LZMAError, BadZipFile, tarfile.TarError),
)

_SCHEME = re.compile(r"(\w+)://")
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    **dict.fromkeys(("http", "https"), "aiohttp and requests"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **{"hf": "huggingface_hub", "hdfs": "pyarrow", "smb": "smbprotocol", "github": "requests"},
}
"""The Python packages that fsspec needs for a scheme."""


class FileState(BaseModel):
    """The state of a file, to notice later that it has changed."""

    model_config = ConfigDict(frozen=True)

    stamp: str = Field(description="the hash of what its store says of it: size, times, entity tag")
    content: str = Field(description="the hash of its content; the stamp where reading it all would be a download")
    modified: float | None = Field(default=None, description="when it was last written, of a local file")


def exists(url: str, source: str) -> bool:
    """Whether a file is at `url`. `source` is the name of the source, for messages, here and below.

    Raises:
        SourceError: where that cannot be told (no access, a scheme that no installed package reads), or where `url` is
            no regular file, or a link to a missing one.
    """
    try:
        filesystem, path = _place(url, source)
        _only_a_file(filesystem.info(path), url, source)  # fsspec's own `exists` takes any error for a no
    except FileNotFoundError:
        _no_link(url, source)
        return False
    except SourceError:
        raise
    except _FAULTS as error:
        raise unreadable(url, source, error) from None
    return True


def _place(url: str, source: str) -> tuple[Any, str]:
    """The filesystem of a URL and the path in it. This opens local archives, so they are checked to be files first."""
    for archive in url.split("::")[1:]:
        if storage.local_path(archive) is not None:
            filesystem, path = fsspec.core.url_to_fs(archive)
            _only_a_file(filesystem.info(path), archive, source)
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, path


def _only_a_file(info: dict[str, Any], url: str, source: str) -> None:
    """Refuse a folder, and a pipe or a device, for which reading would wait for ever."""
    if info.get("type") in ("directory", "other"):
        is_what = "is a folder" if info["type"] == "directory" else "is neither a file nor a folder"
        raise SourceError(f"Source {source!r}: {url} {is_what}. Name one file that can be read from its beginning.")


def _no_link(url: str, source: str) -> None:
    """Refuse a link to a missing file: that file went away, and does not count as one that never was."""
    local = storage.local_path(url)
    if local is not None and local.is_symlink():
        raise SourceError(
            f"Source {source!r}: {url} is a link to {local.readlink()}, which is not there. Bring the file back, or "
            "remove the link."
        )


def listing(url: str, source: str) -> list[str] | None:
    """The names in a folder, sorted; None where it does not exist.

    Raises:
        SourceError: where it cannot be listed: no access, or no folder.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        return sorted(name.rstrip("/").rpartition("/")[2] for name in filesystem.ls(path, detail=False))
    except FileNotFoundError:
        return None
    except _FAULTS as error:
        raise unreadable(url, source, error) from None


def state(url: str, source: str, previous: FileState | None = None) -> FileState | None:
    """The state of a file now, None where it does not exist. Its content is read only where its stamp has changed.

    `previous` is the state of the last time, if there was one.

    Raises:
        SourceError: as by `exists`.
    """
    try:
        filesystem, path = _place(url, source)
        filesystem.invalidate_cache()
        info = filesystem.info(path)
        _only_a_file(info, url, source)
        stamp = hashlib.sha256(json.dumps(info, sort_keys=True, default=str).encode()).hexdigest()
        if previous is not None and previous.stamp == stamp:
            return previous
        local = storage.local_path(url)
        content = stamp if local is None else storage.sha256(local)
        return FileState(stamp=stamp, content=content, modified=None if local is None else info["mtime"])
    except FileNotFoundError:
        _no_link(url, source)
        return None
    except SourceError:
        raise
    except _FAULTS as error:
        raise unreadable(url, source, error) from None


@contextmanager
def opened(url: str, source: str) -> Iterator[IO[bytes]]:
    """A file open for reading bytes, decompressed as its name's ending says, and checked not to change meanwhile.

    Raises:
        SourceError: where it is missing, cannot be read, or changes before the block ends.
    """
    try:
        filesystem, path = _place(url, source)
        _only_a_file(filesystem.info(path), url, source)
        before = filesystem.ukey(path)
        with _decompressed(url, path) as file:
            yield file
        filesystem.invalidate_cache()
        after = filesystem.ukey(path) if filesystem.exists(path) else None
    except SourceError:
        raise
    except FileNotFoundError:
        _no_link(url, source)
        raise SourceError(f"Source {source!r}: {url} is not there. Check its path in the sources file.") from None
    except _FAULTS as error:
        raise unreadable(url, source, error) from None
    if after != before:
        raise SourceError(
            f"Source {source!r}: {url} was {'changed' if after else 'removed'} while it was read. Nothing was "
            "published. Wait until whatever writes it has ended, then build again."
        )


def unreadable(url: str, source: str, error: Exception) -> SourceError:
    """The error for a file that exists and cannot be read, with what to do."""
    scheme = next((each for each in _SCHEME.findall(url) if each in _PACKAGES), None)
    if scheme and isinstance(error, ImportError):
        return SourceError(
            f"Source {source!r}: {url} cannot be read: what reads {scheme}:// is not installed. "
            f"{installing(_PACKAGES[scheme])} Or copy the file to this machine and name its path."
        )
    return SourceError(
        f"Source {source!r}: {url} cannot be read: {type(error).__name__}: {error}. Check that it is there and whole, "
        "and that this process may read it; then build again."
    )


@contextmanager
def _decompressed(url: str, path: str) -> Iterator[IO[bytes]]:
    if fsspec.utils.infer_compression(path) != "zip":
        with fsspec.open(url, "rb", compression="infer") as file:
            yield file
        return
    with fsspec.open(url, "rb") as packed, ZipFile(packed) as archive:
        names = [each for each in archive.namelist() if not each.endswith("/") and not each.startswith("__MACOSX/")]
        if len(names) != 1:
            raise ValueError(
                f"a .zip is read that holds one file, and this one holds {len(names)} ({', '.join(names[:5])}); "
                "unpack it and name one of them"
            )
        with archive.open(names[0]) as file:
            yield file
