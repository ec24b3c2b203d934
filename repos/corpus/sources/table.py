"""JSONL, CSV, TSV and Parquet files at any fsspec URL, with a mapping from their columns to ours.

The column mapping itself is shared with the sql source.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from repos.corpus.sources.checked import Checked
from repos.corpus.sources.collected import Collected, Row
from repos.corpus.sources.config import SqlSource, TableSource
from repos.corpus.sources.files import rows

Reader: TypeAlias = Callable[[str, Any, Sequence[str]], Iterable[tuple[str, Row]]]
"""From a table's name, where it is, and the columns it must have, to its rows, each with the place where it stands."""


def files(source: TableSource) -> dict[str, bool]:
    """The URLs of a table source's files, all of which must be there."""
    return {file.path: True for file in (source.documents, source.queries, source.qrels) if file is not None}


def read(source: TableSource) -> Collected:
    """The rows of a table source.

    Raises:
        SourceError: where a file or a column is missing, or a file cannot be read or changes while it is read.
    """
    checked = Checked(source.name, source.kind)
    return read_mapped(
        source, checked, lambda table, file, columns: rows(file.path, file.format, checked.collected, table, columns)
    )


def read_mapped(source: TableSource | SqlSource, checked: Checked, reader: Reader) -> Collected:
    """The rows of a source's documents, queries and judgements, which `reader` gives, under our columns' names."""
    columns = source.documents.columns
    for where, row in reader("documents", source.documents, [*columns.required(), *columns.metadata]):
        metadata = {name: row.get(name) for name in columns.metadata}
        checked.document(where, _renamed(row, columns.model_dump(exclude={"metadata"})) | {"metadata": metadata})
    if source.queries is not None:
        for where, row in reader("queries", source.queries, source.queries.columns.required()):
            checked.query(where, _renamed(row, source.queries.columns.model_dump()))
    checked.split_by_hash(source.split)
    if source.qrels is not None:
        for where, row in reader("qrels", source.qrels, source.qrels.columns.required()):
            checked.judgement(where, {"grade": 1} | _renamed(row, source.qrels.columns.model_dump()))
    return checked.done()


def _renamed(row: Row, columns: dict[str, str]) -> Row:
    return {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
