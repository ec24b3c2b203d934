"""Published folders of tables: immutable, named by the hash of their content, with a manifest that is written last.

Snapshots and feedback are such folders. Knows no Dagster, nor what the tables mean. Equal tables give the same name on
any machine, in any order of rows.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import BaseModel

from shared_ops.data import storage, tables

MANIFEST = "manifest.json"


class PublishedError(RuntimeError):
    """A published folder that is missing, incomplete, or of a format that this code does not read."""


class TableEntry(BaseModel):
    """A table in a manifest: its rows, and the SHA-256 of its rows in canonical order, as JSON lines."""

    rows: int
    sha256: str


class Manifest(BaseModel):
    """What every published folder's manifest holds. It holds no time, so folders of equal content are equal."""

    id: str = ""
    schema_version: int = tables.SCHEMA_VERSION
    tables: dict[str, TableEntry] = {}


ManifestT = TypeVar("ManifestT", bound=Manifest)
RefT = TypeVar("RefT")
FoundT = TypeVar("FoundT")


def publish(root: str, content: Mapping[str, pl.DataFrame], manifest: ManifestT) -> ManifestT:
    """Check the tables, sort their rows and publish them in the folder `root`/<id>. Equal content is published once.

    Args:
        root: the URL of the folder to publish in.
        content: table name to table.
        manifest: what the manifest says beside the tables.

    Returns:
        The manifest, with the id and the tables' hashes.

    Raises:
        tables.TableError: when a table does not hold to its schema.
    """
    ordered = {name: _canonical(name, frame) for name, frame in content.items()}
    entries = {
        name: TableEntry(rows=len(frame), sha256=hashlib.sha256(tables.json_lines(frame)).hexdigest())
        for name, frame in ordered.items()
    }
    manifest = manifest.model_copy(update={"id": _content_id(entries), "tables": entries})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, frame in ordered.items():
            frame.write_parquet(folder / f"{name}.parquet", compression="zstd")
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        storage.publish_folder(folder, storage.join(root, manifest.id), commit=MANIFEST)
    return manifest


def _canonical(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    return tables.check(table, frame).sort(tables.key(table))


def _content_id(entries: Mapping[str, TableEntry]) -> str:
    digest = hashlib.sha256(f"schema {tables.SCHEMA_VERSION}".encode())
    for name, entry in entries.items():
        digest.update(f"\n{name} {entry.sha256}".encode())
    return digest.hexdigest()[:16]


def read_manifest(url: str, kind: type[ManifestT], what: str, how: str) -> ManifestT:
    """The manifest of the folder at `url`.

    Args:
        url: the folder.
        kind: the manifest's class.
        what: what errors call the folder, for instance "snapshot".
        how: what errors say of how to make one.

    Raises:
        PublishedError: when it is missing or was written by a newer schema, or the folder holds files that it does not
            name.
    """
    content = storage.read_bytes(storage.join(url, MANIFEST))
    if content is None:
        raise PublishedError(f"No {what} at {url}. {how}")
    manifest = kind.model_validate_json(content)
    if manifest.schema_version > tables.SCHEMA_VERSION:
        raise PublishedError(
            f"The {what} {manifest.id} has schema version {manifest.schema_version}, this code reads up to "
            f"{tables.SCHEMA_VERSION}. Update the code, or make it again with this version."
        )
    if strange := sorted({*storage.names(url)} - {MANIFEST, *(f"{name}.parquet" for name in manifest.tables)}):
        raise PublishedError(
            f"The {what} {manifest.id} holds files that its manifest does not name: {', '.join(strange)}. "
            f"Remove them from {url}."
        )
    return manifest


def read_table(url: str, table: str, what: str) -> pl.DataFrame:
    """A table of the folder at `url`; errors call the folder `what`.

    Raises:
        PublishedError: when the table is missing.
    """
    try:
        return tables.read(storage.join(url, f"{table}.parquet"))
    except FileNotFoundError as error:
        raise PublishedError(f"The {what} is incomplete: {error} Make it again.") from error


def checked_once(
    folders: Callable[[Any], Iterable[str]],
) -> Callable[[Callable[[RefT], FoundT]], Callable[[RefT], FoundT]]:
    """Let a check of published folders be made once for a process: they never change, and it would find the same again.

    Should somebody's hand have changed one, the stamps of its files tell, and it is checked again.

    Args:
        folders: the URLs of the folders that the check of a reference reads.
    """

    def once(check: Callable[[RefT], FoundT]) -> Callable[[RefT], FoundT]:
        found: dict[str, tuple[list[str], FoundT]] = {}

        @wraps(check)
        def look(ref: RefT) -> FoundT:
            stamps = [storage.stamp(url) for url in folders(ref)]
            before = found.get(repr(ref))
            if before is None or before[0] != stamps:
                before = found[repr(ref)] = (stamps, check(ref))
            return before[1]

        return look

    return once
