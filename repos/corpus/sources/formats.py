"""Rows of JSONL, CSV, TSV and Parquet files, read once, each bad line told with its number.

Knows file formats, not what the columns mean.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import IO, Any, Literal, TypeAlias

import polars as pl

from repos.corpus.sources import foreign
from repos.corpus.sources.collected import Collected, Row, SourceError
from repos.corpus.sources.files import opened, unreadable
from repos.corpus.sources.values import is_utf8
from repos.corpus.sources.wanted import WantedColumns

Format = Literal["jsonl", "csv", "tsv", "parquet"]
_ENDINGS: dict[str, Format] = {
    "jsonl": "jsonl", "ndjson": "jsonl", "csv": "csv", "tsv": "tsv", "parquet": "parquet",
}  # fmt: skip
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(rf"sep=[{_DELIMITERS}]")
"""What Excel writes, and reads, above a header."""
_HEAD = 65536
"""How many bytes tell what a file is, and how its lines end."""
_HEADER_LINES = 20
"""Over how many lines a header may go on, with line ends in its quotation marks."""
_FIRST_LINES = 20
"""How many lines after the header tell, beside it, whether spaces follow the file's commas."""
_OUT_OF_PLACE = "a quotation mark or a line end is out of place; quote whole fields, a space after all commas or none"

Numbered: TypeAlias = Iterable[tuple[int, list[str] | None]]
"""Each row's first line and its fields, None where they cannot be told apart."""


def rows(
    url: str, form: Format | None, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    """Every readable row of a file, with the place where it stands.

    `form` None: the name's ending tells. A CSV file may have commas, semicolons, tabs or bars between its fields, and
    any line ends: its header tells. A JSONL file has no header: there some row must have each required column, and each
    row answers for itself. Bad lines are rejected into `collected` under `table`: "broken line" (not JSON, or a wrong
    number of fields) and "wrong encoding" (not UTF-8). Every row counts in `collected.rows_read`.

    Raises:
        SourceError: where the file is missing, cannot be read, is of another kind, changes while it is read, lacks a
            column, or has one twice.
    """
    source = collected.report.name
    with opened(url, source) as file:
        form = form or _format_of(file, url, source)
        match form:
            case "jsonl":
                yield from _json_lines(text_lines(file, url, source, form), url, collected, table, wanted)
            case "parquet":
                yield from _parquet(file, url, collected, table, wanted)
            case "tsv":
                yield from _tab_separated(text_lines(file, url, source, form), url, collected, table, wanted)
            case "csv":
                yield from _comma_separated(text_lines(file, url, source, form), url, collected, table, wanted)


def text_lines(file: IO[bytes], url: str, source: str, form: str) -> io.TextIOWrapper:
    """The lines of a file of text. A byte that is no UTF-8 becomes a lone surrogate, which no UTF-8 text holds.

    Raises:
        SourceError: where its beginning says that it is something else than `form`.
    """
    head = _head(file, url, source, form)
    # A line feed ends a line wherever one does; a carriage return alone only in a file that has no other line ends, or
    # a stray one would cut a row in two. JSON has neither within a string.
    outside = head if form != "csv" else re.sub(rb'"[^"]*("|$)', b"", head)
    first = re.search(rb"\r\n|\n|\r", outside)
    newline = "" if form == "jsonl" or (first and first[0] == b"\r") else "\n"
    return io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def tab_fields(line: str) -> list[str] | None:
    """The fields of a line, in which a quotation mark is a quotation mark; None where a line end stands within it."""
    content = line.rstrip("\r\n")
    return None if "\r" in content else content.split("\t")


def as_rows(
    header: Sequence[str], numbered: Numbered, url: str, collected: Collected, table: str
) -> Iterator[tuple[str, Row]]:
    """Rows by the header's names, with their places; bad ones are rejected, and rows of nothing passed over."""
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
    if other := foreign.told(head, form):
        raise SourceError(f"Source {source!r}: {url} cannot be read as {form}: {other}")
    return head


def format_of_name(url: str) -> Format | None:
    """The format that a file's name tells by its ending, None where it tells none."""
    endings = url.partition("::")[0].rpartition("/")[2].lower().split(".")[1:]
    # outer endings name a compression
    return next((_ENDINGS[ending] for ending in reversed(endings) if ending in _ENDINGS), None)


def _format_of(file: IO[bytes], url: str, source: str) -> Format:
    if form := format_of_name(url):
        return form
    other = foreign.told(file.read(_HEAD), None)
    told = f", and {other}" if other else ". Write `format:` and one of jsonl, csv, tsv, parquet beside its path."
    raise SourceError(f"Source {source!r}: the name of {url} does not tell its format{told}")


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
    # A later row may have a column, unless those that were looked at all are bad.
    if names and (table not in collected.cut or collected.all_bad(table)):
        wanted.check(list(names), url, collected.report.name)


def _object(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _tab_separated(
    lines: Iterable[str], url: str, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    blank, lines = _after_blank(iter(lines))
    numbered = ((number, tab_fields(line)) for number, line in enumerate(lines, start=blank + 1))
    header = [name.strip() for name in next(numbered, (0, []))[1] or []]
    wanted.check(header, f"the header line of {url}", collected.report.name)
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
    wanted.check(header, f"the header line of {url}", source)
    # A quotation mark after a space begins no quotation, unless every comma has a space after it: of the header, which
    # people write by hand, or of the first rows.
    first = list(islice(lines, _FIRST_LINES))
    spaced = _is_spaced("".join(header_lines), delimiter) or _is_spaced("".join(first), delimiter)
    numbered = _csv_rows(chain(first, lines), delimiter, spaced, blank + len(header_lines), url, source)
    yield from as_rows(header, numbered, url, collected, table)


def _after_blank(lines: Iterator[str]) -> tuple[int, Iterator[str]]:
    """How many lines before the header hold nothing, or only say what parts the fields, and the lines from there on."""
    for number, line in enumerate(lines):
        if line.strip(f'{_DELIMITERS} "\r\n') and not _SEPARATOR_LINE.fullmatch(line.strip()):
            return number, chain([line], lines)
    return 0, lines


def _header(lines: list[str], url: str, source: str, wanted: WantedColumns) -> tuple[str, list[str]]:
    """What separates the names of a header, and the names: those that are wanted if they can be had, or the most.

    Raises:
        SourceError: where a quotation mark is not in its place.
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
    """Whether a space follows each delimiter outside of quotations that has anything after it."""
    outside = re.sub(r'"[^"]*("|$)', '""', text)
    followed = re.findall(rf"{re.escape(delimiter)}([^\r\n{re.escape(delimiter)}])", outside)
    return bool(followed) and set(followed) == {" "}


def _csv_rows(
    lines: Iterator[str], delimiter: str, spaced: bool, before: int, url: str, source: str
) -> Iterator[tuple[int, list[str] | None]]:
    """Each row's first line and its fields; None for a row that is broken, or has a quotation after a space."""
    row: list[str] = []
    reader = csv.reader(_kept(lines, row), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    while True:
        row.clear()
        start = before + reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):  # what follows the open quotation mark may be any number of rows
                raise unreadable(url, source, ValueError(f"the row of line {start} never ends")) from error
            yield start, None
        else:
            yield start, None if _quotes_after_space(fields, row, delimiter) else fields


def _kept(lines: Iterator[str], row: list[str]) -> Iterator[str]:
    """The lines, each of which is also put into `row`."""
    for line in lines:
        row.append(line)
        yield line


def _quotes_after_space(fields: list[str], row: list[str], delimiter: str) -> bool:
    """Whether a field that begins with a space and a quotation mark is, in the lines `row`, a quotation of its own."""
    if not any(field.startswith(" ") and field.lstrip(" ").startswith('"') for field in fields):
        return False
    with suppress(csv.Error):
        read = next(csv.reader(row, delimiter=delimiter, strict=True, skipinitialspace=True))
        return [field.lstrip(" ") for field in read] != [field.lstrip(" ") for field in fields]
    return False  # a text in which words follow the quotation


def _parquet(
    file: IO[bytes], url: str, collected: Collected, table: str, wanted: WantedColumns
) -> Iterator[tuple[str, Row]]:
    source = collected.report.name
    _head(file, url, source, "parquet")
    try:
        frame = pl.read_parquet(file, n_rows=None if collected.most is None else collected.most + 1)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a panic: of bytes that it trusted
        raise unreadable(url, source, error) from None
    wanted.check(frame.columns, url, source)
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        if collected.enough(table):
            return
        collected.rows_read[table] += 1
        yield f"{url}, row {number}", row
