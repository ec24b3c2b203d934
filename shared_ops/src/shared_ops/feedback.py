"""Published feedback: what people searched for and clicked, as immutable tables named by the hash of their content.

Knows no Dagster. Made by the corpus' feedback job from the events in Postgres; behavior and the ranker learn from it.

| table | what |
|---|---|
| clicks | what behavior learns from: documents shown for a query, with clicks corrected for their positions |
| judged | what the ranker learns from: the same documents, with the features it saw when it ordered them |
| newest | what the newest sessions clicked, held back from both: to measure by |
| requests | a share of the searches, whose features are computed again to compare |
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shared_ops import storage, tables

TABLES = ("clicks", "judged", "newest", "requests")
MANIFEST = "manifest.json"


class FeedbackError(RuntimeError):
    """Feedback that is missing, or of a format that this code does not read."""


class FeedbackRef(BaseModel):
    """What travels between ops instead of feedback: its id and the URL of its folder."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: str


class Counts(BaseModel):
    """How much came from one application."""

    sessions: int = 0
    searches: int = 0
    clicks: int = 0


class FeedbackManifest(BaseModel):
    """What feedback holds and where it came from."""

    id: str = ""
    schema_version: int = tables.SCHEMA_VERSION
    applications: dict[str, Counts] = Field(description="by application; `simulation` marks made-up events")
    left_out: dict[str, int] = Field(description="why to how many events: bots, repeated clicks, unknown searches")
    propensities: list[float] = Field(description="the chance that position 1, 2, ... is looked at, 1 for the first")
    held_back_sessions: int = Field(description="the newest sessions, in `newest` alone")
    oldest: datetime | None = Field(description="of the searches")
    newest: datetime | None
    watermark: int = Field(description="the transaction before which every event was read (ubi.Window.before)")
    rows: dict[str, int] = {}


class Feedback:
    """Published feedback, its tables read when asked for."""

    def __init__(self, ref: FeedbackRef) -> None:
        self.ref = ref

    def clicks(self) -> pl.DataFrame:
        """The `clicks` table."""
        return self._read("clicks")

    def judged(self) -> pl.DataFrame:
        """The `judged` table."""
        return self._read("judged")

    def newest(self) -> pl.DataFrame:
        """The `newest` table."""
        return self._read("newest")

    def requests(self) -> pl.DataFrame:
        """The `requests` table."""
        return self._read("requests")

    def manifest(self) -> FeedbackManifest:
        """The manifest.

        Raises:
            FeedbackError: when the feedback is missing or was written by a newer schema.
        """
        content = storage.read_bytes(storage.join(self.ref.url, MANIFEST))
        if content is None:
            raise FeedbackError(f"No feedback at {self.ref.url}. Make it with the job feedback_prod of corpus.")
        manifest = FeedbackManifest.model_validate_json(content)
        if manifest.schema_version > tables.SCHEMA_VERSION:
            raise FeedbackError(
                f"Feedback {manifest.id} has schema version {manifest.schema_version}, this code reads up to "
                f"{tables.SCHEMA_VERSION}. Update the code, or make it again with this version."
            )
        return manifest

    def _read(self, table: str) -> pl.DataFrame:
        try:
            return tables.read(storage.join(self.ref.url, f"{table}.parquet"))
        except FileNotFoundError as error:
            raise FeedbackError(f"Feedback {self.ref.id} is incomplete: {error} Make it again.") from error


class Feedbacks:
    """The feedback of one deployment, in the folder at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def publish(self, content: Mapping[str, pl.DataFrame], manifest: FeedbackManifest) -> FeedbackRef:
        """Check the tables, put them in canonical order and publish them; equal content is published once.

        Raises:
            tables.TableError: when a table does not hold to its schema.
        """
        ordered = {name: tables.check(name, content[name]).sort(tables.SCHEMAS[name].unique or []) for name in TABLES}
        digest = hashlib.sha256(f"schema {tables.SCHEMA_VERSION}".encode())
        for name, frame in ordered.items():
            digest.update(f"\n{name} {hashlib.sha256(tables.json_lines(frame)).hexdigest()}".encode())
        identity = digest.hexdigest()[:16]
        rows = {name: len(frame) for name, frame in ordered.items()}
        manifest = manifest.model_copy(update={"id": identity, "rows": rows})
        ref = FeedbackRef(id=identity, url=storage.join(self.url, identity))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for name, frame in ordered.items():
                frame.write_parquet(folder / f"{name}.parquet", compression="zstd")
            (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
            storage.publish_folder(folder, ref.url, commit=MANIFEST)
        return ref

    def point_to(self, ref: FeedbackRef, watermark: int) -> None:
        """Make `ref` the latest feedback, which holds every event before the transaction `watermark`."""
        storage.write_json(storage.join(self.url, "latest.json"), {**ref.model_dump(), "watermark": watermark})

    def latest(self) -> FeedbackRef | None:
        """The latest feedback, None when nobody's clicks were read yet."""
        found = self._pointer()
        return FeedbackRef.model_validate(found) if found else None

    def watermark(self) -> int:
        """The transaction before which every event is in the latest feedback, 0 when there is none."""
        found = self._pointer()
        return int(found["watermark"]) if found else 0

    def _pointer(self) -> dict[str, Any] | None:
        content = storage.read_bytes(storage.join(self.url, "latest.json"))
        if content is None:
            return None
        found: dict[str, Any] = json.loads(content)
        return found
