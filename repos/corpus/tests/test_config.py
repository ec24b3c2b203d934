"""What a sources file may say, and what is said of its mistakes."""

import os
from pathlib import Path

import pytest

from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.config import load
from shared_ops.settings import ROOT


def test_the_files_that_come_with_it_can_be_read() -> None:
    names = {path.name: load(path) for path in sorted((ROOT / "deploy" / "sources").glob("*.yaml"))}
    assert len(names["pydocs.yaml"].sources[0].packages) == 8
    assert "small.yaml" in names


def test_relative_paths_start_at_the_file_and_urls_stay(tmp_path: Path) -> None:
    file = tmp_path / "deploy" / "sources.yaml"
    file.parent.mkdir()
    file.write_text("""
sources:
  - {kind: beir, name: near, path: ../collections/near}
  - {kind: table, name: far, documents: {path: "s3://bucket/docs.csv"}}
""")
    near, far = load(file).sources
    assert near.path == str(tmp_path / "collections" / "near")
    assert far.documents.path == "s3://bucket/docs.csv"


NO_VALUES = [
    ("0x_", "expected a whole number, got something else; put what is text into quotation marks"),
    ("!!int abc", "expected a whole number, got something else; put what is text"),
    ("!!int ''", "expected a whole number"),
    ("!!float abc", "expected a number"),
    ("!!float ''", "expected a number"),
    ("!!bool abc", "expected true or false"),
    ("!!timestamp abc", "expected a date"),
    ("2024-13-45", "expected a date"),
    ("!!set [x]", "expected a mapping node, but found sequence"),
    ("!!map abc", "expected a mapping node, but found scalar"),
    ("!!map [x]", "expected a mapping node, but found sequence"),
    ("!!str [x]", "expected a scalar node, but found sequence"),
    ('"a\\0b"', "expected text, got an escape"),
    ('"\\ud800"', "expected text, got an escape"),
]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sources: []", "sources: it is empty; name one at least"),
        ("sources: [{kind: bier, name: x, path: y}]", "source 1: its kind is 'bier'; write one of pydocs, beir, t"),
        ("sources: [{kind: beir, name: x}]", "source 1, path: it is missing"),
        ("sources: [{kind: beir, name: x, path: y, pth: z}]", "source 1, pth: there is no such setting here"),
        ("sources: [{kind: beir, name: 'a b', path: y}]", "source 1, name: expected letters, digits"),
        ("sources: [{kind: beir, name: 7, path: y}]", "name: expected text, got a number; put it into quotation marks"),
        ("sources: [{kind: beir, name: no, path: y}]", "expected text, got true or false; put it into quotation marks"),
        ("sources: [{kind: beir, name: 2026-01-02, path: y}]", "expected text, got a date; put it into quotation"),
        ("sources: [{kind: beir, name: x, path: [y]}]", "source 1, path: expected text, got a list."),
        ("sources: [{kind: beir, name: x, path: ~no-one/y}]", "'~no-one/y' leads nowhere: "),
        ("7: x", "7: a setting's name is text"),
        (
            "sources: [{name: x, path: y}]",
            "source 1: it says no `kind`; write `kind:` and one of pydocs, beir, table, sql",
        ),
        ("sources: [{kind: beir, name: x, path: y}, {}]", "source 2: it says no `kind`"),
        ("sources: [beir]", "source 1: expected a mapping (`name: value`), got text"),
        ("sources: [null]", "source 1: expected a mapping (`name: value`), got nothing"),
        ("sources: {kind: beir}", "sources: expected a list, got a mapping"),
        ("source: [{kind: beir}]", "sources: it is missing; source: there is no such setting here"),
        ("sources: [{kind: table, name: x, documents: d.csv}]", "source 1, documents: expected a mapping"),
        ("sources: [{kind: table, name: x, documents: {path: d, format: json}}]", "expected 'jsonl', 'csv', 'tsv' or"),
        ("sources: [{kind: table, name: x, documents: {path: d}, split: {eval: 1}}]", "source 1, split.eval: expected"),
        ("sources: [{kind: beir, name: x, path: y, exclude_self: maybe}]", "expected true or false, got text"),
        ("sources: [{kind: beir, name: x, path: y, dev_share: 1%}]", "dev_share: expected a number, got text"),
        ("sources: [{kind: beir, name: x, path: y, dev_share: 1}]", "expected a number below 1, got another one"),
        ("max_bad_share: true\nsources: [{kind: beir, name: x, path: y}]", "expected a number, got true"),
        ("sources: [{kind: beir, name: x, path: y, max_bad_share: no}]", "expected a number, got false"),
        ("sources: [{kind: beir, name: x, path: y, dev_share: on}]", "dev_share: expected a number, got true"),
        (
            "sources: [{kind: pydocs, name: a, packages: {a: a}, processes: true}]",
            "processes: expected a number, got true",
        ),
        (
            "sources: [{kind: pydocs, name: a, packages: {a: a}, timeout_seconds: yes}]",
            "timeout_seconds: expected a number",
        ),
        (
            "sources: [{kind: pydocs, name: a, packages: {a: a}, timeout_seconds: .inf}]",
            "expected a number up to 86400",
        ),
        (
            "sources: [{kind: pydocs, name: a, packages: {a: a}, split: {train: true}}]",
            "split.train: expected a number",
        ),
        ("sources: [{kind: pydocs, name: a, packages: {}}]", "source 1, packages: it is empty; name one at least"),
        (
            "sources: [{kind: sql, name: a, url: u, documents: {query: q}, batch_rows: true}]",
            "batch_rows: expected a number, got true",
        ),
        (
            "sources: [{kind: table, name: a, documents: {path: d}, qrels: {path: j}}]",
            "source 1: its `qrels` judge queries, and it has none; write `queries` too, or leave `qrels` out",
        ),
        (
            "sources: [{kind: sql, name: a, url: u, documents: {query: q}, qrels: {query: q}}]",
            "source 1: its `qrels` judge queries, and it has none",
        ),
        ("sources: [{kind: beir, name: x, path: y}, {kind: beir, name: x, path: z}]", "x stands twice"),
        (
            "sources: [{kind: pydocs, name: a, packages: {a: a}}, {kind: pydocs, name: b, packages: {b: b}}]",
            "one pydocs",
        ),
        ("sources: [{kind: pydocs, name: x, packages: {a: a}, split: {train: 0.5, test: 0.1}}]", "sum to 1"),
        ("max_bad_share: 3\nsources: [{kind: beir, name: x, path: y}]", "max_bad_share"),
        ("just words", "is not a sources file"),
        ("sources: [", "cannot be read as YAML"),
        (b"sources: \xff", "cannot be read as YAML: unacceptable character #x00ff: invalid start byte in"),
        *(
            (f"sources: [{{kind: beir, path: y, name: {value}}}]", f"line 1, column 39 cannot be read as YAML: {told}")
            for value, told in NO_VALUES
        ),
        ('sources: "\\U00110000"', "cannot be read as YAML: chr() arg not in range(0x110000). See that it is YAML"),
        ('sources: "\\UFFFFFFFF"', "cannot be read as YAML: Python int too large to convert to C int. See that it"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, content: bytes | str, told: str) -> None:
    file = tmp_path / "sources.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=str(file)) as error:
        load(file)
    assert told in str(error.value)


def test_a_missing_file_is_told_with_the_variable_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="SEARCHLOOP_SOURCES"):
        load(tmp_path / "none.yaml")


def test_a_folder_and_a_pipe_in_the_files_place_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SourceError, match=f"{path} cannot be read: it is no file. Name a sources file that"):
            load(path)
