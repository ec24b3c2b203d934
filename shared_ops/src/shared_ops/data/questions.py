"""Tables of queries to be answered in bulk: files at any fsspec URL, or what a SQL statement gives.

They are read once, in a stream, into a Parquet file of this machine, which is then read in parts: so memory stays
bounded whatever their number. Knows no Dagster.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import polars as pl

from shared_ops.data.text import cleaned


def _json_lines(path: Path) -> pl.LazyFrame:
    """The lines' values as texts: a column may hold numbers in some lines and words in others, or be late to come."""
    names = pl.scan_ndjson(path, infer_schema_length=None).collect_schema().names()
    return pl.scan_ndjson(path, schema=dict.fromkeys(names, pl.String))


READERS: dict[str, Callable[[Path], pl.LazyFrame]] = {
    ".parquet": pl.scan_parquet,
    ".csv": lambda path: pl.scan_csv(path, infer_schema=False),
    ".tsv": lambda path: pl.scan_csv(path, infer_schema=False, separator="\t", quote_char=None),
    ".jsonl": _json_lines,
}
"""What reads a file, by the ending of its name."""
READ_ROWS = 50_000
"""Rows that a database's cursor hands over at once."""
SHOWN = 3


class QuestionsError(ValueError):
    """A table of queries that cannot be read, or lacks what it needs."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a table of queries."""

    query_id: str = "query_id"
    text: str = "text"

    def of(self, frame: pl.LazyFrame, place: str) -> pl.LazyFrame:
        """These columns under our names, as texts.

        Raises:
            QuestionsError: when one is missing.
        """
        self.check(frame.collect_schema().names(), place)
        return frame.select(
            query_id=pl.col(self.query_id).cast(pl.String), text=pl.col(self.text).cast(pl.String).fill_null("")
        )

    def check(self, present: Sequence[str], place: str) -> None:
        """See that these columns are present.

        Raises:
            QuestionsError: when one is not.
        """
        if lacking := [name for name in (self.query_id, self.text) if name not in present]:
            raise QuestionsError(
                f"{place}: expected the columns {self.query_id!r} and {self.text!r}, and {' and '.join(lacking)} "
                f"is not among {list(present)}. Name yours: COLUMNS=<id>,<text> (id_column and text_column in Dagit)."
            )


@dataclass(frozen=True)
class Questions:
    """Queries in a Parquet file: columns query_id and text, each id once."""

    path: Path
    count: int

    def parts(self, rows: int) -> Iterator[pl.DataFrame]:
        """The queries in order, `rows` at a time; texts as models are asked them, "" where nothing is left of one."""
        frame = pl.scan_parquet(self.path)
        for first in range(0, self.count, rows):
            part = frame.slice(first, rows).collect()
            yield part.with_columns(pl.col("text").map_elements(cleaned, pl.String))


def of_file(url: str, columns: Columns, scratch: Path) -> Questions:
    """The queries of the file at an fsspec URL; its ending tells its format, one of READERS.

    Raises:
        QuestionsError: when it is not there, cannot be read, or lacks a column or an id.
    """
    ending = _ending(url)
    copy = scratch / f"given{ending}"
    with _reading(url, copy):
        with fsspec.open(url, "rb") as source, copy.open("wb") as target:
            while block := source.read(1 << 24):
                target.write(block)
        return _kept([columns.of(READERS[ending](copy), url)], scratch, url)


def check_file(path: Path, columns: Columns) -> None:
    """See that a file of this machine is there, can be read by its ending, and has the columns.

    Raises:
        QuestionsError: when it does not.
    """
    ending = _ending(str(path))
    with _reading(str(path), path):
        path.open("rb").close()
        columns.of(READERS[ending](path), str(path))


def _ending(url: str) -> str:
    ending = Path(url).suffix.lower()
    if ending not in READERS:
        raise QuestionsError(f"{url}: expected a file whose name ends in one of {', '.join(READERS)}.")
    return ending


@contextmanager
def _reading(url: str, copy: Path) -> Iterator[None]:
    """Tell why the file at an fsspec URL, of which `copy` is read, cannot be read.

    Raises:
        QuestionsError: when it cannot.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        missing = "there is no such file" if isinstance(error, FileNotFoundError) else None
        why = missing or str(error).partition("\n")[0].replace(str(copy), "it")
        raise QuestionsError(f"{url} cannot be read as {_ending(url)[1:]}: {why}") from error


def of_statement(database: str, statement: str, columns: Columns, scratch: Path) -> Questions:
    """The queries that a statement gives in the database at a SQLAlchemy URL.

    Raises:
        QuestionsError: when it cannot be reached or read, or the result lacks a column or an id.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    place = "the SQL statement"
    try:
        engine = create_engine(make_url(database))
        try:
            with engine.connect() as connection:
                # Sent as it was typed: a colon or a percent sign begins no parameter.
                asked = connection.execution_options(stream_results=True, no_parameters=True)
                result = asked.exec_driver_sql(statement)
                if not result.returns_rows:
                    raise QuestionsError(f"{place} gives no rows. Write one like SELECT.")
                columns.check(list(result.keys()), place)
                rows = result.mappings().partitions(READ_ROWS)
                return _kept((_texts(part, columns) for part in rows), scratch, place)
        finally:
            engine.dispose()
    except QuestionsError:
        raise
    except (SQLAlchemyError, ImportError, ValueError) as error:
        # From None, and without the driver's own words: the password may stand in them.
        raise QuestionsError(
            f"{place} could not be asked ({type(error).__name__}): check the database's address, its driver, and the "
            "statement."
        ) from None


def _texts(rows: Iterable[Any], columns: Columns) -> pl.LazyFrame:
    """Rows of a database as texts, whatever their types."""
    texts = [
        [None if row[name] is None else str(row[name]) for name in (columns.query_id, columns.text)] for row in rows
    ]
    frame = pl.LazyFrame(texts, schema={"query_id": pl.String, "text": pl.String}, orient="row")
    return frame.with_columns(pl.col("text").fill_null(""))


def _kept(frames: Iterable[pl.LazyFrame], scratch: Path, place: str) -> Questions:
    """Write the frames, one after another, into one Parquet file, and check their ids."""
    pieces = []
    for number, frame in enumerate(frames):
        pieces.append(scratch / f"piece-{number:06}.parquet")
        frame.sink_parquet(pieces[-1])
    if not pieces:
        raise QuestionsError(f"{place} gives no queries.")
    path = scratch / "questions.parquet"
    pl.scan_parquet(pieces).sink_parquet(path)
    for piece in pieces:
        piece.unlink()
    ids = pl.scan_parquet(path).select("query_id")
    count, missing, different = (
        ids.select(
            count=pl.len(),
            missing=(pl.col("query_id").fill_null("") == "").sum(),
            different=pl.col("query_id").n_unique(),
        )
        .collect()
        .row(0)
    )
    if not count:
        raise QuestionsError(f"{place} gives no queries.")
    if missing:
        raise QuestionsError(f"{place}: {missing:,} of {count:,} queries have no id. Each needs one of its own.")
    if different < count:
        twice = ids.group_by("query_id").len().filter(pl.col("len") > 1).head(SHOWN).collect()["query_id"].to_list()
        raise QuestionsError(
            f"{place}: expected each query's id once, and {count - different:,} of {count:,} come again, as {twice}."
        )
    return Questions(path, count)
