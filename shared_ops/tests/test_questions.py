"""Tables of queries that people bring to be answered in bulk: files, and what a SQL statement gives."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from shared_ops.data import questions
from shared_ops.data.questions import Columns, Questions, QuestionsError
from shared_ops.judge.bulk import PART

ROWS = {"query_id": ["1", "2", "3"], "text": ["median\tof an  array", "sort", None]}
ASKED = [("1", "median of an array"), ("2", "sort"), ("3", "")]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def asked(found: Questions, rows: int = PART) -> list[tuple[str, str]]:
    return [row for part in found.parts(rows) for row in part.rows()]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("q.parquet", pl.DataFrame.write_parquet),
        ("q.csv", pl.DataFrame.write_csv),
        ("q.jsonl", pl.DataFrame.write_ndjson),
        ("q.tsv", lambda frame, path: path.write_text("query_id\ttext\n1\tmedian of  an array\n2\tsort\n3\t\n")),
    ],
)
def test_a_file_is_read_by_the_ending_of_its_name(
    tmp_path: Path, scratch: Path, name: str, write: Callable[[pl.DataFrame, Path], None]
) -> None:
    write(pl.DataFrame(ROWS), tmp_path / name)
    assert asked(questions.of_file((tmp_path / name).as_uri(), Columns(), scratch)) == ASKED


def test_ids_and_texts_may_stand_in_columns_of_other_names_and_kinds(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "queries.parquet"
    pl.DataFrame({"n": [7, 8], "what": ["sort", "mean"], "price": [1.5, 2.5]}).write_parquet(path)
    assert asked(questions.of_file(str(path), Columns("n", "what"), scratch)) == [("7", "sort"), ("8", "mean")]


def test_queries_come_in_parts(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "queries.csv"
    pl.DataFrame({"query_id": range(25), "text": [f"word {number}" for number in range(25)]}).write_csv(path)
    found = questions.of_file(str(path), Columns(), scratch)
    assert found.count == 25 and [len(part) for part in found.parts(10)] == [10, 10, 5]
    assert asked(found, 10) == asked(found)


def test_a_statement_gives_queries(tmp_path: Path, scratch: Path) -> None:
    database = tmp_path / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE searches (id INTEGER, words TEXT)")
        connection.executemany("INSERT INTO searches VALUES (?, ?)", [(1, "sort"), (2, "100% wool")])
    statement = "SELECT id AS query_id, words AS text FROM searches WHERE words LIKE '%o%' OR words = ' :b' ORDER BY id"
    found = questions.of_statement(f"sqlite:///{database}", statement, Columns(), scratch)
    assert asked(found) == [("1", "sort"), ("2", "100% wool")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, r"none.csv cannot be read as csv"),
        ("q.txt", "query_id,text\n1,sort\n", r"expected a file whose name ends in one of .parquet, .csv, .tsv, .jsonl"),
        ("q.parquet", "no parquet", r"q.parquet cannot be read as parquet"),
        ("q.csv", "_id,text\n1,sort\n", r"'query_id' and 'text', and query_id is not among \['_id', 'text'\]. Name"),
        ("q.csv", "query_id,text\n", r"q.csv gives no queries"),
        ("q.csv", "query_id,text\n1,sort\n1,mean\n", r"each query's id once, and 1 of 2 come again, as \['1'\]"),
        ("q.jsonl", '{"query_id": null, "text": "sort"}\n', r"1 of 1 queries have no id"),
        ("q.csv", 'query_id,text\n"",sort\n2,mean\n', r"1 of 2 queries have no id"),
    ],
)
def test_what_cannot_be_asked_is_told(tmp_path: Path, scratch: Path, name: str, content: str | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(QuestionsError, match=said):
        questions.of_file(str(path), Columns(), scratch)


def test_json_lines_may_change_their_types_and_bring_a_column_late(tmp_path: Path, scratch: Path) -> None:
    lines = [f'{{"query_id": {number}}}' for number in range(200)]
    (tmp_path / "q.jsonl").write_text(
        "\n".join([*lines, '{"query_id": "abc", "text": "sort"}', '{"query_id": 1.5, "text": 7}'])
    )
    found = asked(questions.of_file(str(tmp_path / "q.jsonl"), Columns(), scratch))
    assert found[0] == ("0", "") and found[-2:] == [("abc", "sort"), ("1.5", "7")]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE t (a TEXT)", r"gives no rows\. Write one like SELECT"),
        ("SELECT 1 AS query_id", r"and text is not among \['query_id'\]"),
        ("SELECT * FROM nowhere", r"could not be asked \(OperationalError\)"),
        ("SELECT 1 AS query_id, 'x' AS text WHERE 1 = 0", r"gives no queries"),
    ],
)
def test_a_statement_that_gives_no_queries_is_told(tmp_path: Path, scratch: Path, statement: str, said: str) -> None:
    with pytest.raises(QuestionsError, match=said):
        questions.of_statement(f"sqlite:///{tmp_path}/shop.db", statement, Columns(), scratch)


@pytest.mark.parametrize("database", ["postgresql+psycopg2://me:s3cret@127.0.0.1:s3cret/shop", "s3cret"])
def test_an_address_that_is_none_is_told_without_showing_it(scratch: Path, database: str) -> None:
    with pytest.raises(QuestionsError, match=r"could not be asked") as told:
        questions.of_statement(database, "SELECT 1", Columns(), scratch)
    assert "s3cret" not in str(told.value) and told.value.__cause__ is None


def test_a_database_that_does_not_answer_is_told_without_its_password(scratch: Path) -> None:
    with pytest.raises(QuestionsError, match=r"could not be asked") as told:
        questions.of_statement("postgresql+psycopg2://me:s3cret@127.0.0.1:1/shop", "SELECT 1", Columns(), scratch)
    assert "s3cret" not in str(told.value) and told.value.__cause__ is None
