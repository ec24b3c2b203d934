"""The client asks nothing that Dagit's own schema does not know."""

import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate

from deploy.stack import dagit


@pytest.mark.parametrize("name", ["LAUNCH", "RUN", "LOCATIONS", "RELOAD", "IN_FLIGHT", "CANCEL", "DAEMONS"])
def test_the_query_holds_to_the_schema(name):
    assert validate(create_schema().graphql_schema, parse(getattr(dagit, name))) == []


def test_an_error_is_told_by_its_cause():
    chain = [{"error": {"message": "ValueError: 2 columns"}}]
    assert dagit._root_message({"message": "DagsterExecutionStepExecutionError", "errorChain": chain}) == (
        "ValueError: 2 columns"
    )


def test_a_server_that_is_not_there_is_told_with_what_to_do():
    with pytest.raises(dagit.DagitError, match=r"does not answer.*make status"):
        dagit.Dagit("http://127.0.0.1:9").in_flight()
