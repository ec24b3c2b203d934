"""Several sources become one snapshot's tables, or a message that says why not."""

import re
import shutil
from pathlib import Path

import pytest

from repos.corpus import build
from repos.corpus.build import Built
from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.config import Sources
from repos.corpus.tests.conftest import write_lines, write_qrels
from shared_ops.data.snapshots import Snapshots


def build_from(*folders: Path, **settings: float) -> Built:
    entries = [{"kind": "beir", "name": folder.name, "path": str(folder)} for folder in folders]
    return build.build(Sources.model_validate({"sources": entries, **settings}))


@pytest.fixture
def other(beir: Path) -> Path:
    """A second collection with the same ids and texts."""
    folder = beir.parent / "other"
    shutil.copytree(beir, folder)
    return folder


def test_a_single_source_keeps_its_ids(beir: Path) -> None:
    tables = build_from(beir).tables
    assert set(tables["qrels"].columns) == {"query_id", "doc_id", "grade"}
    assert tables["documents"]["doc_id"].to_list() == [f"d{i}" for i in range(10)]
    assert tables["qrels"]["query_id"].to_list() == [f"q{i}" for i in range(10)]


def test_ids_of_several_sources_carry_the_sources_name(beir: Path, other: Path) -> None:
    tables = build_from(beir, other).tables
    assert len(tables["documents"]) == 20
    assert {"collection:d1", "other:d1"} <= set(tables["documents"]["doc_id"])
    assert {"collection:q1", "other:q1"} <= set(tables["queries"]["query_id"])
    assert set(tables["documents"]["source"]) == {"collection", "other"}
    assert not tables["qrels"].join(tables["documents"], on="doc_id", how="anti").height


def test_a_text_is_in_one_split_across_sources_the_most_held_back(beir: Path, other: Path) -> None:
    write_qrels(other / "qrels" / "train.tsv", [("q9", "d9", 1)])
    write_qrels(other / "qrels" / "test.tsv", [("q0", "d0", 1)])
    built = build_from(beir, other)
    splits = {query["query_id"]: query["split"] for query in built.tables["queries"].to_dicts()}
    assert splits["other:q0"] == "test" and "collection:q0" not in splits
    assert splits["collection:q9"] == "test" and "other:q9" not in splits
    assert not built.tables["qrels"].join(built.tables["queries"], on="query_id", how="anti").height
    assert built.reports[0].notes["queries: text stands in a more held-back split too"] == 1


def test_any_id_of_up_to_1024_characters_stays_as_it_is(beir: Path) -> None:
    ids = ["with spaces in it", "\u2003x\u2003y", "é" * 300, "a%20b", "n" * (1024 - len("collection:"))]
    write_lines(beir / "corpus.jsonl", [{"_id": each, "text": each} for each in [*ids, "n" * 1024]])
    write_lines(beir / "queries.jsonl", [{"_id": each, "text": each} for each in ids])
    write_qrels(beir / "qrels" / "test.tsv", [(each, each, 1) for each in ids])
    write_qrels(beir / "qrels" / "train.tsv", [])
    (report,) = build_from(beir).reports
    assert {kind: bad.count for kind, bad in report.bad.items()} == {
        "documents: id of more than 1024 characters, its source's name counted": 1
    }
    stripped = sorted(each.strip() for each in ids)
    tables = build_from(beir).tables
    assert tables["documents"]["doc_id"].to_list() == tables["queries"]["query_id"].to_list() == stripped


def test_a_query_that_is_a_document_too_is_not_its_own_answer_where_its_source_says_so(beir: Path, other: Path) -> None:
    write_lines(beir / "queries.jsonl", [{"_id": each, "text": f"against {each}"} for each in ("d1", "d2", "q3")])
    write_qrels(beir / "qrels" / "test.tsv", [("d1", "d2", 1), ("d1", "d1", 1), ("d2", "d2", 1), ("q3", "d3", 1)])
    write_qrels(beir / "qrels" / "train.tsv", [])
    entries = [
        {"kind": "beir", "name": "arguments", "path": str(beir), "exclude_self": True},
        {"kind": "beir", "name": "other", "path": str(other)},
    ]
    built = build.build(Sources.model_validate({"sources": entries}))
    own = dict(built.tables["queries"].select("query_id", "own_doc_id").iter_rows())
    assert own["arguments:d1"] == "arguments:d1" and own["arguments:q3"] is None and own["other:q1"] is None
    assert "arguments:d2" not in own, "nothing but itself was judged relevant for it"
    assert built.reports[0].notes == {
        "qrels: of the query's own document, which is no answer to it (exclude_self)": 2,
        "queries: nothing is judged relevant": 1,
    }
    assert "own_doc_id" not in build_from(beir).tables["queries"].columns


def test_the_same_sources_give_the_same_snapshot_in_any_order_of_lines(beir: Path, tmp_path: Path) -> None:
    first = Snapshots(f"file://{tmp_path}/a").publish(build_from(beir).tables)
    for path in (beir / "corpus.jsonl", beir / "queries.jsonl"):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    second = Snapshots(f"file://{tmp_path}/b").publish(build_from(beir).tables)
    assert first.id == second.id


def spoil(folder: Path, count: int) -> None:
    """Make the last `count` of 100 documents lines that are no JSON."""
    lines = [{"_id": f"d{i}", "text": f"Document {i}."} for i in range(100 - count)]
    write_lines(folder / "corpus.jsonl", lines + ['{"_id": "cut'] * count)


def test_up_to_its_share_bad_rows_are_left_out(beir: Path) -> None:
    spoil(beir, 1)
    built = build_from(beir)
    build.check(built.reports)
    assert len(built.tables["documents"]) == 99


def test_past_its_share_the_build_stops_and_says_all(beir: Path) -> None:
    spoil(beir, 2)
    with pytest.raises(SourceError) as error:
        build.check(build_from(beir).reports)
    assert re.search(
        r"source 'collection', documents: broken line: 2 of 100 rows \(2.0%, the limit is 1.0%\), "
        r"first .*corpus.jsonl, line 99: Invalid control character; .*corpus.jsonl, line 100",
        str(error.value),
    )
    assert "max_bad_share" in str(error.value)


def test_the_share_can_be_set_for_the_file_and_for_a_source(beir: Path) -> None:
    spoil(beir, 3)
    build.check(build_from(beir, max_bad_share=0.03).reports)
    entry = {"kind": "beir", "name": "it", "path": str(beir), "max_bad_share": 0.02}
    built = build.build(Sources.model_validate({"sources": [entry], "max_bad_share": 0.5}))
    with pytest.raises(SourceError, match=r"3 of 100 rows \(3.0%, the limit is 2.0%\)"):
        build.check(built.reports)


def test_a_source_without_documents_stops_the_build(beir: Path) -> None:
    write_lines(beir / "corpus.jsonl", [])
    write_lines(beir / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore"])
    write_lines(beir / "qrels" / "train.tsv", ["query-id\tcorpus-id\tscore"])
    with pytest.raises(SourceError, match="'collection' gives no documents"):
        build.check(build_from(beir).reports)


def test_the_summary_names_each_kind_of_bad_row(beir: Path) -> None:
    spoil(beir, 1)
    cells = " ".join(build.summary(build_from(beir).reports).replace("|", " ").split())
    assert "collection documents: broken line 1 100 1.0%" in cells
