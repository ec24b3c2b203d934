"""Reads files of judgements in the columns of published collections, BEIR's three or TREC's four.

query-id<TAB>corpus-id<TAB>score    BEIR: this header line, which may be missing or name its columns in another order
q1 0 d1 2                           TREC: query, iteration (not read), document, grade, between white space
"""

from collections.abc import Callable, Iterator
from itertools import chain

from repos.corpus.sources.collected import Collected, Row, SourceError
from repos.corpus.sources.files import opened
from repos.corpus.sources.formats import as_rows, tab_fields, text_lines
from repos.corpus.sources.values import FlawError, grade_of
from repos.corpus.sources.wanted import WantedColumns

BEIR = ["query-id", "corpus-id", "score"]
TREC = ["query-id", "iteration", "corpus-id", "score"]
_HEAD = 65536
"""How many bytes hold a file's first line."""


def judgements(url: str, collected: Collected) -> Iterator[tuple[str, Row]]:
    """Every readable row under BEIR's column names, with its place; bad lines are rejected under the table qrels.

    Raises:
        SourceError: where the file is missing, cannot be read, changes while it is read, or its first line is neither
            BEIR's nor TREC's.
    """
    source = collected.report.name
    with opened(url, source) as file, text_lines(file, url, source, "tsv") as text:
        lines = enumerate(text, start=1)
        first = next((each for each in lines if each[1].strip()), (1, ""))
        header, fields = _layout(first[1], url, source)
        data = lines if fields(first[1]) == header else chain([first], lines)
        yield from as_rows(header, ((number, fields(line)) for number, line in data), url, collected, "qrels")


def is_trec(url: str, source: str) -> bool:
    """Whether a file begins with a judgement in TREC's columns, for which it has no header.

    Raises:
        SourceError: where the file is missing or cannot be read.
    """
    with opened(url, source) as file:
        head = file.read(_HEAD).decode("utf-8-sig", errors="replace")
    return _is_trec(next((line for line in head.splitlines() if line.strip()), ""))


def _is_trec(line: str) -> bool:
    fields = line.split()
    return len(fields) == len(TREC) and _is_grade(fields[-1])


def _layout(first: str, url: str, source: str) -> tuple[list[str], Callable[[str], list[str] | None]]:
    """The names of a file's columns, and how to split a line into fields, as the first line tells."""
    by_tabs = _stripped_fields(first) or []
    if set(BEIR) <= set(by_tabs):
        WantedColumns(BEIR).check(by_tabs, f"the header line of {url}", source)
        return by_tabs, _stripped_fields
    if len(by_tabs) == len(BEIR) and _is_grade(by_tabs[-1]):
        return BEIR, _stripped_fields
    if _is_trec(first):
        return TREC, str.split
    raise SourceError(
        f"Source {source!r}: {url} holds no judgements in BEIR's columns (query-id, corpus-id, score; tabs between) "
        "nor in TREC's (query, iteration, document, grade). Its first line is "
        f"{first.strip()!r:.200}. Write the file in one of the two, BEIR's with {'<TAB>'.join(BEIR)} on top."
    )


def _stripped_fields(line: str) -> list[str] | None:
    fields = tab_fields(line)
    return fields and [field.strip() for field in fields]


def _is_grade(field: str) -> bool:
    try:
        grade_of(field)
    except FlawError as flaw:
        return "no number" not in str(flaw)
    return True
