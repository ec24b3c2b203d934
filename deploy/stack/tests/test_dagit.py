"""The client asks nothing that Dagit's own schema does not know."""

import pytest
from dagster_graphql.schema import create_schema
from graphql import parse, validate

from deploy.stack import dagit


@pytest.mark.parametrize("name", ["LAUNCH", "RUN", "LOCATIONS", "RELOAD", "IN_FLIGHT", "CANCEL", "DAEMONS"])
def test_the_query_holds_to_the_schema(name):
    assert validate(create_schema().graphql_schema, parse(getattr(dagit, name))) == []


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (["dagster.Wrapped: x", "ValueError: 2 columns\n"], "ValueError: 2 columns"),
        (
            ["dagster.Wrapped: x", "SourceError: no a.csv", "OSError: [Errno 2]"],
            "SourceError: no a.csv\nOSError: [Errno 2]",
        ),
        (["dagster.Wrapped: x", "SourceError: a.csv: no space", "OSError: no space"], "SourceError: a.csv: no space"),
        (["dagster.DagsterTypeCheckDidNotPass: 3 bad rows"], "dagster.DagsterTypeCheckDidNotPass: 3 bad rows"),
    ],
)
def test_an_error_is_told_by_the_words_of_our_own_code_and_what_they_leave_out_of_the_cause(chain, said):
    first, *causes = chain
    assert dagit._told({"message": first, "errorChain": [{"error": {"message": each}} for each in causes]}) == said


def test_a_server_that_is_not_there_is_told_with_what_to_do():
    with pytest.raises(dagit.DagitError, match=r"does not answer.*make status"):
        dagit.Dagit("http://127.0.0.1:9").in_flight()
