"""The client asks nothing that Dagit's own schema does not know."""

import sys
from typing import Any

import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_graphql.schema import create_schema
from graphql import parse, validate

from deploy.stack.dagit import client as dagit
from deploy.stack.dagit import queries
from shared_ops.settings import ROOT


@pytest.mark.parametrize("name", [name for name in dir(queries) if name.isupper() and "{" in getattr(queries, name)])
def test_the_query_holds_to_the_schema(name: str) -> None:
    assert validate(create_schema().graphql_schema, parse(getattr(queries, name))) == []


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
def test_an_error_is_told_by_the_words_of_our_own_code_and_what_they_leave_out_of_the_cause(
    chain: list[str], said: str
) -> None:
    first, *causes = chain
    assert dagit._told({"message": first, "errorChain": [{"error": {"message": each}} for each in causes]}) == said


def raised(code: str) -> dict[str, Any]:
    """The error of a module of the checkout that holds this code, as Dagit tells it; by its second line."""
    path = str(ROOT / "repos" / "keyword" / "model.py")
    try:
        exec(compile(f"import json\n{code}", path, "exec"))
    except Exception:
        told = serializable_error_info_from_exc_info(sys.exc_info())
        return {"message": told.message, "stack": told.stack, "errorChain": []}
    raise AssertionError(f"{code!r} raised nothing")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("json.nosuch", "AttributeError: module 'json' has no attribute 'nosuch'"),
        ("json.loads('{')", "JSONDecodeError: Expecting property name"),  # raised elsewhere, called here
    ],
)
def test_an_error_of_loading_is_told_with_its_file_and_line(code: str, said: str) -> None:
    error = raised(code)
    wrapped = {"message": "dagster.Wrapped: x", "stack": [], "errorChain": [{"error": error}]}
    for found in (error, wrapped):
        told = dagit._load_error({"locationOrLoadError": found})
        assert told.startswith("repos/keyword/model.py:2: ") and said in told and "\n" not in told


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(dagit.DagitError, match=r"does not answer.*make logs PROCESS=dagit"):
        dagit.Dagit("http://127.0.0.1:9").in_flight()


def test_a_failed_run_is_told_by_its_first_cause_until_a_later_one_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Dagit answers: the newest run first, events in pages."""
    runs = [("r4", "keyword_prod", "SUCCESS"), ("r3", "ranker_prod", "FAILURE"), ("r2", "keyword_prod", "FAILURE")]
    step = {"__typename": "ExecutionStepFailureEvent", "stepKey": "train", "message": "", "error": {"message": "NaN"}}
    ended = {"__typename": "RunFailureEvent", "message": "Steps failed: train."}
    pages = {None: [{"__typename": "LogMessageEvent", "message": "..."}], "1": [step, ended], "2": []}

    def answer(self: object, query: str, field: str, after: str | None = None, **variables: object) -> dict[str, Any]:
        if query == queries.NEWEST_ENDED:
            return {"results": [{"runId": r, "jobName": job, "status": s, "endTime": 0.0} for r, job, s in runs]}
        cursor = {None: "1", "1": "2", "2": "2"}[after]
        return {"status": "FAILURE", "tags": [], "eventConnection": {"cursor": cursor, "events": pages[after]}}

    monkeypatch.setattr(dagit.Dagit, "_ask", answer)
    (failed,) = dagit.Dagit("http://127.0.0.1:9").failed_jobs()
    assert (failed.job, failed.run_id, failed.cause) == ("ranker_prod", "r3", "train: NaN")


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"searchloop/unchanged": "keyword/v1"}, "nothing changed since keyword/v1"),
        (
            {"searchloop/verdict": "accepted", "searchloop/reason": "Accepted: better", "searchloop/held": "pinned"},
            "pinned",
        ),
        ({"searchloop/verdict": "rejected", "searchloop/reason": "Rejected: a loss"}, "Rejected: a loss"),
        ({}, ""),
    ],
)
def test_a_run_says_what_came_of_it(tags: dict[str, str], said: str) -> None:
    assert dagit._outcome(tags) == said
