"""The look before anything starts says what a build would say, from the first rows alone."""

import json
import runpy
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from repos.corpus import build, fingerprints, preflight
from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.config import load
from repos.corpus.tests.conftest import write_lines

Command = Callable[..., tuple[int | str, str, str]]

BROKEN = '{"doc_id"\n'
GOOD = '{"doc_id": "1", "text": "words"}\n'


def write(folder: Path, source: dict[str, Any], **more: float) -> Path:
    (folder / "sources.yaml").write_text(json.dumps({"sources": [source], **more}))
    return folder / "sources.yaml"


def table(path: str, **more: dict[str, str]) -> dict[str, Any]:
    return {"kind": "table", "name": "faq", "documents": {"path": path}, **more}


def sql(statement: str, **more: dict[str, str] | str) -> dict[str, Any]:
    return {"kind": "sql", "name": "shop", "url": "sqlite:///x.db", "documents": {"query": statement}, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS doc_id, 'words' AS text")
    (tmp_path / "d.jsonl").write_text(GOOD)
    (tmp_path / "d.json").write_text(f"[{GOOD}]")
    (tmp_path / "d.xlsx").write_bytes(b"PK\3\4" + bytes(99))
    (tmp_path / "d.txt").write_text(GOOD)
    (tmp_path / "no.db").write_text("no database, but words " * 100)
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.jsonl").write_text(BROKEN * 3)
    (tmp_path / "other.jsonl").write_text('{"id": "1", "body": "words"}\n')
    (tmp_path / "other.csv").write_text("id,body\n1,words\n")
    (tmp_path / "empty.csv").write_text("doc_id,text\n")
    return tmp_path


REFUSED = [
    (table("missing.csv"), "missing.csv is not there"),
    (table("d.json"), "does not tell its format, and it is one JSON document"),
    (table("d.xlsx"), "does not tell its format, and it is an Excel workbook"),
    (table("d.txt"), "does not tell its format"),
    (table("folder"), "is a folder. Name one file"),
    (table("broken.jsonl"), "documents: broken line: 3 of 3 rows"),
    (table("other.jsonl"), "has no column 'doc_id', 'text'; it has 'id', 'body'"),
    (table("other.csv"), "has no column 'doc_id', 'text'; it has 'id', 'body'"),
    (table("empty.csv"), "'faq' gives no documents"),
    (table("d.jsonl", queries={"path": "other.csv"}), "other.csv has no column 'query_id', 'text'"),
    (
        {"kind": "beir", "name": "it", "path": "folder"},
        "has no corpus.jsonl, queries.jsonl, qrels/test.tsv; it",
    ),
    ({**sql("SELECT * FROM t"), "url": "sqlite:///no.db"}, "no.db cannot be read: .* file is not a database"),
    (sql("SELECT * FROM elsewhere"), "cannot be read: .* no such table: elsewhere"),
    (sql("SELECT 1 AS id"), "statement for documents has no column 'doc_id', 'text'; it has 'id'"),
    (sql("SELECT * FROM t", queries={"query": "SELECT 1 AS"}), "cannot be read: .* incomplete input"),
]


@pytest.mark.parametrize(("source", "told"), REFUSED)
def test_what_a_build_refuses_is_refused_in_the_same_words(folder: Path, source: dict[str, Any], told: str) -> None:
    path = write(folder, source)
    with pytest.raises(SourceError, match=told) as error:
        build.check(build.build(load(path)).reports)
    assert preflight.problems(path) == [str(error.value)]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT max(x) FROM t", "no such column: x"),
        ("BEGIN", "its changed_query gives no rows. Write one like SELECT"),
    ],
)
def test_a_changed_query_that_fails_is_told(folder: Path, statement: str, told: str) -> None:
    path = write(folder, sql("SELECT * FROM t", changed_query=statement))
    with pytest.raises(SourceError, match=told) as error:
        fingerprints.take(path, {})
    assert preflight.problems(path) == [str(error.value)]


def test_packages_of_which_none_is_installed_are_told(folder: Path) -> None:
    packages = {"a": "not_installed_anywhere.part"}
    source = {"kind": "pydocs", "name": "docs", "packages": packages}
    (problem,) = preflight.problems(write(folder, source))
    assert "'docs' gives no documents: none of the modules" in problem
    packages["b"] = "json"
    assert preflight.problems(write(folder, source)) == []


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at 3 rows of each table."""
    monkeypatch.setattr(preflight, "ROWS", 3)


def numbered(count: int, **more: str) -> list[dict[str, str]]:
    return [{"doc_id": f"d{number}", "text": f"words {number}", **more} for number in range(count)]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "db"])
def test_only_the_first_rows_are_read(folder: Path, ending: str) -> None:
    frame = pl.DataFrame(numbered(10))
    source = table(f"many.{ending}")
    match ending:
        case "jsonl":
            frame.write_ndjson(folder / "many.jsonl")
        case "csv" | "tsv":
            frame.write_csv(folder / f"many.{ending}", separator="," if ending == "csv" else "\t")
        case "parquet":
            frame.write_parquet(folder / "many.parquet")
        case "db":
            source = sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS doc_id, i AS text FROM n"
            )
    (configured,) = load(write(folder, source)).sources
    collected = build.read(configured, 3)
    assert len(collected.documents) == collected.rows_read["documents"] == 3
    assert collected.cut == {"documents"}
    collected = build.read(load(write(folder, table("d.jsonl"))).sources[0], 1)
    assert collected.rows_read["documents"] == 1 and not collected.cut


def test_what_later_rows_may_hold_is_not_asked_of_the_first(folder: Path, few: None) -> None:
    lines = [*numbered(5), {"doc_id": "d5", "text": "words", "link": "https://h/"}, {"doc_id": "d6", "text": ""}]
    write_lines(folder / "late.jsonl", [BROKEN.strip(), *lines])
    (folder / "q.csv").write_text("query_id,text\n" + "".join(f"q{number},ask {number}\n" for number in range(9)))
    (folder / "j.csv").write_text("query_id,doc_id\n" + "".join(f"q{number},d4\n" for number in range(8, 3, -1)))
    source = table("late.jsonl", queries={"path": "q.csv"}, qrels={"path": "j.csv"})
    source["documents"]["columns"] = {"url": "link"}
    assert preflight.problems(write(folder, source, max_bad_share=0.4)) == []


def test_what_is_wrong_with_all_of_the_first_rows_is_told(folder: Path, few: None) -> None:
    write_lines(folder / "many.jsonl", [BROKEN.strip()] * 9)
    (problem,) = preflight.problems(write(folder, table("many.jsonl")))
    assert "documents: broken line: 3 of 3 rows (100.0%, the limit is 1.0%)" in problem
    assert preflight.problems(write(folder, table("many.jsonl"), max_bad_share=1)) == []
    write_lines(folder / "many.jsonl", [{"id": "1", "text": "words"}] * 9)
    (problem,) = preflight.problems(write(folder, table("many.jsonl")))
    assert "many.jsonl has no column 'doc_id'; it has 'id', 'text'" in problem


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls a program of the corpus as a command line does: its status, and what it says there."""

    def of(program: str, *arguments: Path | str) -> tuple[int | str, str, str]:
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        monkeypatch.delitem(sys.modules, f"repos.corpus.{program}")
        with pytest.raises(SystemExit) as end:
            runpy.run_module(f"repos.corpus.{program}", run_name="__main__")
        return end.value.code, *capsys.readouterr()

    return of


@pytest.mark.parametrize("program", ["build", "preflight"])
@pytest.mark.parametrize(("arguments", "got"), [([], "got 0: nothing"), (["a.yaml", "b.yaml"], "got 2: a.yaml b.yaml")])
def test_a_command_line_that_names_no_sources_file_or_two_says_what_to_write(
    command: Command, program: str, arguments: list[str], got: str
) -> None:
    status, said, complained = command(program, *arguments)
    assert (status, said) == (2, "")
    assert complained == (
        f"Expected one sources file, {got}. Write python -m repos.corpus.{program} <sources file>, like "
        "deploy/sources/pydocs.yaml.\n"
    )


def test_called_by_hand_what_is_wrong_with_the_sources_is_said_in_a_line(folder: Path, command: Command) -> None:
    path = write(folder, table("missing.csv"))
    (problem,) = preflight.problems(path)
    assert command("preflight", path) == (1, f"{problem}\n", "")
    assert command("build", path)[0] == problem  # Python says it and ends with 1
