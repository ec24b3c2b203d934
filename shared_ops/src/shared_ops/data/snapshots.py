"""Snapshots: immutable folders of tables, named by the hash of their content.

Knows no Dagster. The same tables give the same id on any machine, in any order of rows.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from shared_ops.data import published, storage
from shared_ops.data.home_urls import HomeUrl
from shared_ops.data.published import Manifest

TABLES = ("documents", "queries", "qrels", "slices")


class SnapshotRef(BaseModel):
    """What travels between ops instead of a snapshot: its id and the URL of its folder."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: HomeUrl


class SnapshotManifest(Manifest):
    """What a snapshot holds and which sources it came from."""

    sources: list[dict[str, Any]]


class Snapshot:
    """A published snapshot; each table is read when its method is called."""

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
            PublishedError: when the snapshot is missing or was written by a newer schema.
        """
        how = "Build one: make train."
        return published.read_manifest(self.ref.url, SnapshotManifest, "snapshot", how)

    def _read(self, table: str) -> pl.DataFrame:
        return published.read_table(self.ref.url, table, f"snapshot {self.ref.id}")


def load(ref: SnapshotRef) -> Snapshot:
    """Open a snapshot and check that it is there and of a format that this code reads.

    Raises:
        PublishedError: when it is not.
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
        manifest = SnapshotManifest(sources=[dict(each) for each in sources])
        manifest = published.publish(self.url, {name: content[name] for name in TABLES}, manifest)
        return SnapshotRef(id=manifest.id, url=storage.join(self.url, manifest.id))

    def point_to(self, ref: SnapshotRef) -> None:
        """Make `ref` the latest snapshot: the one that trainings start from."""
        storage.write_json(storage.join(self.url, "latest.json"), ref.model_dump())

    def latest(self) -> SnapshotRef | None:
        """The latest snapshot; None when none was built yet."""
        content = storage.read_bytes(storage.join(self.url, "latest.json"))
        return None if content is None else SnapshotRef.model_validate_json(content)


def sample(snapshot: Snapshot, documents: int, seed: int) -> dict[str, pl.DataFrame]:
    """The tables of a smaller corpus: some queries with all their answers, and other documents up to `documents`.

    At most half of them are answers, so that finding these stays a task. The choice depends on ids and `seed` alone.
    """
    answers = (
        snapshot.qrels()
        .group_by("query_id")
        .agg("doc_id")
        .sort(_shuffled("query_id", seed))
        .with_columns(pl.col("doc_id").list.len().cum_sum().alias("so_far"))
        .filter(pl.col("so_far") <= max(documents // 2, 1))
    )
    answer_ids = answers.select(pl.col("doc_id").explode()).unique()
    others = snapshot.documents().join(answer_ids, on="doc_id", how="anti").sort(_shuffled("doc_id", seed))
    filling = others.head(max(documents - len(answer_ids), 0)).select("doc_id")
    return {
        "documents": snapshot.documents().join(pl.concat([answer_ids, filling]), on="doc_id", how="semi"),
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
