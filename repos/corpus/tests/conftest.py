"""Small folders in BEIR's layout."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance

from repos.corpus.sources.config import Sources

COLLECTIONS = Path(__file__).resolve().parents[4] / "shared" / "collections"
"""Where two public collections, cranfield and cisi, may lie in BEIR's layout: outside of the checkout, beside it."""


def write_lines(path: Path, lines: list[Any]) -> Path:
    """A file of these lines: dicts as JSON, bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def write_qrels(path: Path, judgements: list[tuple[Any, ...]]) -> Path:
    """A qrels file of (query, document, score)."""
    return write_lines(path, ["query-id\tcorpus-id\tscore", *("\t".join(map(str, each)) for each in judgements)])


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A BEIR folder: 10 documents d0..d9, 10 queries q0..q9, each answered by the document of its number."""
    folder = tmp_path / "collection"
    documents = [{"_id": f"d{i}", "title": f"Title {i}", "text": f"Document number {i}."} for i in range(10)]
    write_lines(folder / "corpus.jsonl", documents)
    write_lines(folder / "queries.jsonl", [{"_id": f"q{i}", "text": f"what is number {i}"} for i in range(10)])
    write_qrels(folder / "qrels" / "train.tsv", [(f"q{i}", f"d{i}", 1) for i in range(6)])
    write_qrels(folder / "qrels" / "test.tsv", [(f"q{i}", f"d{i}", 2) for i in range(6, 10)])
    return folder


def age(folder: Path) -> None:
    """Let all files look as if they were written a while ago."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 60, time.time() - 60))


@pytest.fixture
def sources(beir: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sources file that names the small folder, and the stack's setting that names it."""
    path = beir.parent / "sources.yaml"
    path.write_text("sources: [{kind: beir, name: tiny, path: collection}]")
    monkeypatch.setenv("SEARCHLOOP_SOURCES", str(path))
    age(beir)
    return path


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """A Dagster instance of the test's own."""
    with DagsterInstance.ephemeral() as instance:
        yield instance


def source_of(entry: dict[str, Any]) -> Any:
    """The source, of whichever kind, that an entry of a sources file is."""
    return Sources.model_validate({"sources": [entry]}).sources[0]
