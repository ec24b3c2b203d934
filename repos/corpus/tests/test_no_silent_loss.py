"""Nothing is lost, changed or invented silently: what cannot be read as it was meant is reported."""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import polars as pl
import pytest

from repos.corpus import build, fingerprints, preflight
from repos.corpus.sources import config
from repos.corpus.sources.collected import SourceError, SourceReport
from repos.corpus.sources.config import load
from repos.corpus.tests.conftest import write_lines

DOCUMENTS = "doc_id,title,text\nd1,One,first words\nd2,Two,second words\n"
QUERIES = "query_id,text,split\nq1,first one,test\nq2,second one,train\n"
TABLE = "{kind: table, name: faq, documents: {path: d.csv}, queries: {path: q.csv}, qrels: {path: j.csv}}"

Build = Callable[..., tuple[dict[str, pl.DataFrame], SourceReport]]


@pytest.fixture
def built(tmp_path: Path) -> Build:
    """Builds a table source from the content of its files."""

    def of(
        documents: str = DOCUMENTS, queries: str = QUERIES, qrels: str = "query_id,doc_id,grade\nq1,d1,1\nq2,d2,3\n"
    ) -> tuple[dict[str, pl.DataFrame], SourceReport]:
        for name, content in (("d.csv", documents), ("q.csv", queries), ("j.csv", qrels)):
            (tmp_path / name).write_text(content)
        (tmp_path / "sources.yaml").write_text(f"max_bad_share: 1.0\nsources: [{TABLE}]")
        result = build.build(load(tmp_path / "sources.yaml"))
        return result.tables, result.reports[0]

    return of


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sources: [{kind: beir, name: a, path: b}]\nsources: [{kind: beir, name: c, path: d}]", "line 2.*'sources'"),
        ("sources: [{kind: beir, name: a, path: b, path: c}]", "'path' stands twice"),
        ("sources: [{kind: beir, name: 2024-13-45, path: b}]", "quotation marks"),
        ("max_bad_share: 2024-02-30\nsources: []", "quotation marks"),
        ("sources: " + "[" * 3000, "too deep"),
        ("", "expected `sources:` and a list, and it is empty"),
        ("- {kind: beir}", "expected `sources:` and a list, and it holds a list"),
    ],
)
def test_a_sources_file_that_says_a_thing_twice_or_something_else_is_told(
    tmp_path: Path, content: str, told: str
) -> None:
    (tmp_path / "sources.yaml").write_text(content)
    with pytest.raises(SourceError, match=told):
        load(tmp_path / "sources.yaml")


def test_a_document_that_stays_keeps_its_judgements_though_another_row_of_its_id_is_bad(built: Build) -> None:
    tables, report = built(DOCUMENTS + "d1,,\n", QUERIES + "q1,,test\n")
    assert tables["qrels"]["doc_id"].sort().to_list() == ["d1", "d2"]
    assert report.bad["documents: empty text"].count == 1


def test_judgements_of_a_query_with_a_bad_split_are_of_one_that_was_left_out(built: Build) -> None:
    _, report = built(queries=QUERIES.replace("test", "Test"))
    assert report.notes["qrels: of a query or document that was left out"] == 1
    assert "qrels: unknown query" not in report.bad


@pytest.mark.parametrize("header", ["query_id,doc_id,Grade", "query_id,doc_id,GRADE"])
def test_a_column_under_our_name_in_other_letters_is_told_for_it_would_not_be_read(built: Build, header: str) -> None:
    with pytest.raises(SourceError, match=r"'(Grade|GRADE)', and 'grade' is looked for"):
        built(qrels=f"{header}\nq1,d1,0\nq2,d2,3\n")


def test_judgements_of_two_ids_alone_say_that_each_counts_as_one(built: Build) -> None:
    tables, report = built(qrels="query_id,doc_id,,\nq1,d1,,\nq2,d2,,\n")
    assert report.notes["qrels: no column 'grade', each is relevant with grade 1"] == 2
    assert tables["qrels"]["grade"].to_list() == [1, 1]


def test_judgements_without_a_grade_beside_other_columns_are_refused_for_a_0_would_count_as_1(
    built: Build, tmp_path: Path
) -> None:
    has = "header line of .*j.csv has no column 'grade', .*it has 'query_id', 'doc_id', 'relevance'. Where one is"
    way_out = r"write `columns: \{grade: relevance\}`; where none is, leave all but query_id and doc_id away"
    with pytest.raises(SourceError, match=f"{has}, {way_out}"):
        built(qrels="query_id,doc_id,relevance\nq1,d1,0\nq2,d2,3\n")
    with pytest.raises(SourceError, match=r"write `columns: \{grade: <its name>\}`"):
        built(qrels="query_id,doc_id,by,relevance\nq1,d1,me,0\n")
    (problem,) = preflight.problems(tmp_path / "sources.yaml")
    assert "'by', 'relevance'. Where one is" in problem
    columns = "path: j.csv, columns: {grade: relevance}"
    (tmp_path / "sources.yaml").write_text(f"sources: [{TABLE.replace('path: j.csv', columns)}]")
    assert build.build(load(tmp_path / "sources.yaml")).reports[0].notes["qrels: judged not relevant"] == 1


@pytest.mark.parametrize("rows", [3, 5000])
def test_judgements_in_json_without_a_grade_beside_other_names_are_refused_in_whole_and_in_part(
    built: Build, tmp_path: Path, rows: int
) -> None:
    built()
    (tmp_path / "sources.yaml").write_text(f"max_bad_share: 1.0\nsources: [{TABLE.replace('j.csv', 'j.jsonl')}]")
    write_lines(tmp_path / "j.jsonl", [{"query_id": "q1", "doc_id": "d1", "relevance": 0}] * rows)
    message = "j.jsonl has no column 'grade', .* write `columns: {grade: relevance}`"
    with pytest.raises(SourceError, match=message):
        build.build(load(tmp_path / "sources.yaml"))
    (problem,) = preflight.problems(tmp_path / "sources.yaml")
    assert "`columns: {grade: relevance}`" in problem
    judged = [{"query_id": "q2", "doc_id": "d2", "grade": 3}, {"query_id": "q1", "doc_id": "d1", "relevance": 0}]
    write_lines(tmp_path / "j.jsonl", [*judged, {"query_id": "q2", "doc_id": "d1"}])
    result = build.build(load(tmp_path / "sources.yaml"))
    assert result.tables["qrels"].rows() == [("q2", "d1", 1), ("q2", "d2", 3)]
    assert result.reports[0].bad["qrels: no grade, beside other names"].examples == [f"{tmp_path}/j.jsonl, line 2"]


def test_a_statement_for_judgements_without_a_grade_beside_other_columns_is_refused(tmp_path: Path) -> None:
    statements = {
        "documents": "SELECT 'd' AS doc_id, 'words' AS text",
        "queries": "SELECT 'q' AS query_id, 'words' AS text",
        "qrels": "SELECT 'q' AS query_id, 'd' AS doc_id, 0 AS times",
    }
    entry = {"kind": "sql", "name": "shop", "url": "sqlite://"} | {k: {"query": v} for k, v in statements.items()}
    with pytest.raises(SourceError, match=r"the statement for qrels has no column 'grade', .*: \{grade: times\}`"):
        build.build(config.Sources.model_validate({"sources": [entry]}))


def test_a_grade_is_a_number_as_people_write_it(built: Build) -> None:
    _, report = built(qrels="query_id,doc_id,grade\nq1,d1,1_0\nq2,d2,3\n")
    assert report.bad["qrels: grade that is no number"].count == 1


def test_two_files_put_together_give_no_document_of_column_names(built: Build) -> None:
    tables, report = built(DOCUMENTS + "\ufeff" + DOCUMENTS.replace("d1", "d3").replace("d2", "d4"))
    assert tables["documents"]["doc_id"].to_list() == ["d1", "d2", "d3", "d4"]
    assert report.bad["documents: the header line again"].count == 1


@pytest.mark.parametrize(
    "content",
    [
        'doc_id, title, text\nd1, "One", "first, words"\nd2, Two, second words\n',
        'doc_id, title, text\nd1,"One","first, words"\nd2,Two,second words\n',
        'doc_id,title,text\nd1, "One", "first, words"\nd2, Two, second words\n',
        'doc_id;title;text\nd1; "One"; "first, words"\nd2; Two; "second words"\n',
        'doc_id,title,text,url\nd1, "One", "first, words",\n\nd2, "Two", "second words",\n',
        'doc_id,title,text\nd0, , ""\n' + "d2, Two, second words\n" * 40 + 'd1, "One", "first, words"\n',
    ],
)
def test_quotation_marks_after_a_space_are_no_part_of_the_text(built: Build, content: str) -> None:
    tables, report = built(content)
    assert tables["documents"].select("title", "text").rows() == [("One", "first, words"), ("Two", "second words")]
    assert "documents: broken line" not in report.bad


@pytest.mark.parametrize("row", ['d1, "One",first words', 'd1,One, "first words"', 'd1, "One", "first, words"'])
def test_a_quotation_after_a_space_in_a_file_without_spaces_is_a_bad_row_that_says_what_to_do(
    built: Build, row: str
) -> None:
    tables, report = built(f"doc_id,title,text\nd2,Two,second words\n{row}\n")
    assert tables["documents"]["doc_id"].to_list() == ["d2"]
    (message,) = report.bad["documents: broken line"].examples
    assert message.endswith(
        "d.csv, line 3: a quotation mark or a line end is out of place; quote whole fields, "
        "a space after all commas or none"
    )


def test_a_text_that_begins_with_a_quotation_or_is_one_after_a_space_stays_as_it_is_written(built: Build) -> None:
    tables, report = built('doc_id,title,text\nd1, "One" of many,first words\nd2," ""Two""",second words\n')
    assert tables["documents"]["title"].to_list() == ['"One" of many', '"Two"']
    assert not report.bad


@pytest.fixture
def sql_source(tmp_path: Path) -> Callable[[str], Path]:
    def at(url: str) -> Path:
        (tmp_path / "sources.yaml").write_text(
            f"sources: [{{kind: sql, name: shop, url: '{url}', documents: {{query: SELECT * FROM t}}}}]"
        )
        return tmp_path / "sources.yaml"

    return at


def test_a_database_that_is_a_file_lies_beside_the_sources_file(
    tmp_path: Path, sql_source: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT 'd1' AS doc_id, 'words' AS text")
    assert preflight.problems(sql_source("sqlite:///x.db")) == []
    assert build.build(load(sql_source("sqlite:///x.db"))).tables["documents"]["doc_id"].to_list() == ["d1"]


@pytest.mark.parametrize("url", ["sqlite:///missing.db", "sqlite:////nowhere/missing.db"])
def test_a_database_that_is_not_there_is_told_and_not_made(
    tmp_path: Path, sql_source: Callable[[str], Path], url: str
) -> None:
    (problem,) = preflight.problems(sql_source(url))
    assert "missing.db' is not there" in problem
    assert not (tmp_path / "missing.db").exists()


def test_an_option_that_the_driver_cannot_read_is_told(tmp_path: Path, sql_source: Callable[[str], Path]) -> None:
    (tmp_path / "x.db").touch()
    (problem,) = preflight.problems(sql_source("sqlite:///x.db?timeout=abc"))
    assert "cannot be read" in problem and "abc" in problem


def table_of(tmp_path: Path, path: str) -> Path:
    (tmp_path / "sources.yaml").write_text(f"sources: [{{kind: table, name: faq, documents: {{path: '{path}'}}}}]")
    return tmp_path / "sources.yaml"


@pytest.fixture
def impatient() -> Iterator[None]:
    """Fails a test that waits for a pipe, after 10 seconds."""

    def woken(*_: object) -> NoReturn:
        pytest.fail("a pipe was waited for")

    before = signal.signal(signal.SIGALRM, woken)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("d.csv", "d.csv is a folder"),
        ("p.csv", "p.csv is neither a file nor a folder"),
        ("link.csv", "link.csv is neither a file nor a folder"),
        ("zip://d.csv::{}/p.csv", "/p.csv is neither a file nor a folder"),
    ],
)
def test_a_folder_and_a_pipe_are_no_file_that_can_be_read_or_looked_at(
    tmp_path: Path, impatient: None, name: str, what: str
) -> None:
    (tmp_path / "d.csv").mkdir()
    os.mkfifo(tmp_path / "p.csv")
    (tmp_path / "link.csv").symlink_to("p.csv")
    path = table_of(tmp_path, name.format(tmp_path))
    (problem,) = preflight.problems(path)
    assert what in problem and "Name one file" in problem
    for look in (lambda: build.build(load(path)), lambda: fingerprints.take(path, {})):
        with pytest.raises(SourceError) as error:
            look()
        assert str(error.value) == problem


def test_a_pipe_in_the_place_of_a_folders_file_is_told_where_changes_are_looked_for(
    beir: Path, impatient: None
) -> None:
    (beir / "corpus.jsonl").unlink()
    os.mkfifo(beir / "corpus.jsonl")
    (beir.parent / "sources.yaml").write_text(f"sources: [{{kind: beir, name: it, path: '{beir}'}}]")
    with pytest.raises(SourceError, match=r"'it': .*corpus.jsonl is neither a file nor a folder. Name one file"):
        fingerprints.take(beir.parent / "sources.yaml", {})


@pytest.mark.parametrize("url", ["zip://d.csv::{}/no.zip", "tar://d.csv::{}/no.tar", "github://d.csv"])
def test_an_archive_that_is_none_and_half_an_address_are_told(tmp_path: Path, url: str) -> None:
    for name in ("no.zip", "no.tar"):
        (tmp_path / name).write_text("no archive")
    (problem,) = preflight.problems(table_of(tmp_path, url.format(tmp_path)))
    assert "cannot be read" in problem


def test_a_parquet_file_at_which_its_reader_gives_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pl.DataFrame({"doc_id": ["1"], "text": ["words"]}).write_parquet(tmp_path / "d.parquet")

    def panics(file: object) -> NoReturn:
        raise pl.exceptions.PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr(pl, "read_parquet", panics)
    with pytest.raises(SourceError, match="cannot be read"):
        build.build(load(table_of(tmp_path, "d.parquet")))


def test_a_path_through_what_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.path.realpath

    def denied(path: Path, **options: bool) -> str:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, **options)

    monkeypatch.setattr(os.path, "realpath", denied)
    with pytest.raises(SourceError, match=r"source 1, documents.path: 'locked/d.csv' leads nowhere: .*Permission den"):
        load(table_of(tmp_path, "locked/d.csv"))


def test_judgements_of_no_split_and_metadata_without_names_are_told(beir: Path) -> None:
    for name in ("valid.tsv", "dev.tsv.gz"):
        (beir / "qrels" / name).write_text("")
    write_lines(
        beir / "corpus.jsonl", [{"_id": f"d{number}", "text": "words", "metadata": "x"} for number in range(10)]
    )
    (beir.parent / "sources.yaml").write_text(f"sources: [{{kind: beir, name: it, path: '{beir}'}}]")
    (report,) = build.build(load(beir.parent / "sources.yaml")).reports
    note = "qrels: files not read, whose names are none of test, dev, train.tsv"
    assert report.notes[note] == "dev.tsv.gz, valid.tsv"
    assert report.bad["documents: metadata: no object with names, left out"].count == 10
