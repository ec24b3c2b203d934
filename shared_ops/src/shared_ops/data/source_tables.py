"""What a source's repository gives to the corpus: documents and, where it has any, queries and judgements of them.

They are published as a snapshot in a folder of the repository's own: immutable, named by the hash of its content, with
a pointer to the newest one. The corpus merges these with its other sources. Knows no Dagster.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import polars as pl

from shared_ops.data import tables
from shared_ops.data.text import SHARES, split_of

Row: TypeAlias = Mapping[str, Any]
COLUMNS = {
    "documents": ("doc_id", "title", "text", "url", "metadata"),
    "queries": ("query_id", "text", "split"),
    "qrels": ("query_id", "doc_id", "grade"),
}
"""What a row of each table may have."""


class SourceRowError(ValueError):
    """A row that has something that no table takes; the message says which, and what was expected."""


@dataclass(frozen=True)
class SourceRows:
    """What was read at a source: the rows of its tables, each with the names of its columns."""

    documents: Sequence[Row]
    """doc_id, text; and, where there are any, title, url, and metadata: a dict of what else is known."""
    queries: Sequence[Row] = field(default=())
    """query_id, text; and split (train, dev, test), which a hash of the text decides where there is none."""
    qrels: Sequence[Row] = field(default=())
    """query_id, doc_id; and grade, a whole number above 0, which is 1 where there is none."""


def typed_tables(rows: SourceRows, source: str) -> dict[str, pl.DataFrame]:
    """The tables of a snapshot of these rows; what their values are is checked when they are published.

    Raises:
        SourceRowError: when a row has a column that is not read, or metadata that are no dict.
        tables.TableError: when a value is not of its column's type.
    """
    for table in COLUMNS:
        _refuse_unread(table, getattr(rows, table))
    completed = {
        "documents": [{"title": "", "source": source, **row, "metadata": _json(row)} for row in rows.documents],
        "queries": [{"source": source, **row, "split": _split(row)} for row in rows.queries],
        "qrels": [{"grade": 1, **row} for row in rows.qrels],
    }
    made = {table: tables.typed(table, content) for table, content in completed.items()}
    return {**made, "slices": tables.empty("slices")}


def _refuse_unread(table: str, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows, start=1):
        if unread := sorted(map(str, row.keys() - set(COLUMNS[table]))):
            raise SourceRowError(
                f"Row {number} of {table} has {', '.join(unread)}, which nothing reads. Expected some of "
                f"{', '.join(COLUMNS[table])}; what else is known of a document belongs into its metadata."
            )


def _json(row: Row) -> str:
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        came = type(metadata).__name__
        raise SourceRowError(f"The metadata of document {row.get('doc_id')!r} are a {came}: expected a dict.")
    return json.dumps(metadata, sort_keys=True, ensure_ascii=False, default=str)


def _split(row: Row) -> Any:
    return row.get("split") or split_of(str(row.get("text", "")), SHARES)
