"""Tables in files: formats, column mappings, and files that change while they are read."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from repos.corpus.sources.collected import Collected, Row, SourceError, SourceReport
from repos.corpus.sources.formats import rows
from repos.corpus.sources.readers import table
from repos.corpus.sources.wanted import WantedColumns
from repos.corpus.tests.conftest import source_of


def read(documents: dict[str, Any], **settings: Any) -> Collected:
    entry = {"kind": "table", "name": "faq", "documents": documents, **settings}
    return table.read(source_of(entry))


def write(url: str, content: bytes | str) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return url


COLUMNS = {"doc_id": "id", "title": "headline", "text": "body", "url": "link", "metadata": ["lang"]}
FRAME = pl.DataFrame(
    {
        "id": ["1", "2"],
        "headline": ["One", None],
        "body": ['He said "no", twice', "line one\nline two"],
        "link": ["https://example.org/1", None],
        "lang": ["en", "de"],
    }
)


def as_csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def as_json_lines(frame: pl.DataFrame) -> bytes:
    return frame.write_ndjson().encode()


def as_parquet(frame: pl.DataFrame) -> bytes:
    with fsspec.open("memory://scratch.parquet", "wb") as file:
        frame.write_parquet(file)
    content: bytes = fsspec.filesystem("memory").cat_file("/scratch.parquet")
    return content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("docs.csv", as_csv(FRAME)),
        ("docs.jsonl", as_json_lines(FRAME)),
        ("docs.parquet", as_parquet(FRAME)),
        ("docs.csv.gz", gzip.compress(as_csv(FRAME))),
    ],
)
def test_every_format_gives_the_same_documents_from_any_url(name: str, content: bytes) -> None:
    collected = read({"path": write(f"memory://in/{name}", content), "columns": COLUMNS})
    assert [(row["doc_id"], row["title"], row["text"], row["url"], row["metadata"]) for row in collected.documents] == [
        ("1", "One", 'He said "no", twice', "https://example.org/1", '{"lang": "en"}'),
        ("2", "", "line one\nline two", None, '{"lang": "de"}'),
    ]
    assert not collected.report.bad


def test_queries_and_judgements_come_along_and_a_hash_splits_them(tmp_path: Path) -> None:
    documents = write(f"file://{tmp_path}/d.csv", "doc_id,text\n" + "".join(f"{i},text {i}\n" for i in range(100)))
    queries = write(f"file://{tmp_path}/q.tsv", "nr\tq\n" + "".join(f"{i}\tasks for {i}\n" for i in range(100)))
    qrels = write(f"file://{tmp_path}/r.csv", "nr,doc_id\n" + "".join(f"{i},{i}\n" for i in range(100)))
    collected = read(
        {"path": documents},
        queries={"path": queries, "columns": {"query_id": "nr", "text": "q"}},
        qrels={"path": qrels, "columns": {"query_id": "nr"}},
    )
    assert len(collected.queries) == len(collected.qrels) == 100
    counts = {split: sum(row["split"] == split for row in collected.queries) for split in ("train", "dev", "test")}
    assert counts["train"] > counts["test"] > counts["dev"] > 0
    assert {row["grade"] for row in collected.qrels} == {1}


def test_a_table_may_have_splits_of_its_own(tmp_path: Path) -> None:
    documents = write(f"file://{tmp_path}/d.csv", "doc_id,text\na,b\n")
    queries = write(f"file://{tmp_path}/q.csv", "query_id,text,fold\n1,x y,test\n2,y z,train\n3,z,holdout\n")
    qrels = write(f"file://{tmp_path}/r.csv", "query_id,doc_id,grade\n1,a,3\n2,a,1\n3,a,1\n")
    collected = read(
        {"path": documents},
        queries={"path": queries, "columns": {"split": "fold"}},
        qrels={"path": qrels},
    )
    assert [(row["query_id"], row["split"]) for row in collected.queries] == [("1", "test"), ("2", "train")]
    assert collected.report.bad["queries: split that is none of train, dev, test"].count == 1


def read_judged(
    tmp_path: Path, judgements: bytes | str, **qrels: Any
) -> tuple[dict[tuple[str, str], int], SourceReport]:
    """What a source of two documents and two queries gives with these judgements, (query, document) to grade."""
    documents = write(f"file://{tmp_path}/d.csv", "doc_id,text\nd1,one\nd2,two\n")
    queries = write(f"file://{tmp_path}/q.csv", "query_id,text\nq1,first\nq2,second\n")
    write(f"file://{tmp_path}/{qrels['path']}", judgements)
    collected = read(
        {"path": documents}, queries={"path": queries}, qrels={**qrels, "path": str(tmp_path / qrels["path"])}
    )
    return {(row["query_id"], row["doc_id"]): row["grade"] for row in collected.qrels}, collected.report


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("j.tsv", "q1\t0\td1\t3\nq2\t0\td2\t1\nq2\t0\td1\t0\n"),
        ("j.tsv", "q1 Q0 d1 3\nq2 Q0 d2 1\nq2 Q0 d1 0\n"),
        ("j.txt", "\n q1  0  d1  3.0\r\nq2 0 d2 1\r\nq2 0 d1 0\r\n"),
        ("qrels.robust2004", "\ufeffq1 0 d1 3\nq2 0 d2 1\nq2 0 d1 -1\n"),
        ("j.txt.gz", gzip.compress(b"q1 0 d1 3\nq2 0 d2 1\nq2 0 d1 0\n")),
    ],
)
def test_judgements_of_a_table_may_be_in_trecs_columns(tmp_path: Path, name: str, content: bytes | str) -> None:
    judged, report = read_judged(tmp_path, content, path=name)
    assert judged == {("q1", "d1"): 3, ("q2", "d2"): 1}
    assert report.notes == {"qrels: judged not relevant": 1} and not report.bad


def test_a_bad_line_among_trecs_is_counted_with_its_place(tmp_path: Path) -> None:
    _, report = read_judged(tmp_path, "q1 0 d1 3\nq2 0 d2\n", path="j.txt")
    assert report.bad["qrels: broken line"].examples == [f"{tmp_path}/j.txt, line 2: fields: 3, columns: 4"]


def test_names_for_trecs_columns_are_refused_and_what_is_not_trecs_is_read_as_before(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"TREC's four columns .* have no names, and `columns` names some. Leave"):
        read_judged(tmp_path, "q1 0 d1 3\n", path="j.tsv", columns={"grade": "stars"})
    with pytest.raises(SourceError, match=r"does not tell its format. Write `format:`"):
        read_judged(tmp_path, "query_id doc_id grade\nq1 d1 3\n", path="j.txt")
    judged, _ = read_judged(tmp_path, "query_id\tdoc_id\tgrade\tby\nq1\td1\t3\t4\n", path="j.tsv")
    assert judged == {("q1", "d1"): 3}


def line_to_write(message: str) -> str:
    """The line of names that a message says to write above a file's first row."""
    line: str = re.findall("`([^`]+)`", message)[0]
    return line.replace("<TAB>", "\t")


@pytest.mark.parametrize(
    ("name", "rows"),
    [("j.tsv", "q1\td1\t3\nq2\td2\t1\n"), ("j.csv", "q1,d1,3\nq2,d2,1\n"), ("j.csv", "q1;d1;3\nq2;d2;1\n")],
)
def test_judgements_without_a_header_line_are_told_and_read_once_the_advice_is_followed(
    tmp_path: Path, name: str, rows: str
) -> None:
    with pytest.raises(SourceError, match="as if it had no header line: its first row is 'q1', 'd1', '3'") as told:
        read_judged(tmp_path, rows, path=name)
    judged, report = read_judged(tmp_path, f"{line_to_write(str(told.value))}\n{rows}", path=name)
    assert judged == {("q1", "d1"): 3, ("q2", "d2"): 1} and not report.bad


def test_a_first_row_that_names_two_columns_alike_is_told_to_be_data(tmp_path: Path) -> None:
    """As where somebody has named the columns by what stands in the first row."""
    columns = {"query_id": "q1", "doc_id": "1", "grade": "1"}
    with pytest.raises(SourceError, match=r"as if it had no header line: .*Take `columns` away, and write a line"):
        read_judged(tmp_path, "q1\t1\t1\n", path="j.tsv", columns=columns)


@pytest.mark.parametrize("rows", ["q1 0 d1 3\nq2 0 d2 1\n", "q1,0,d1,3\nq2,0,d2,1\n"])
def test_judgements_in_trecs_columns_under_another_format_say_how_they_are_read(tmp_path: Path, rows: str) -> None:
    with pytest.raises(SourceError, match=r"TREC's four columns .* white space between\) are .* `format: tsv`"):
        read_judged(tmp_path, rows, path="j.csv")
    judged, report = read_judged(tmp_path, rows.replace(",", " "), path="j.csv", format="tsv")
    assert judged == {("q1", "d1"): 3, ("q2", "d2"): 1} and not report.bad


@pytest.mark.parametrize(
    ("row", "sure"),
    [
        ("1,Some words", True),
        ("d1,A title,Some words", False),
        ("d1,A title,Some words,https://h.example/1", True),
        ("d1,here are some more words than name a column", True),
    ],
)
def test_documents_without_a_header_line_are_read_once_the_advice_is_followed(
    tmp_path: Path, row: str, sure: bool
) -> None:
    url = write(f"file://{tmp_path}/d.csv", f"{row}\n")
    with pytest.raises(SourceError, match=r"(no header line: .*|it has .*)If that (line )?is a row of data") as told:
        read({"path": url})
    assert ("looks as if it had no header line" in str(told.value)) is sure
    advice = str(told.value).partition("row of data")[2]
    (document,) = read({"path": write(url, f"{line_to_write(advice)}\n{row}\n")}).documents
    assert row == ",".join(filter(None, (document[name] for name in ("doc_id", "title", "text", "url"))))


def test_a_line_of_more_columns_than_are_read_is_asked_for_by_their_number(tmp_path: Path) -> None:
    url = write(f"file://{tmp_path}/d.csv", "1,Title,words,https://h.example/1,en\n")
    with pytest.raises(SourceError, match="each of its 5 columns, doc_id, title, text, url among them"):
        read({"path": url})


def test_ids_that_are_numbers_become_text(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pl.DataFrame({"doc_id": [7.0, 8.0, None], "text": ["a", "b", "c"]}).write_parquet(path)
    collected = read({"path": str(path)})
    assert [row["doc_id"] for row in collected.documents] == ["7", "8"]
    assert collected.report.bad["documents: no id"].count == 1


def test_bad_rows_of_a_csv_file_are_counted(tmp_path: Path) -> None:
    content = b'doc_id,text\n1,fine\n2\n3,caf\xe9\n4,"a"b\n5,fine too\n'
    collected = read({"path": write(f"file://{tmp_path}/d.csv", content)})
    assert [row["doc_id"] for row in collected.documents] == ["1", "5"]
    bad = collected.report.bad
    assert (bad["documents: broken line"].count, bad["documents: wrong encoding"].count) == (2, 1)
    assert bad["documents: wrong encoding"].examples[0].endswith("d.csv, line 4")


def test_a_quotation_mark_that_never_closes_stops_the_build_because_it_hides_rows(tmp_path: Path) -> None:
    url = write(f"file://{tmp_path}/d.csv", 'doc_id,text\n1,fine\n2,"open\n3,hidden\n4,hidden\n')
    with pytest.raises(SourceError, match="the row of line 3 never ends"):
        read({"path": url})


def test_duplicates_leave_the_same_row_in_whatever_order_they_come(tmp_path: Path) -> None:
    texts = set()
    for name, lines in {"a": "1,first\n1,second\n", "b": "1,second\n1,first\n"}.items():
        collected = read({"path": write(f"file://{tmp_path}/{name}.csv", f"doc_id,text\n{lines}")})
        assert collected.report.bad["documents: duplicate id"].count == 1
        texts.add(collected.documents[0]["text"])
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("d.csv", "id,text\n1,x\n", "has no column 'doc_id'; it has 'id', 'text'"),
        ("d.csv", "", "has no column 'doc_id', 'text'; it has none"),
        ("d.parquet", as_parquet(pl.DataFrame({"doc_id": ["1"]})), "has no column 'text'; it has 'doc_id'"),
        ("d.parquet", "no parquet", "d.parquet cannot be read"),
        ("d.csv.gz", gzip.compress(b"doc_id,text\n" + b"1,x\n" * 50_000)[:-20], "d.csv.gz cannot be read: EOFError"),
        ("d.xls", "x", "does not tell its format. Write `format:`"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, name: str, content: bytes | str, told: str) -> None:
    url = write(f"file://{tmp_path}/{name}", content)
    with pytest.raises(SourceError, match="'faq'") as error:
        read({"path": url})
    assert told in str(error.value)


@pytest.mark.parametrize("path", ["/nowhere/d.csv", "memory://nowhere/d.csv"])
def test_a_missing_file_is_named(path: str) -> None:
    with pytest.raises(SourceError, match=rf"{path} is not there. Check its path in the sources file."):
        read({"path": path})


def test_an_address_of_no_known_kind_is_told() -> None:
    with pytest.raises(SourceError, match=r"gopher://x/d.csv cannot be read"):
        read({"path": "gopher://x/d.csv"})


def lines_of(path: Path) -> Iterator[tuple[str, Row]]:
    collected = Collected(SourceReport(name="faq", kind="table"))
    return rows(str(path), None, collected, "documents", WantedColumns([]))


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    path = tmp_path / "d.csv"
    path.write_text("doc_id,text\n" + "".join(f"{i},{'word ' * 20}\n" for i in range(5000)))
    return path


def test_a_file_removed_while_it_is_read_stops_the_build(long_file: Path) -> None:
    reading = lines_of(long_file)
    next(reading)
    long_file.unlink()
    with pytest.raises(SourceError, match=r"was removed while it was read. Nothing was published"):
        list(reading)


def test_a_file_cut_short_while_it_is_read_stops_the_build(long_file: Path) -> None:
    reading = lines_of(long_file)
    next(reading)
    with long_file.open("rb+") as file:
        file.truncate(200_000)
    with pytest.raises(SourceError, match="was changed while it was read"):
        list(reading)


def test_a_column_that_the_sources_file_names_must_be_there(tmp_path: Path) -> None:
    url = write(f"file://{tmp_path}/d.csv", "doc_id,text\n1,x\n")
    assert read({"path": url}).documents[0]["title"] == ""
    for columns in ({"title": "headline"}, {"metadata": ["lang"]}):
        with pytest.raises(SourceError, match=r"has no column '(headline|lang)'"):
            read({"path": url, "columns": columns})


@pytest.mark.parametrize("header", ["doc_id,Title,text,url", "doc_id,TITLE,text,url", "doc_id,title,text,URL"])
def test_documents_columns_under_our_names_in_other_letters_are_told_for_they_would_not_be_read(
    tmp_path: Path, header: str
) -> None:
    url = write(f"file://{tmp_path}/d.csv", f"{header}\n1,One,words,https://h.example/\n")
    cased = next(name for name in header.split(",") if name != name.lower())
    message = f"has a column '{cased}', and '{cased.lower()}' is looked for: it would not be read. Name its columns"
    with pytest.raises(SourceError, match=message):
        read({"path": url})
    (document,) = read({"path": url, "columns": {cased.lower(): cased}}).documents
    assert (document["title"], document["url"]) == ("One", "https://h.example/")
    pl.DataFrame({"doc_id": ["1"], "text": ["words"], cased: ["One"]}).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(SourceError, match=message):
        read({"path": str(tmp_path / "d.parquet")})
