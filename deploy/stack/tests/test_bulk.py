"""What `make predict` asks of the jobs that answer in bulk."""

from pathlib import Path
from typing import Any

import pytest

from deploy.stack.bulk import AskedError, asked, refuse_unfit

NOTHING: dict[str, Any] = dict.fromkeys(("queries", "sql", "database", "columns", "release", "family", "number"))


def test_what_is_asked_of_the_live_set_goes_to_the_repository_that_moves_it() -> None:
    repository, config = asked(**NOTHING | {"queries": "s3://shop/queries.parquet", "out": "out", "k": 10})
    assert repository == "live"
    assert config == {"queries": "s3://shop/queries.parquet", "out": Path("out").absolute().as_uri(), "k": 10}


@pytest.mark.parametrize(
    ("given", "repository", "config"),
    [
        ({"number": 3}, "live", {"set_number": 3}),
        ({"family": "keyword"}, "keyword", {}),
        ({"release": "ranker/v1"}, "ranker", {"version": "v1"}),
        ({"columns": "_id,words"}, "live", {"id_column": "_id", "text_column": "words"}),
    ],
)
def test_a_set_or_a_release_may_be_named(given: dict[str, Any], repository: str, config: dict[str, Any]) -> None:
    named, said = asked(**NOTHING | {"queries": "memory://q.csv", "out": "memory://out", "k": 5} | given)
    assert (named, said) == (repository, {"queries": "memory://q.csv", "out": "memory://out", "k": 5} | config)


def test_a_database_s_address_is_named_by_its_variable_alone() -> None:
    """The address, with its password, never stands in a run's configuration."""
    _, config = asked(**NOTHING | {"sql": "SELECT 1", "database": "SHOP_URL", "out": "memory://out", "k": 10})
    assert config["database"] == {"env": "SHOP_URL"} and "queries" not in config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "Expected QUERIES="),
        ({"queries": "q.csv", "sql": "SELECT 1", "database": "SHOP_URL"}, "Expected QUERIES="),
        ({"sql": "SELECT 1"}, "Expected QUERIES="),
        ({"queries": "q.csv", "columns": "id"}, "expected two names, <id>,<text>, got 'id'"),
        ({"queries": "q.csv", "release": "keyword"}, "expected <family>/<version>"),
        ({"queries": "q.csv", "family": "keyword", "number": 2}, "Expected one of RELEASE=, FAMILY= and SET="),
    ],
)
def test_what_is_asked_twice_or_not_at_all_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(AskedError, match=said):
        asked(**NOTHING | {"out": "out", "k": 10} | given)


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("typed-wrong.csv", None, None, r"QUERIES: /\S+/typed-wrong.csv cannot be read as csv: there is no such file$"),
        ("q.txt", "query_id,text\n1,sort\n", None, r"QUERIES: /\S+/q.txt: expected a file whose name ends in one of "),
        ("q.parquet", "no parquet", None, r"QUERIES: /\S+/q.parquet cannot be read as parquet"),
        ("q.csv", "query_id,text\n1,sort\n", "_id,text", r"QUERIES: .*_id is not among .* COLUMNS=<id>,<text>"),
    ],
)
def test_a_table_that_cannot_be_read_is_told_before_any_run(
    tmp_path: Path, name: str, content: str | None, columns: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    given = {"queries": str(tmp_path / name), "out": str(tmp_path / "out"), "k": 10, "columns": columns}
    with pytest.raises(AskedError, match=said):
        refuse_unfit(asked(**NOTHING | given)[1])


def test_a_folder_that_holds_something_is_told_before_any_run_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("query_id,text\n1,sort\n")
    (tmp_path / "out").mkdir()
    _, config = asked(**NOTHING | {"queries": str(tmp_path / "q.csv"), "out": str(tmp_path / "out"), "k": 10})
    refuse_unfit(config)
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(AskedError, match=r"^OUT: \S+/out is not empty. Name another folder, or remove it\.$"):
        refuse_unfit(config)


def test_what_lies_elsewhere_is_left_to_the_run() -> None:
    refuse_unfit(asked(**NOTHING | {"queries": "s3://shop/queries.parquet", "out": "s3://shop/out", "k": 10})[1])
    refuse_unfit(asked(**NOTHING | {"sql": "SELECT 1", "database": "SHOP_URL", "out": "s3://shop/out", "k": 10})[1])
