"""Reads the rows of JSONL, CSV, TSV and Parquet files, and reports bad lines with their numbers.

Knows file formats, not what the columns mean.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import IO, Any, Literal, TypeAlias

import polars as pl

from repos.corpus.sources import foreign
from repos.corpus.sources.collected import Collected, Row, SourceError
from repos.corpus.sources.files import opened, unreadable
from repos.corpus.sources.values import Rounded, is_utf8
from repos.corpus.sources.wanted import WantedColumns

Format = Literal["jsonl", "csv", "tsv", "parquet"]
_ENDINGS: dict[str, Format] = {
    "jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "tsv", "parquet": "parquet",
}  # fmt: skip
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(rf"sep=[{_DELIMITERS}]")
"""The line that Excel puts above a header to name the delimiter."""
_HEAD = 65536
"""How many first bytes of a file are looked at to tell its format and how its lines end."""
_HEADER_LINES = 20
"""How many lines a header may span, where quoted names hold line ends."""
_FIRST_LINES = 20
"""How many lines below the header are looked at, besides it, to tell whether a space follows each comma."""
_EXACT_BELOW: dict[pl.DataType, int] = {pl.Float16(): 2**11, pl.Float32(): 2**24}
"""For each type of a Parquet column that is narrower than a Python float: two whole numbers from here on can be one."""
_OUT_OF_PLACE = "a quotation mark or a line end is out of place; quote whole fields, a space after all commas or none"

Numbered: TypeAlias = Iterable[tuple[int, list[str] | None]]
"""For each row the number of its first line, and its fields, None where the row is broken."""


def rows(
    url: str, form: Format | None, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    """Every readable row of a file, with its place (URL and line or row).

    With `form` None, the name's ending tells the format. A CSV file may have commas, semicolons, tabs or bars between
    its fields, and any line ends: its header tells which. A JSONL file has no header: each required column must be in
    at least one row. Bad lines are rejected into `collected` under `table`: "broken line" (not JSON, or a
    wrong number of fields) and "wrong encoding" (not UTF-8). Every row counts in `collected.rows_read`.

    Raises:
        SourceError: where the file is missing, cannot be read, is of another format, changes while it is read, lacks a
            column, or has one twice.
    """
    source = collected.report.name
    with opened(url, source) as file:
        form = form or _format_of(file, url, source)
        if form == "parquet":
            yield from _parquet(file, url, collected, table, wanted)
            return
        with text_lines(file, url, source, form) as lines:
            match form:
                case "jsonl":
                    yield from _json_lines(lines, url, collected, table, wanted)
                case "tsv":
                    yield from _tab_separated(lines, url, collected, table, wanted)
                case "csv":
                    yield from _comma_separated(lines, url, collected, table, wanted)


def text_lines(file: IO[bytes], url: str, source: str, form: str) -> io.TextIOWrapper:
    """The lines of a text file. A byte that is no UTF-8 becomes a lone surrogate, which no UTF-8 text holds.

    Raises:
        SourceError: where its first bytes show that it is of another format than `form`.
    """
    head = _head(file, url, source, form)
    # A line feed always ends a line. A carriage return alone ends one only where the first line ends so: elsewhere a
    # stray one would cut a row in two. JSON has neither within a string.
    outside = head if form != "csv" else re.sub(rb'"[^"]*("|$)', b"", head)
    first = re.search(rb"\r\n|\n|\r", outside)
    newline = "" if form == "jsonl" or (first and first[0] == b"\r") else "\n"
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def tab_fields(line: str) -> list[str] | None:
    """The fields of a line of TSV, where quotation marks mean nothing; None where a carriage return is within it."""
    content = line.rstrip("\r\n")
    return None if "\r" in content else content.split("\t")


def as_rows(
    header: Sequence[str], numbered: Numbered, url: str, collected: Collected, table: str
) -> Iterator[tuple[str, Row]]:
    """Rows as names of the header to fields, with their places; bad rows are rejected, empty ones skipped."""
    for number, fields in numbered:
        if fields is not None and not any(fields):
            continue
        if collected.enough(table):
            return
        where = f"{url}, line {number}"
        collected.rows_read[table] += 1
        if fields is None:
            collected.reject(table, "broken line", f"{where}: {_OUT_OF_PLACE}")
        elif len(fields) != len(header):
            collected.reject(table, "broken line", f"{where}: fields: {len(fields)}, columns: {len(header)}")
        elif not is_utf8("".join(fields)):
            collected.reject(table, "wrong encoding", where)
        elif [field.strip().removeprefix("\ufeff") for field in fields] == list(header):
            collected.reject(table, "the header line again", where)
        else:
            yield where, dict(zip(header, fields, strict=True))


def _head(file: IO[bytes], url: str, source: str, form: str) -> bytes:
    head = file.read(_HEAD)
    file.seek(0)
    if explanation := foreign.explanation(head, form):
        raise SourceError(f"Source {source!r}: {url} cannot be read as {form}: {explanation}")
    return head


def format_of_name(url: str) -> Format | None:
    """The format that the ending of a file's name tells, None where it tells none."""
    endings = url.partition("::")[0].rpartition("/")[2].lower().split(".")[1:]
    # outer endings name a compression
    return next((_ENDINGS[ending] for ending in reversed(endings) if ending in _ENDINGS), None)


def _format_of(file: IO[bytes], url: str, source: str) -> Format:
    if form := format_of_name(url):
        return form
    explanation = foreign.explanation(file.read(_HEAD), None)
    advice = ". Write `format:` and one of jsonl, csv, tsv, parquet beside its path."
    rest = f", and {explanation}" if explanation else advice
    raise SourceError(f"Source {source!r}: the name of {url} does not tell its format{rest}")


def _json_lines(
    lines: Iterable[str], url: str, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    names: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if collected.enough(table):
            break
        where = f"{url}, line {number}"
        collected.rows_read[table] += 1
        if not is_utf8(line):
            collected.reject(table, "wrong encoding", where)
            continue
        try:
            row = json.loads(line.removeprefix("\ufeff"), object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            collected.reject(table, "broken line", f"{where}: {str(getattr(error, 'msg', error)).removesuffix(' at')}")
            continue
        if isinstance(row, dict):
            names |= dict.fromkeys(row)
            yield where, row
        else:
            collected.reject(table, "broken line", f"{where}: no object with names")
    # A row beyond the cut may have a missing column, so a cut file is checked only where all rows read are bad.
    if names and (table not in collected.cut or collected.all_bad(table)):
        wanted.check(list(names), url, collected.report.name)


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a name stands twice")
    return row


def _tab_separated(
    lines: Iterable[str], url: str, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    blank, lines = _after_blank(iter(lines))
    numbered = ((number, tab_fields(line)) for number, line in enumerate(lines, start=blank + 1))
    header = [name.strip() for name in next(numbered, (0, []))[1] or []]
    wanted.check_header(header, "\t", url, collected.report.name)
    yield from as_rows(header, numbered, url, collected, table)


def _comma_separated(
    lines: Iterator[str], url: str, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    source = collected.report.name
    csv.field_size_limit(2**31 - 1)
    blank, lines = _after_blank(lines)
    header_lines: list[str] = []
    for line in lines:
        header_lines.append(line)
        if "".join(header_lines).count('"') % 2 == 0 or len(header_lines) == _HEADER_LINES:
            break
    delimiter, header = _header(header_lines, url, source, wanted)
    wanted.check_header(header, delimiter, url, source)
    # A quotation mark after a space begins no quotation, unless a space follows every comma, either of the header,
    # which people write by hand, or of the first rows.
    first = list(islice(lines, _FIRST_LINES))
    spaced = _is_spaced("".join(header_lines), delimiter) or _is_spaced("".join(first), delimiter)
    numbered = _csv_rows(chain(first, lines), delimiter, spaced, blank + len(header_lines), url, source)
    yield from as_rows(header, numbered, url, collected, table)


def _after_blank(lines: Iterator[str]) -> tuple[int, Iterator[str]]:
    """How many lines before the header are blank or only name the delimiter, and the lines from the header on."""
    for number, line in enumerate(lines):
        if line.strip(f'{_DELIMITERS} "\r\n') and not _SEPARATOR_LINE.fullmatch(line.strip()):
            return number, chain([line], lines)
    return 0, lines


def _header(lines: list[str], url: str, source: str, wanted: WantedColumns) -> tuple[str, list[str]]:
    """A header's delimiter and its names: a delimiter that gives all required names, else the one that gives most.

    Raises:
        SourceError: where neither is possible because of a misplaced quotation mark.
    """
    readings: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        with suppress(csv.Error):
            names = next(csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True), [])
            readings[delimiter] = [name.strip() for name in names]
    for delimiter, names in readings.items():
        if set(wanted.required) <= set(names):
            return delimiter, names
    if len(readings) < len(_DELIMITERS):
        raise SourceError(
            f"Source {source!r}: {url} should begin with a line that names its columns, and a quotation mark in that "
            f"line is not in its place: {lines[0].strip()!r:.200}. Put each name into a pair of quotation marks "
            "or into none."
        )
    return max(readings.items(), key=lambda each: len(each[1]))


def _is_spaced(text: str, delimiter: str) -> bool:
    """Whether a space follows each delimiter outside of quotations, unless the field after it is empty."""
    outside = re.sub(r'"[^"]*("|$)', '""', text)
    followed = re.findall(rf"{re.escape(delimiter)}([^\r\n{re.escape(delimiter)}])", outside)
    return bool(followed) and set(followed) == {" "}


def _csv_rows(
    lines: Iterator[str], delimiter: str, spaced: bool, before: int, url: str, source: str
) -> Iterator[tuple[int, list[str] | None]]:
    """For each row the number of its first line, and its fields; None for a broken row.

    `before` is how many lines of the file precede `lines`. Unless a space follows every delimiter (`spaced`), a row is
    broken, too, where a field is a quotation after a space.
    """
    row: list[str] = []
    reader = csv.reader(_recorded(lines, row), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    while True:
        row.clear()
        start = before + reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):  # the open quotation may hold any number of rows
                raise unreadable(url, source, ValueError(f"the row of line {start} never ends")) from error
            yield start, None
        else:
            yield start, None if _quotes_after_space(fields, row, delimiter) else fields


def _recorded(lines: Iterator[str], row: list[str]) -> Iterator[str]:
    """The lines as they are. Each is appended to `row` when it is read; whoever reads a new row empties `row` first."""
    for line in lines:
        row.append(line)
        yield line


def _quotes_after_space(fields: list[str], row: list[str], delimiter: str) -> bool:
    """Whether a field of the row is a quotation after a space, which would give other fields if read as one.

    `fields` are those that were read from the row's lines, `row`, with the space and the quotation marks in them.
    """
    if not any(field.startswith(" ") and field.lstrip(" ").startswith('"') for field in fields):
        return False
    with suppress(csv.Error):
        unquoted = next(csv.reader(row, delimiter=delimiter, strict=True, skipinitialspace=True))
        return [field.lstrip(" ") for field in unquoted] != [field.lstrip(" ") for field in fields]
    return False  # words follow the quotation, so it is part of a text


def _parquet(
    file: IO[bytes], url: str, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    source = collected.report.name
    _head(file, url, source, "parquet")
    try:
        frame = pl.read_parquet(file, n_rows=None if collected.most is None else collected.most + 1)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # polars panics at some broken bytes
        raise unreadable(url, source, error) from None
    wanted.check(frame.columns, url, source)
    exact_below = {name: _EXACT_BELOW[kind] for name, kind in frame.schema.items() if kind in _EXACT_BELOW}
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        if collected.enough(table):
            return
        collected.rows_read[table] += 1
        yield f"{url}, row {number}", row | _rounded(row, exact_below)


def _rounded(row: Row, exact_below: Mapping[str, int]) -> Row:
    """The fields of a row that are too large for their columns' types to hold them exactly, marked as such."""
    narrow = {name: row[name] for name in exact_below if row[name] is not None}
    return {name: Rounded(value) for name, value in narrow.items() if abs(value) >= exact_below[name]}
