"""What the cold starts share: a stack of their own on the module's `sources`, and documents that a table holds."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Stack, own_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Iterator[Stack]:
    """A stack on the module's sources file; nothing is started."""
    made = own_stack(tmp_path_factory.mktemp("cold"), SEARCHLOOP_SOURCES=str(sources))
    try:
        yield made
    finally:
        made.make("down", check=False)


def write_documents(sources: Path, rows: Iterable[tuple[str, str, str]]) -> Path:
    """Let a sources file name these documents (id, title, text) alone, in a CSV beside it; returns it."""
    with sources.with_name("documents.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("doc_id", "title", "text"), *rows])
    source = "{kind: table, name: docs, documents: {path: documents.csv}}"
    sources.write_text(f"sources:\n  - {source}\n")
    return sources
