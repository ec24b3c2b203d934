"""What a sources file may say, and what is said of its mistakes."""

import pytest

from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.config import load
from shared_ops.settings import ROOT


def test_the_files_that_come_with_it_can_be_read():
    names = {path.name: load(path) for path in sorted((ROOT / "deploy" / "sources").glob("*.yaml"))}
    assert len(names["pydocs.yaml"].sources[0].packages) == 8
    assert "small.yaml" in names


def test_relative_paths_start_at_the_file_and_urls_stay(tmp_path):
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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sources: []", "at least 1 item"),
        ("sources: [{kind: bier, name: x, path: y}]", "'pydocs', 'beir', 'table', 'sql'"),
        ("sources: [{kind: beir, name: x}]", "sources.0.beir.path: Field required"),
        ("sources: [{kind: beir, name: x, path: y, pth: z}]", "pth: Extra inputs are not permitted"),
        ("sources: [{kind: beir, name: 'a b', path: y}]", "sources.0.beir.name"),
        ("sources: [{kind: beir, name: x, path: y}, {kind: beir, name: x, path: z}]", "x stands twice"),
        (
            "sources: [{kind: pydocs, name: a, packages: {a: a}}, {kind: pydocs, name: b, packages: {b: b}}]",
            "one pydocs",
        ),
        ("sources: [{kind: pydocs, name: x, packages: {a: a}, split: {train: 0.5, test: 0.1}}]", "sum to 1"),
        ("max_bad_share: 3\nsources: [{kind: beir, name: x, path: y}]", "max_bad_share"),
        ("just words", "is not a sources file"),
        ("sources: [", "cannot be read as YAML"),
        (b"sources: \xff", "cannot be read as YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, content, told):
    file = tmp_path / "sources.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceError, match=str(file)) as error:
        load(file)
    assert told in str(error.value)


def test_a_missing_file_is_told_with_the_variable_that_names_it(tmp_path):
    with pytest.raises(SourceError, match="SEARCHLOOP_SOURCES"):
        load(tmp_path / "none.yaml")
