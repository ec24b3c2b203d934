"""The tables that repositories exchange: how they are checked, read and written. Their columns are in schemas.py.

Knows no Dagster.
"""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import polars as pl

from shared_ops.data import storage

SCHEMA_VERSION = 1
MAX_ID_CHARACTERS = 1024
"""The greatest length of a document's or a query's id."""

Hits: TypeAlias = list[tuple[str, float]]
"""One query's hits: (doc_id, score), best first."""


class TableError(ValueError):
    """A table that does not hold to its contract."""

    def __init__(self, table: str, failures: pl.DataFrame) -> None:
        self.table = table
        self.failures = failures
        """Columns: column, check, failure_case, index (the row), as Pandera names them."""
        wrong = failures.group_by("column", "check").len().sort("len", descending=True)
        listed = "; ".join(f"{row['column']}: {row['check']} ({row['len']} rows)" for row in wrong.head(5).to_dicts())
        super().__init__(
            f"Table {table!r} does not hold to its schema: {listed}. "
            f"Expected columns {list(_schema(table).columns)}; mend the source that made it."
        )


def _schema(table: str) -> Any:
    from shared_ops.data.schemas import SCHEMAS

    return SCHEMAS[table]


def key(table: str) -> list[str]:
    """The columns that together name a row of this table; none where no row has a name."""
    return list(_schema(table).unique or [])


def check(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Return `frame` if it holds to the schema of `table`.

    Raises:
        TableError: with every failing row, when it does not.
    """
    from pandera.errors import SchemaErrors

    try:
        checked: pl.DataFrame = _schema(table).validate(frame, lazy=True)
        return checked
    except SchemaErrors as error:
        failures = error.failure_cases.select(pl.col("column", "check", "failure_case", "index").cast(pl.String))
        raise TableError(table, failures) from error


def empty(table: str, optional: Collection[str] = ()) -> pl.DataFrame:
    """A table of this schema without rows. Of the optional columns it has those in `optional`."""
    columns = _schema(table).columns.items()
    return pl.DataFrame(schema={name: c.dtype.type for name, c in columns if c.required or name in optional})


def make(table: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """A checked table from rows (column name to value).

    Raises:
        TableError: when a row does not hold to the schema.
    """
    return check(table, typed(table, rows)) if rows else empty(table)


def typed(table: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """A table from rows, with its schema's columns and types; of the values nothing else is checked.

    Raises:
        TableError: when a value is not of its column's type.
    """
    columns = {name for row in rows for name, value in row.items() if value is not None}
    try:
        return pl.DataFrame(list(rows), schema=empty(table, columns).schema)
    except (pl.exceptions.PolarsError, UnicodeEncodeError) as error:  # a value that its column's type cannot hold
        failure = {"column": "a value", "check": str(error).splitlines()[0], "failure_case": None, "index": None}
        raise TableError(table, pl.DataFrame([failure], schema=dict.fromkeys(failure, pl.String))) from error


def hits_table(query_ids: Sequence[str], results: Sequence[Hits]) -> pl.DataFrame:
    """The `hits` table of many queries' results; each query's hits are ranked in the order of their list (1 = best).

    Raises:
        TableError: when a score is not finite, or a document stands twice under one query.
    """
    rows = [
        (query_id, doc_id, float(score), rank)
        for query_id, hits in zip(query_ids, results, strict=True)
        for rank, (doc_id, score) in enumerate(hits, start=1)
    ]
    return check("hits", pl.DataFrame(rows, schema=empty("hits").schema, orient="row"))


def without_own(hits: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """The `hits` table without the documents that are the queries themselves (`own_doc_id`), ranked anew."""
    if "own_doc_id" not in queries.columns:
        return hits
    own = queries.select("query_id", pl.col("own_doc_id").alias("doc_id")).drop_nulls()
    return reranked(hits.join(own, on=["query_id", "doc_id"], how="anti"))


def reranked(hits: pl.DataFrame) -> pl.DataFrame:
    """A `hits` table from which rows were removed, in its old order, with ranks that count from 1 again."""
    return hits.sort("query_id", "rank").with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias("rank"))


def hits_by_query(frame: pl.DataFrame) -> dict[str, Hits]:
    """Each query's hits, best first: the inverse of `hits_table`."""
    grouped = frame.sort("query_id", "rank").group_by("query_id", maintain_order=True).agg("doc_id", "score")
    return {
        row["query_id"]: list(zip(row["doc_id"], row["score"], strict=True)) for row in grouped.iter_rows(named=True)
    }


def served_hits(text: str) -> dict[str, Hits]:
    """Each family's hits, from a value of the column `hits` of `asked` and `requests`.

    `text` is JSON: {family: {"doc_ids": [...], "scores": [...]}}.
    """
    lists: dict[str, dict[str, list[Any]]] = json.loads(text)
    return {family: list(zip(columns["doc_ids"], columns["scores"], strict=True)) for family, columns in lists.items()}


def json_lines(frame: pl.DataFrame) -> bytes:
    """The rows as JSON lines, from which content hashes are computed: a Parquet file's bytes depend on its writer."""
    buffer = io.BytesIO()
    frame.write_ndjson(buffer)
    return buffer.getvalue()


def read(url: str, columns: list[str] | None = None) -> pl.DataFrame:
    """The Parquet table at an fsspec URL, or some of its columns.

    Raises:
        FileNotFoundError: when there is none.
    """
    content = storage.read_bytes(url)
    if content is None:
        raise FileNotFoundError(f"No table at {url}.")
    return pl.read_parquet(io.BytesIO(content), columns=columns)


def write(url: str, frame: pl.DataFrame) -> None:
    """Replace the Parquet table at an fsspec URL in one step."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    storage.write_atomic(url, buffer.getvalue())
