"""What travels between ops: small references, never models or tables. Then one graph runs in one process or in many.

Knows no Dagster.
"""

from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shared_ops import storage, tables
from shared_ops.gating import Verdict
from shared_ops.releases import Metrics, Staging
from shared_ops.snapshots import SnapshotRef, load


class Candidate(BaseModel):
    """A trained model that is not yet a release: its files and its hits lie in the folder at `url`."""

    model_config = ConfigDict(frozen=True)

    family: str
    url: str
    snapshot: SnapshotRef
    parameters: dict[str, Any]
    hyperparameters: dict[str, Any]
    learned_from: dict[str, str] = {}
    inputs: dict[str, Any] = {}


class Evaluated(BaseModel):
    """A candidate with its metrics; per-query values of it and of the champion lie in its folder."""

    model_config = ConfigDict(frozen=True)

    candidate: Candidate
    metrics: Metrics = Field(description="on the test split, per slice")
    champion: str | None = Field(description="the accepted release's version, None before the first")


class Judged(BaseModel):
    """An evaluated candidate with the gate's verdict."""

    model_config = ConfigDict(frozen=True)

    evaluated: Evaluated
    verdict: Verdict


class Staged(BaseModel):
    """A release in the staging area."""

    model_config = ConfigDict(frozen=True)

    family: str
    version: str
    accepted: bool


class Upstream(BaseModel):
    """The releases whose hits a ranker learns from, and the snapshot whose queries they answered."""

    model_config = ConfigDict(frozen=True)

    snapshot: SnapshotRef
    releases: dict[str, str] = Field(description="family to version")
    staging: str = Field(description="the staging area that holds them")

    def hits(self, family: str) -> pl.DataFrame:
        """The hits of a family's release for every split, those of this snapshot's queries and documents alone.

        Ranks are counted anew where a document has left the snapshot.
        """
        snapshot = load(self.snapshot)
        folder = storage.join(Staging(self.staging).release_url(family, self.releases[family]), "hits")
        found = pl.concat([tables.read(storage.join(folder, f"{split}.parquet")) for split in tables.SPLITS])
        return (
            found.join(snapshot.queries(), on="query_id", how="semi")
            .join(snapshot.documents(), on="doc_id", how="semi")
            .sort("query_id", "rank")
            .with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias("rank"))
        )
