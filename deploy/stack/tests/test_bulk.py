"""What `make predict` asks of the jobs that answer in bulk."""

from pathlib import Path
from typing import Any

import pytest

from deploy.stack.bulk import AskedError, asked

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
