"""Reads JSONL, CSV, TSV and Parquet files at any fsspec URL, with a mapping from their columns to ours.

Judgements may also be a file in TREC's columns, which have no names. The mapping of columns is shared with the sql
source.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from repos.corpus.sources.checked import Checked
from repos.corpus.sources.collected import Collected, Row, SourceError
from repos.corpus.sources.config import (
    DocumentFile,
    QrelColumns,
    QrelFile,
    QueryColumns,
    QueryFile,
    SqlSource,
    TableSource,
)
from repos.corpus.sources.formats import format_of_name, rows
from repos.corpus.sources.readers.qrels import is_trec, judgements
from repos.corpus.sources.wanted import WantedColumns

Reader: TypeAlias = Callable[[str, Any, WantedColumns], Iterable[tuple[str, Row]]]
"""Takes a table's name, its entry in the sources file and its columns; gives its rows, each with its place."""
_NAMELESS = {
    4: "Judgements in TREC's four columns (query, iteration, document, grade, with white space between) are read as "
    "they are where their file's name ends in .tsv, or its entry in the sources file says `format: tsv`."
}


def files(source: TableSource) -> dict[str, bool]:
    """The URLs of a table source's files, all of which must be there."""
    return {file.path: True for file in (source.documents, source.queries, source.qrels) if file is not None}


def read(source: TableSource, most: int | None = None) -> Collected:
    """Read a table source: at most `most` rows of each table, or all (None).

    Raises:
        SourceError: where a file or a column is missing, or a file cannot be read or changes while it is read.
    """
    checked = Checked(source.name, source.kind, source.exclude_self, most)

    def read_file(
        table: str, file: DocumentFile | QueryFile | QrelFile, wanted: WantedColumns
    ) -> Iterable[tuple[str, Row]]:
        if isinstance(file, QrelFile) and _is_trec(file, source.name):
            return _trec(file, checked.collected)
        return rows(file.path, file.format, checked.collected, table, wanted)

    return read_mapped(source, checked, read_file)


def _is_trec(file: QrelFile, source: str) -> bool:
    """Whether a file's judgements are in TREC's columns.

    Raises:
        SourceError: where they are, and the sources file names columns.
    """
    if (file.format or format_of_name(file.path)) not in ("tsv", None) or not is_trec(file.path, source):
        return False
    if file.columns.model_fields_set:
        raise SourceError(
            f"Source {source!r}: {file.path} begins with a judgement in TREC's four columns (query, iteration, "
            "document, grade), which have no names, and `columns` names some. Leave `columns` out, or write a line of "
            "names on top."
        )
    return True


def _trec(file: QrelFile, collected: Collected) -> Iterator[tuple[str, Row]]:
    for where, row in judgements(file.path, collected):
        yield where, {"query_id": row["query-id"], "doc_id": row["corpus-id"], "grade": row["score"]}


def read_mapped(source: TableSource | SqlSource, checked: Checked, reader: Reader) -> Collected:
    """Read a source's documents, queries and judgements with `reader`, and check them under our columns' names."""
    columns = source.documents.columns
    ours = columns.model_dump(exclude={"metadata"})
    wanted = WantedColumns([*columns.required(), *columns.metadata], list(ours.values()))
    for where, row in reader("documents", source.documents, wanted):
        metadata = {name: row.get(name) for name in columns.metadata}
        checked.document(where, _renamed(row, ours) | {"metadata": metadata})
    if source.queries is not None:
        for where, row in reader("queries", source.queries, _wanted(source.queries.columns)):
            checked.query(where, _renamed(row, source.queries.columns.model_dump()))
    checked.split_by_hash(source.split)
    if source.qrels is not None:
        wanted = _wanted(source.qrels.columns, needed_beside_others=source.qrels.columns.grade)
        for where, row in reader("qrels", source.qrels, wanted):
            judgement = _renamed(row, source.qrels.columns.model_dump())
            if wanted.stand_ins(list(row)):  # in JSON, each row may have other names
                checked.collected.reject("qrels", f"no {wanted.needed_beside_others}, beside other names", where)
                continue
            if "grade" not in judgement:
                checked.collected.note(
                    f"qrels: no column {source.qrels.columns.grade!r}, each is relevant with grade 1"
                )
            checked.judgement(where, {"grade": 1} | judgement)
    return checked.done()


def _wanted(columns: QueryColumns | QrelColumns, needed_beside_others: str = "") -> WantedColumns:
    optional = list(columns.model_dump().values())
    nameless = _NAMELESS if isinstance(columns, QrelColumns) else {}
    return WantedColumns(columns.required(), optional, needed_beside_others=needed_beside_others, nameless=nameless)


def _renamed(row: Row, columns: dict[str, str]) -> Row:
    return {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
