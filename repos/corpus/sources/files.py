"""Rows of files anywhere: JSONL, CSV, TSV and Parquet at fsspec URLs, read once, each bad line told with its number.

Knows file formats, not what the columns mean.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Literal

import fsspec
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from repos.corpus.sources.collected import Collected, Row, SourceError
from repos.corpus.sources.text import is_utf8
from shared_ops import storage

Format = Literal["jsonl", "csv", "tsv", "parquet"]
_ENDINGS: dict[str, Format] = {
    "jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "tsv", "parquet": "parquet",
}  # fmt: skip


class FileState(BaseModel):
    """What was seen of a file."""

    model_config = ConfigDict(frozen=True)

    stamp: str = Field(description="the hash of what its store says of it: size, times, entity tag")
    content: str = Field(description="the hash of its content; the stamp where reading it all would be a download")
    modified: float | None = Field(default=None, description="when it was last written, of a local file")


def exists(url: str, source: str) -> bool:
    """Whether there is a file.

    Raises:
        SourceError: where that cannot be told: no access, or a scheme that no installed package reads.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        return bool(filesystem.exists(path))
    except (OSError, ValueError, ImportError) as error:
        raise _unreadable(url, source, error) from error


def state(url: str, source: str, known: FileState | None = None) -> FileState | None:
    """The file as it is now, None when it is not there. Its content is read where its stamp is not the `known` one.

    Raises:
        SourceError: where that cannot be told: no access, or a scheme that no installed package reads.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()
        info = filesystem.info(path)
        stamp = hashlib.sha256(json.dumps(info, sort_keys=True, default=str).encode()).hexdigest()
        if known is not None and known.stamp == stamp:
            return known
        local = storage.local_path(url)
        content = stamp if local is None else storage.sha256(local)
        return FileState(stamp=stamp, content=content, modified=None if local is None else info["mtime"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ImportError) as error:
        raise _unreadable(url, source, error) from error


def rows(
    url: str, form: Format | None, collected: Collected, table: str, columns: Sequence[str] = ()
) -> Iterator[tuple[str, Row]]:
    """Every readable row of a file, with the place where it stands.

    `form` None: the name's ending tells. `columns` must be there in a file that has a header; a JSONL file has none, so
    there each row answers for itself. Bad lines are rejected into `collected` under `table`: "broken line" (not JSON,
    or a wrong number of fields) and "wrong encoding" (not UTF-8). Every row counts in `collected.rows_read`.

    Raises:
        SourceError: where the file is missing, cannot be read, changes while it is read, or lacks a column.
    """
    source = collected.report.name
    form = form or _format_of(url, source)
    with _opened(url, source) as file:
        if form == "jsonl":
            yield from _json_lines(file, url, collected, table)
        elif form == "parquet":
            yield from _parquet(file, url, collected, table, columns)
        else:
            yield from _separated(file, url, collected, table, columns, tabs=form == "tsv")


def need(columns: Sequence[str], there: Sequence[str], what: str, source: str) -> None:
    """Check that a table has the columns that the sources file names.

    Raises:
        SourceError: naming those that it lacks.
    """
    if missing := [column for column in columns if column not in there]:
        raise SourceError(
            f"Source {source!r}: {what} has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, there)) or 'none'}. Name its columns under `columns` in the sources file."
        )


def _format_of(url: str, source: str) -> Format:
    endings = url.rpartition("/")[2].lower().split(".")[1:]
    for ending in reversed(endings):  # outer endings name a compression
        if ending in _ENDINGS:
            return _ENDINGS[ending]
    raise SourceError(
        f"Source {source!r}: the name of {url} does not tell its format. Write `format:` and one of jsonl, csv, tsv, "
        "parquet beside its path in the sources file."
    )


@contextmanager
def _opened(url: str, source: str) -> Iterator[IO[bytes]]:
    """A file open for reading bytes, decompressed by its name's ending, and checked to have stayed the same file."""
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
        before = filesystem.ukey(path)
        with fsspec.open(url, "rb", compression="infer") as file:
            yield file
        filesystem.invalidate_cache()
        after = filesystem.ukey(path) if filesystem.exists(path) else None
    except FileNotFoundError as error:
        raise SourceError(f"Source {source!r}: {url} is not there. Check its path in the sources file.") from error
    except (OSError, EOFError, ValueError, ImportError) as error:
        raise _unreadable(url, source, error) from error
    if after != before:
        raise SourceError(
            f"Source {source!r}: {url} was {'changed' if after else 'removed'} while it was read. Nothing was "
            "published. Wait until whatever writes it has ended, then build again."
        )


def _unreadable(url: str, source: str, error: Exception) -> SourceError:
    return SourceError(
        f"Source {source!r}: {url} cannot be read: {type(error).__name__}: {error}. Check that it is there and whole, "
        "and that this process may read it; then build again."
    )


def _json_lines(file: IO[bytes], url: str, collected: Collected, table: str) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{url}, line {number}"
        collected.rows_read[table] += 1
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            collected.reject(table, "wrong encoding", where)
            continue
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield where, row
        else:
            collected.reject(table, "broken line", where)


def _separated(
    file: IO[bytes], url: str, collected: Collected, table: str, columns: Sequence[str], tabs: bool
) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(2**31 - 1)
    # A byte that is no UTF-8 becomes a lone surrogate, which no UTF-8 text holds: so its row is found.
    lines = (line.decode("utf-8", "surrogateescape") for line in file)
    # In a TSV file a quotation mark is a quotation mark.
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)
    header = [name.removeprefix("\ufeff").strip() for name in next(reader, [])]
    need(columns, header, f"the header line of {url}", collected.report.name)
    while True:
        start = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            if "end of data" in str(error):  # what follows the open quotation mark may be any number of rows
                raise _unreadable(
                    url, collected.report.name, ValueError(f"the row of line {start} never ends")
                ) from error
            fields = [""] * (len(header) + 1)
        if fields is None:
            return
        if not fields:
            continue
        where = f"{url}, line {start}"
        collected.rows_read[table] += 1
        if len(fields) != len(header):
            collected.reject(table, "broken line", where)
        elif not is_utf8("".join(fields)):
            collected.reject(table, "wrong encoding", where)
        else:
            yield where, dict(zip(header, fields, strict=True))


def _parquet(
    file: IO[bytes], url: str, collected: Collected, table: str, columns: Sequence[str]
) -> Iterator[tuple[str, Row]]:
    source = collected.report.name
    try:
        frame = pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise _unreadable(url, source, error) from error
    need(columns, frame.columns, url, source)
    collected.rows_read[table] += frame.height
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        yield f"{url}, row {number}", row
