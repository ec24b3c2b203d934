"""Published tables of clicks: immutable, named by their content, marked with the application they come from.

Knows no Dagster.
"""

import hashlib
import io

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shared_ops import storage, tables

SIMULATION = "simulation"
"""The application that made-up clicks are marked with, as in a User Behavior Insights event."""


class ClicksRef(BaseModel):
    """What travels between ops instead of a table of clicks."""

    model_config = ConfigDict(frozen=True)

    id: str
    url: str = Field(description="the Parquet file")
    application: str = Field(description="where the clicks come from; `simulation` marks made-up ones")

    def read(self) -> pl.DataFrame:
        """The `clicks` table."""
        return tables.read(self.url)


def publish(root: str, frame: pl.DataFrame, application: str) -> ClicksRef:
    """Publish a `clicks` table below the URL `root`; equal clicks are published once.

    Raises:
        tables.TableError: when the table does not hold to its schema.
    """
    ordered = tables.check("clicks", frame).sort("query_id", "doc_id")
    identity = hashlib.sha256(f"{application}\n".encode() + tables.json_lines(ordered)).hexdigest()[:16]
    ref = ClicksRef(id=identity, url=storage.join(root, f"{identity}.parquet"), application=application)
    if not storage.exists(ref.url):
        buffer = io.BytesIO()
        # The mark travels inside the file too, for whoever finds it without its reference.
        ordered.write_parquet(buffer, compression="zstd", metadata={"application": application})
        storage.write_atomic(ref.url, buffer.getvalue())
    return ref
