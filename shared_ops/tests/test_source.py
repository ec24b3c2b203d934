"""What a source's repository gives: rows that become tables, published in a place of its own, or a run that stops."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dagster import DagsterInstance, DefaultScheduleStatus, ExecuteInProcessResult
from pydantic import BaseModel

from shared_ops import settings
from shared_ops.data.snapshots import Snapshots, load
from shared_ops.data.source_tables import SourceRowError, SourceRows, typed_tables
from shared_ops.data.tables import TableError, check
from shared_ops.data.text import SPLITS
from shared_ops.pipeline.lineage import source_key
from shared_ops.pipeline.resources import DEV, PROD
from shared_ops.pipeline.source import source_definitions
from shared_ops.settings import Settings, current

LISTED = '[wiki]\nowner = "@org/wiki"\nenvironment = "light"\nrole = "source"\nqueue = "wiki"\nport = 30\n'
DOCUMENT = {"doc_id": "lamp", "title": "The lamp", "text": "Plug it in."}
QUERY, QREL = {"query_id": "q", "text": "how to start the lamp"}, {"query_id": "q", "doc_id": "lamp"}


def test_rows_become_tables_that_hold_to_the_schemas() -> None:
    metadata = {"of": ["lamp"], "é": 1}
    made = typed_tables(
        SourceRows([DOCUMENT | {"metadata": metadata}, {"doc_id": "b", "text": "B"}], [QUERY], [QREL]), "w"
    )
    assert list(made) == ["documents", "queries", "qrels", "slices"]
    assert [check(name, frame).height for name, frame in made.items()] == [2, 1, 1, 0]
    first, second = made["documents"].to_dicts()
    assert first == {**DOCUMENT, "source": "w", "url": None, "metadata": '{"of": ["lamp"], "é": 1}'}
    assert (second["title"], second["metadata"]) == ("", "{}")
    assert made["queries"]["split"][0] in SPLITS and made["qrels"]["grade"][0] == 1


def test_a_split_and_a_grade_that_the_source_has_are_kept() -> None:
    made = typed_tables(SourceRows([DOCUMENT], [QUERY | {"split": "test"}], [QREL | {"grade": 3}]), "w")
    assert (made["queries"]["split"][0], made["qrels"]["grade"][0]) == ("test", 3)


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        (
            SourceRows([DOCUMENT, DOCUMENT | {"titel": "x"}]),
            SourceRowError,
            "Row 2 of documents has titel, which nothing reads. Expected some of doc_id, title, text, url, metadata;",
        ),
        (SourceRows([DOCUMENT], [QUERY | {"answer": "lamp"}]), SourceRowError, "Row 1 of queries has answer, which"),
        (
            SourceRows([DOCUMENT | {"metadata": "red"}]),
            SourceRowError,
            "The metadata of document 'lamp' are a str: expected a dict.",
        ),
        (
            SourceRows([DOCUMENT | {"text": ["x"]}]),
            TableError,
            "Table 'documents' does not hold to its schema: a value",
        ),
    ],
)
def test_a_row_that_no_table_takes_is_told(rows: SourceRows, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as told:
        typed_tables(rows, "w")
    assert str(told.value).startswith(said)


def test_what_was_published_elsewhere_is_read_there(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().input_source_url("prod", "wiki") == Settings().source_url("prod", "wiki")
    monkeypatch.setenv("SEARCHLOOP_READ_FROM", "s3://bucket/home")
    assert Settings().input_source_url("prod", "wiki") == "s3://bucket/home/sources/prod/wiki"
    assert Settings().input_source_url("dev", "wiki") == Settings().source_url("dev", "wiki")


class WikiParameters(BaseModel):
    """How many documents there are."""

    documents: int = 2


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of the repositories with one that gives a source."""
    here = settings.repositories()
    for module in ("lineage", "jobs"):
        monkeypatch.setattr(f"shared_ops.pipeline.{module}.repositories", lambda: here | settings.listed(LISTED))


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def numbered(parameters: WikiParameters, log: Callable[[str], None]) -> SourceRows:
    """Give so many documents."""
    log("asked")
    return SourceRows([{"doc_id": str(number), "text": "words"} for number in range(parameters.documents)])


def run(
    instance: DagsterInstance, read: Any = numbered, job: str = "wiki_prod", **parameters: int
) -> ExecuteInProcessResult:
    defs = source_definitions("repos.wiki.definitions", WikiParameters, read)
    config = {"ops": {"read": {"config": parameters}}}
    return defs.resolve_job_def(job).execute_in_process(config, instance, raise_on_error=False)


def checked(result: ExecuteInProcessResult) -> list[Any]:
    """The results of asset checks that a run has told."""
    return [e.event_specific_data for e in result.all_events if e.event_type_value == "ASSET_CHECK_EVALUATION"]


def test_a_run_publishes_what_was_read_and_dagit_hears_of_it(listed: None, instance: DagsterInstance) -> None:
    assert run(instance).success
    latest = PROD.source("wiki").latest()
    assert latest and load(latest).documents().select("doc_id", "source").rows() == [("0", "wiki"), ("1", "wiki")]
    assert latest.url == f"{current().source_url('prod', 'wiki')}/{latest.id}"
    event = instance.get_latest_materialization_event(source_key("prod", "wiki"))
    assert event and event.asset_materialization
    assert event.asset_materialization.tags == {"dagster/data_version": latest.id}
    metadata = event.asset_materialization.metadata
    assert (metadata["documents"].value, metadata["changed"].value) == (2, True)
    assert not [*(current().home / "sources/prod/wiki/.drafts").iterdir()]
    assert run(instance).success and PROD.source("wiki").latest() == latest
    assert run(instance, documents=3).success and PROD.source("wiki").latest() != latest


def test_dev_publishes_in_a_place_of_its_own(listed: None, instance: DagsterInstance) -> None:
    assert run(instance, job="wiki_dev").success
    assert PROD.source("wiki").latest() is None and DEV.source("wiki").latest()
    assert instance.get_latest_materialization_event(source_key("prod", "wiki")) is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (SourceRows([]), "The snapshot holds no document"),
        (SourceRows([DOCUMENT, DOCUMENT]), "Table 'documents' does not hold to its schema"),
        (
            SourceRows([{"text": "no id"}]),
            "Table 'documents' does not hold to its schema: doc_id: not_nullable (1 rows)",
        ),
        (SourceRows([DOCUMENT], [QUERY], [QREL | {"doc_id": "x"}]), "1 judgements name a document"),
    ],
)
def test_tables_that_do_not_hold_stop_the_run_and_what_was_published_stays(
    listed: None, instance: DagsterInstance, rows: SourceRows, said: str
) -> None:
    assert run(instance).success
    before = PROD.source("wiki").latest()
    result = run(instance, lambda parameters, log: rows)
    assert not result.success and PROD.source("wiki").latest() == before
    (check,) = checked(result)
    assert (check.asset_key, check.check_name, check.passed) == (source_key("prod", "wiki"), "tables", False)
    assert check.description.startswith(said)
    failed = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    assert failed.user_failure_data.description == f"Nothing was published: {check.description}"
    assert not [*(current().home / "sources/prod/wiki/.drafts").iterdir()]


def test_its_code_location_has_jobs_an_asset_checks_and_a_schedule(listed: None, instance: DagsterInstance) -> None:
    repository = source_definitions("repos.wiki.definitions", WikiParameters, numbered).get_repository_def()
    schedule = repository.get_schedule_def("wiki_daily")
    assert (schedule.cron_schedule, schedule.job_name) == ("0 1 * * *", "wiki_prod"), "an hour before the corpus"
    assert schedule.default_status == DefaultScheduleStatus.RUNNING
    spec = repository.asset_graph.get(source_key("prod", "wiki"))
    assert spec.owners == ["team:org-wiki"] and spec.kinds == {"polars", "parquet"}
    names = {(key.asset_key.path[0], key.name) for key in repository.asset_graph.asset_check_keys}
    assert names == {("prod", "tables"), ("dev", "tables"), ("prod", "code_loads")}
    assert Snapshots(current().source_url("prod", "wiki")).latest() is None
