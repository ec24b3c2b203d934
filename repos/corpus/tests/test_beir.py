"""BEIR folders: ids and splits are theirs; what is bad in them is counted."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from repos.corpus import build
from repos.corpus.sources.collected import Collected, SourceError
from repos.corpus.sources.config import Sources
from repos.corpus.sources.readers import beir as reader
from repos.corpus.tests.conftest import COLLECTIONS, source_of, write_lines, write_qrels


def read(folder: Path, **settings: Any) -> Collected:
    entry = {"kind": "beir", "name": "it", "path": str(folder), **settings}
    return reader.read(source_of(entry))


def splits(collected: Collected) -> dict[str, str]:
    return {query["query_id"]: query["split"] for query in collected.queries}


def test_ids_and_splits_are_the_folders_own(beir: Path) -> None:
    write_qrels(beir / "qrels" / "dev.tsv", [("q0", "d0", 1)])
    write_qrels(beir / "qrels" / "train.tsv", [(f"q{i}", f"d{i}", 1) for i in range(1, 6)])
    collected = read(beir)
    assert splits(collected) == {"q0": "dev"} | dict.fromkeys(("q1", "q2", "q3", "q4", "q5"), "train") | dict.fromkeys(
        ("q6", "q7", "q8", "q9"), "test"
    )
    assert collected.documents[3] == {
        "doc_id": "d3", "source": "it", "title": "Title 3", "text": "Document number 3.", "url": None, "metadata": "{}",
    }  # fmt: skip
    assert {"query_id": "q7", "doc_id": "d7", "grade": 2} in collected.qrels


def test_without_a_dev_split_one_is_cut_from_train_and_test_stays(beir: Path) -> None:
    write_lines(beir / "queries.jsonl", [{"_id": f"q{i}", "text": f"question number {i}"} for i in range(1000)])
    write_qrels(beir / "qrels" / "train.tsv", [(f"q{i}", "d1", 1) for i in range(900)])
    write_qrels(beir / "qrels" / "test.tsv", [(f"q{i}", "d1", 1) for i in range(900, 1000)])
    by_query = splits(read(beir))
    assert {split for query, split in by_query.items() if int(query[1:]) >= 900} == {"test"}
    assert list(by_query.values()).count("test") == 100
    assert 150 <= list(by_query.values()).count("dev") <= 210
    assert by_query == splits(read(beir))


def test_a_folder_with_test_queries_alone_is_a_corpus_too(beir: Path) -> None:
    (beir / "qrels" / "train.tsv").unlink()
    assert set(splits(read(beir)).values()) == {"test"}


def test_a_query_judged_in_two_splits_belongs_to_the_more_held_back(beir: Path) -> None:
    write_qrels(beir / "qrels" / "train.tsv", [("q6", "d1", 1), ("q0", "d0", 1)])
    collected = read(beir)
    assert splits(collected)["q6"] == "test"
    assert [row["doc_id"] for row in collected.qrels if row["query_id"] == "q6"] == ["d6"]


def test_grades_of_zero_are_not_judged_relevant_and_unjudged_queries_are_left_out(beir: Path) -> None:
    write_qrels(beir / "qrels" / "test.tsv", [("q6", "d6", 0), ("q7", "d7", -1), ("q8", "d8", "1.0")])
    collected = read(beir)
    assert collected.report.notes == {"qrels: judged not relevant": 2, "queries: nothing is judged relevant": 3}
    assert not collected.report.bad
    assert splits(collected)["q8"] == "test" and "q6" not in splits(collected)


def test_everything_bad_is_counted_by_kind_with_its_place(beir: Path) -> None:
    with (beir / "corpus.jsonl").open("ab") as file:
        file.write(b'{"_id": "d3", "text": "again"}\n{"_id": "e1", "title": " ", "text": ""}\n{"text": "no id"}\n')
        file.write(
            b'{"_id": "cut", "te\n[1, 2]\n{"_id": "latin", "text": "caf\xe9"}\n{"_id": "s", "text": "\\ud800"}\n'
        )
        file.write(b'{"_id": "a\\tb", "text": "x"}\n')
    write_qrels(
        beir / "qrels" / "test.tsv",
        [
            ("q6", "d6", 1),
            ("q6", "d6", 2),
            ("q7", "nowhere", 1),
            ("nobody", "d1", 1),
            ("q8", "d8", "high"),
            ("q9", "e1", 1),
        ],
    )
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("q9\td9\n")
    collected = read(beir)
    collected.summarise()
    assert {kind: bad.count for kind, bad in collected.report.bad.items()} == {
        "documents: duplicate id": 1,
        "documents: empty text": 1,
        "documents: no id": 1,
        "documents: broken line": 2,
        "documents: wrong encoding": 2,
        "documents: id with a control character": 1,
        "qrels: duplicate": 1,
        "qrels: unknown document": 1,
        "qrels: unknown query": 1,
        "qrels: grade that is no number": 1,
        "qrels: broken line": 1,
    }
    assert collected.report.bad["documents: empty text"].of == 18
    assert "corpus.jsonl, line 12: e1" in collected.report.bad["documents: empty text"].examples[0]
    assert "test.tsv, line 8" in collected.report.bad["qrels: broken line"].examples[0]
    # judgements of a query or document that was left out as a bad row are not counted as bad again
    assert collected.report.notes["qrels: of a query or document that was left out"] == 1
    assert len(collected.documents) == 10
    assert [row["grade"] for row in collected.qrels if row["query_id"] == "q6"] == [2]


def test_a_title_stands_for_a_text_that_is_not_there(beir: Path) -> None:
    write_lines(beir / "corpus.jsonl", [{"_id": f"d{i}", "title": f"Title {i}", "text": ""} for i in range(10)])
    assert read(beir).documents[4]["text"] == "Title 4"


def test_addresses_are_kept_where_a_browser_may_follow_them(beir: Path) -> None:
    documents = [
        {"_id": "d0", "text": "one", "metadata": {"url": "https://example.org/a"}},
        {"_id": "d1", "text": "two", "metadata": {"url": "javascript:alert(1)", "nan": float("nan")}},
        {"_id": "d2", "text": "three", "metadata": {"url": "HTTPS://EXAMPLE.ORG/a"}},
    ]
    write_lines(beir / "corpus.jsonl", documents)
    collected = read(beir)
    assert [row["url"] for row in collected.documents] == ["https://example.org/a", None, "HTTPS://EXAMPLE.ORG/a"]
    assert collected.report.bad["documents: url that is no http address, left out"].count == 1
    assert '"nan": null' in collected.documents[1]["metadata"]


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(beir: Path, missing: str) -> None:
    (beir / missing).unlink()
    with pytest.raises(SourceError, match=f"'it': .*has no {missing}.*Check `path`"):
        read(beir)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError,
        match=r"nowhere is not there. A folder in BEIR's layout holds corpus.jsonl, queries.jsonl, qrels/test.tsv",
    ):
        read(tmp_path / "nowhere")


def test_a_file_in_a_folders_place_and_a_folder_of_other_files_are_told(beir: Path) -> None:
    with pytest.raises(SourceError, match=r"'it': .*corpus.jsonl cannot be read: NotADirectoryError"):
        read(beir / "corpus.jsonl")
    with pytest.raises(SourceError, match=r"qrels has no corpus.jsonl, .*; it has test.tsv, train.tsv. A folder in"):
        read(beir / "qrels")


def test_lines_without_an_id_of_beir_are_told(beir: Path) -> None:
    write_lines(beir / "corpus.jsonl", [{"id": "d1", "text": "words"}])
    with pytest.raises(SourceError, match=r"has no column '_id'; it has 'id', 'text'. In BEIR's layout each"):
        read(beir)


TESTS = {("q6", "d6"): 2, ("q7", "d7"): 2, ("q8", "d8"): 2, ("q9", "d9"): 2}


@pytest.mark.parametrize(
    "lines",
    [
        ["corpus-id\tscore\tquery-id\tnote", *(f"{d}\t{g}\t{q}\tx" for (q, d), g in TESTS.items())],
        [f"{q}\t{d}\t{g}" for (q, d), g in TESTS.items()],
        [f"{q} 0 {d} {g}" for (q, d), g in TESTS.items()],
        [f"{q}\t0\t{d}\t{g}\r" for (q, d), g in TESTS.items()],
        ["", *(f"{q}  Q0  {d}  {g}.0" for (q, d), g in TESTS.items()), ""],
    ],
)
def test_judgements_are_read_in_the_columns_of_beir_and_of_trec(beir: Path, lines: list[str]) -> None:
    write_lines(beir / "qrels" / "test.tsv", lines)
    collected = read(beir)
    judged = {(row["query_id"], row["doc_id"]): row["grade"] for row in collected.qrels if row["query_id"] >= "q6"}
    assert judged == TESTS and not collected.report.bad
    assert {query for query, split in splits(collected).items() if split == "test"} == {"q6", "q7", "q8", "q9"}


def test_a_bad_line_among_trecs_is_counted_with_its_place(beir: Path) -> None:
    write_lines(beir / "qrels" / "test.tsv", ["q6 0 d6 1", "q7 0 d7", "q8 0 d8 high"])
    bad = read(beir).report.bad
    assert bad["qrels: broken line"].examples[0].endswith("test.tsv, line 2: fields: 3, columns: 4")
    assert bad["qrels: grade that is no number"].examples[0].endswith("test.tsv, line 3")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"query_id,doc_id,grade\nq6,d6,1\n", "first line is 'query_id,doc_id,grade'. Write the file in one"),
        ("query-id\tcorpus-id\tscore\nq6\td6\t1\n".encode("utf-16"), "it is text in UTF-16. Save it as UTF-8"),
        (b"", "neither|holds no judgements in BEIR's columns"),
    ],
)
def test_judgements_in_another_form_are_named_with_the_way_out(beir: Path, content: bytes, told: str) -> None:
    (beir / "qrels" / "test.tsv").write_bytes(content)
    with pytest.raises(SourceError, match=f"'it': .*test.tsv .*{told}") as error:
        read(beir)
    assert "`columns`" not in str(error.value)


def test_grades_that_are_fractions_become_whole_ones_in_the_same_proportion(beir: Path) -> None:
    write_qrels(
        beir / "qrels" / "test.tsv", [("q6", "d6", 0.5), ("q6", "d7", "0.75"), ("q7", "d7", 0), ("q8", "d8", 1)]
    )
    collected = read(beir)
    assert [row["grade"] for row in collected.qrels if row["query_id"] >= "q6"] == [2, 3, 4]
    assert {row["grade"] for row in collected.qrels if row["query_id"] < "q6"} == {4}
    assert collected.report.notes["qrels: grades are fractions, each was multiplied by"] == 4
    assert not collected.report.bad


def test_a_text_that_is_a_list_is_joined(beir: Path) -> None:
    documents = [
        {"_id": "d0", "title": ["A", "title"], "text": ["first line", "second line"]},
        {"_id": "d1", "title": "Title", "text": {"body": "words"}},
    ]
    write_lines(beir / "corpus.jsonl", documents)
    collected = read(beir)
    assert [(row["title"], row["text"]) for row in collected.documents] == [("A\ntitle", "first line\nsecond line")]
    assert collected.report.bad["documents: text that is neither words nor a list of them"].count == 1


@pytest.mark.parametrize(("name", "documents", "train", "test"), [("cranfield", 1398, 131, 94), ("cisi", 1460, 46, 30)])
def test_public_collections(name: str, documents: int, train: int, test: int) -> None:
    if not (COLLECTIONS / name).is_dir():
        pytest.skip(f"it needs the collection {name} in BEIR's layout outside of the checkout: {COLLECTIONS / name}")
    entry = {"kind": "beir", "name": name, "path": str(COLLECTIONS / name)}
    built = build.build(Sources.model_validate({"sources": [entry]}))
    build.check(built.reports)
    counts = dict(built.tables["queries"].group_by("split").len().rows())
    assert len(built.tables["documents"]) == documents
    assert (counts["train"] + counts["dev"], counts["test"]) == (train, test)
    assert not built.tables["qrels"].join(built.tables["documents"], on="doc_id", how="anti").height
    assert built.tables["qrels"].select(pl.col("grade").min()).item() >= 1
