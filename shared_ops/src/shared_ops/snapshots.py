"""Snapshots: immutable folders of tables, named by the hash of their content.

Knows no Dagster. The same tables give the same id on any machine, in any order of rows.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from shared_ops import storage, tables

TABLES = ("documents", "queries", "qrels", "slices")
MANIFEST = "manifest.json"


class SnapshotError(RuntimeError):
    """A snapshot that is missing, of another format, or not what its manifest says."""


class SnapshotRef(BaseModel):
    """What travels between ops instead of a snapshot: its id and the URL of its folder."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: str


class TableEntry(BaseModel):
    """A table in a manifest: its rows, and the SHA-256 of its rows in canonical order, as JSON lines."""

    rows: int
    sha256: str


class SnapshotManifest(BaseModel):
    """What a snapshot holds and which sources it came from. It names no time: equal content, equal manifest."""

    id: str
    schema_version: int = tables.SCHEMA_VERSION
    tables: dict[str, TableEntry]
    sources: list[dict[str, Any]]


class Snapshot:
    """A published snapshot, its tables read when asked for."""

    def __init__(self, ref: SnapshotRef) -> None:
        self.ref = ref

    def documents(self) -> pl.DataFrame:
        """The `documents` table."""
        return self._read("documents")

    def queries(self, split: str | None = None) -> pl.DataFrame:
        """The `queries` table, of one split or of all."""
        queries = self._read("queries")
        return queries if split is None else queries.filter(pl.col("split") == split)

    def qrels(self, split: str | None = None) -> pl.DataFrame:
        """The `qrels` table, for the queries of one split or of all."""
        qrels = self._read("qrels")
        return qrels if split is None else qrels.join(self.queries(split), on="query_id", how="semi")

    def slices(self) -> pl.DataFrame:
        """The `slices` table."""
        return self._read("slices")

    def manifest(self) -> SnapshotManifest:
        """The manifest.

        Raises:
            SnapshotError: when the snapshot is missing or was written by a newer schema.
        """
        content = storage.read_bytes(storage.join(self.ref.url, MANIFEST))
        if content is None:
            raise SnapshotError(f"No snapshot at {self.ref.url}. Build one with `make train REPO=corpus`.")
        manifest = SnapshotManifest.model_validate_json(content)
        if manifest.schema_version > tables.SCHEMA_VERSION:
            raise SnapshotError(
                f"Snapshot {manifest.id} has schema version {manifest.schema_version}, this code reads up to "
                f"{tables.SCHEMA_VERSION}. Update the code, or build the snapshot with this version."
            )
        return manifest

    def _read(self, table: str) -> pl.DataFrame:
        try:
            return tables.read(storage.join(self.ref.url, f"{table}.parquet"))
        except FileNotFoundError as error:
            raise SnapshotError(f"Snapshot {self.ref.id} is incomplete: {error} Build it again.") from error


def load(ref: SnapshotRef) -> Snapshot:
    """Open a snapshot and check that it is there and of a format that this code reads.

    Raises:
        SnapshotError: when it is not.
    """
    snapshot = Snapshot(ref)
    snapshot.manifest()
    return snapshot


class Snapshots:
    """The snapshots of one deployment, in the folder at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def publish(self, content: Mapping[str, pl.DataFrame], sources: Sequence[Mapping[str, Any]] = ()) -> SnapshotRef:
        """Check the tables, put them in canonical order and publish them; equal content is published once.

        Raises:
            tables.TableError: when a table does not hold to its schema.
        """
        ordered = {name: _canonical(name, content[name]) for name in TABLES}
        entries = {
            name: TableEntry(rows=len(frame), sha256=hashlib.sha256(tables.json_lines(frame)).hexdigest())
            for name, frame in ordered.items()
        }
        manifest = SnapshotManifest(id=_content_id(entries), tables=entries, sources=[dict(each) for each in sources])
        ref = SnapshotRef(id=manifest.id, url=storage.join(self.url, manifest.id))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for name, frame in ordered.items():
                frame.write_parquet(folder / f"{name}.parquet", compression="zstd")
            (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
            storage.publish_folder(folder, ref.url, commit=MANIFEST)
        return ref

    def point_to(self, ref: SnapshotRef) -> None:
        """Make `ref` the latest snapshot: the one that trainings start from."""
        storage.write_json(storage.join(self.url, "latest.json"), ref.model_dump())

    def latest(self) -> SnapshotRef | None:
        """The latest snapshot, None when none was built yet."""
        content = storage.read_bytes(storage.join(self.url, "latest.json"))
        return None if content is None else SnapshotRef.model_validate_json(content)


def sample(snapshot: Snapshot, documents: int, seed: int) -> dict[str, pl.DataFrame]:
    """The tables of a smaller corpus: whole queries with their answers, filled up with other documents.

    Half of `documents` at most are answers, so that finding them stays a task. The choice depends on ids and seed only.
    """
    answers = (
        snapshot.qrels()
        .group_by("query_id")
        .agg("doc_id")
        .sort(_shuffled("query_id", seed))
        .with_columns(pl.col("doc_id").list.len().cum_sum().alias("so_far"))
        .filter(pl.col("so_far") <= max(documents // 2, 1))
    )
    wanted = answers.select(pl.col("doc_id").explode()).unique()
    others = snapshot.documents().join(wanted, on="doc_id", how="anti").sort(_shuffled("doc_id", seed))
    filling = others.head(max(documents - len(wanted), 0)).select("doc_id")
    return {
        "documents": snapshot.documents().join(pl.concat([wanted, filling]), on="doc_id", how="semi"),
        **{
            name: snapshot._read(name).join(answers, on="query_id", how="semi")
            for name in ("queries", "qrels", "slices")
        },
    }


def _shuffled(column: str, seed: int) -> pl.Expr:
    """A sort key that depends on each value and the seed alone, the same on any machine."""
    return pl.col(column).map_elements(
        lambda value: hashlib.sha256(f"{seed}/{value}".encode()).hexdigest(), return_dtype=pl.String
    )


@cache
def _key_columns(table: str) -> tuple[str, ...]:
    return tuple(tables.SCHEMAS[table].unique or ())


def _canonical(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    return tables.check(table, frame).sort(_key_columns(table))


def _content_id(entries: Mapping[str, TableEntry]) -> str:
    digest = hashlib.sha256(f"schema {tables.SCHEMA_VERSION}".encode())
    for name in TABLES:
        digest.update(f"\n{name} {entries[name].sha256}".encode())
    return digest.hexdigest()[:16]
