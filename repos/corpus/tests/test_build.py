"""Several sources become one snapshot's tables, or a message that says why not."""

import re
import shutil

import pytest

from repos.corpus import build
from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.config import Sources
from repos.corpus.tests.conftest import write_lines, write_qrels
from shared_ops.snapshots import Snapshots


def build_from(*folders, **settings):
    entries = [{"kind": "beir", "name": folder.name, "path": str(folder)} for folder in folders]
    return build.build(Sources.model_validate({"sources": entries, **settings}))


@pytest.fixture
def other(beir):
    """A second collection with the same ids and texts."""
    folder = beir.parent / "other"
    shutil.copytree(beir, folder)
    return folder


def test_a_single_source_keeps_its_ids(beir):
    found = build_from(beir).tables
    assert set(found["qrels"].columns) == {"query_id", "doc_id", "grade"}
    assert found["documents"]["doc_id"].to_list() == [f"d{i}" for i in range(10)]
    assert found["qrels"]["query_id"].to_list() == [f"q{i}" for i in range(10)]


def test_ids_of_several_sources_carry_the_sources_name(beir, other):
    found = build_from(beir, other).tables
    assert len(found["documents"]) == 20
    assert {"collection:d1", "other:d1"} <= set(found["documents"]["doc_id"])
    assert {"collection:q1", "other:q1"} <= set(found["queries"]["query_id"])
    assert set(found["documents"]["source"]) == {"collection", "other"}
    assert not found["qrels"].join(found["documents"], on="doc_id", how="anti").height


def test_a_text_is_in_one_split_across_sources_the_most_held_back(beir, other):
    write_qrels(other / "qrels" / "train.tsv", [("q9", "d9", 1)])
    write_qrels(other / "qrels" / "test.tsv", [("q0", "d0", 1)])
    built = build_from(beir, other)
    splits = {query["query_id"]: query["split"] for query in built.tables["queries"].to_dicts()}
    assert splits["other:q0"] == "test" and "collection:q0" not in splits
    assert splits["collection:q9"] == "test" and "other:q9" not in splits
    assert not built.tables["qrels"].join(built.tables["queries"], on="query_id", how="anti").height
    assert built.reports[0].notes["queries: text stands in a more held-back split too"] == 1


def test_the_same_sources_give_the_same_snapshot_in_any_order_of_lines(beir, tmp_path):
    first = Snapshots(f"file://{tmp_path}/a").publish(build_from(beir).tables)
    for path in (beir / "corpus.jsonl", beir / "queries.jsonl"):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    second = Snapshots(f"file://{tmp_path}/b").publish(build_from(beir).tables)
    assert first.id == second.id


def spoil(folder, count):
    """Make the last `count` of 100 documents lines that are no JSON."""
    lines = [{"_id": f"d{i}", "text": f"Document {i}."} for i in range(100 - count)]
    write_lines(folder / "corpus.jsonl", lines + ['{"_id": "cut'] * count)


def test_up_to_its_share_bad_rows_are_left_out(beir):
    spoil(beir, 1)
    built = build_from(beir)
    build.check(built.reports)
    assert len(built.tables["documents"]) == 99


def test_past_its_share_the_build_stops_and_says_all(beir):
    spoil(beir, 2)
    with pytest.raises(SourceError) as error:
        build.check(build_from(beir).reports)
    assert re.search(
        r"source 'collection', documents: broken line: 2 of 100 rows \(2.0%, the limit is 1.0%\), "
        r"first .*corpus.jsonl, line 99; .*corpus.jsonl, line 100",
        str(error.value),
    )
    assert "max_bad_share" in str(error.value)


def test_the_share_can_be_set_for_the_file_and_for_a_source(beir):
    spoil(beir, 3)
    build.check(build_from(beir, max_bad_share=0.03).reports)
    entry = {"kind": "beir", "name": "it", "path": str(beir), "max_bad_share": 0.02}
    built = build.build(Sources.model_validate({"sources": [entry], "max_bad_share": 0.5}))
    with pytest.raises(SourceError, match=r"3 of 100 rows \(3.0%, the limit is 2.0%\)"):
        build.check(built.reports)


def test_a_source_without_documents_stops_the_build(beir):
    write_lines(beir / "corpus.jsonl", [])
    write_lines(beir / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore"])
    write_lines(beir / "qrels" / "train.tsv", ["query-id\tcorpus-id\tscore"])
    with pytest.raises(SourceError, match="'collection' gives no documents"):
        build.check(build_from(beir).reports)


def test_the_summary_names_each_kind_of_bad_row(beir):
    spoil(beir, 1)
    assert "| collection | documents: broken line | 1 | 100 | 1.0% |" in build.summary(build_from(beir).reports)
