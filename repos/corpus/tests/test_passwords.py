"""A source's password shows nowhere: no log, no event, no check, no message, whatever is wrong beside it."""

import logging
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, build_run_status_sensor_context, build_sensor_context

from repos.corpus import definitions
from repos.corpus.graph import jobs
from repos.corpus.sources.collected import SourceError, mask_secrets
from repos.corpus.sources.config import load
from repos.corpus.triggers import sources_changed
from shared_ops.pipeline.alerts import failure_sensor

PASSWORD = "hunter2+s3cret"
AWAY = f"postgresql+psycopg2://reader:{PASSWORD}@127.0.0.1:1/shop"
DOCUMENTS = "documents: {query: SELECT 1 AS doc_id}"

BROKEN = {
    "database away": f"url: '{AWAY}', {DOCUMENTS}",
    "in the query": f"url: 'postgresql+psycopg2://127.0.0.1:1/shop?user=reader&password={PASSWORD}', {DOCUMENTS}",
    "an option that the driver does not know": f"url: '{AWAY}?pasword={PASSWORD}', {DOCUMENTS}",
    "misspelt key": f"url: '{AWAY}', docments: {{query: SELECT 1 AS doc_id}}",
    "misspelt url": f"ulr: '{AWAY}', {DOCUMENTS}",
    "misspelt kind": f"kind: slq, url: '{AWAY}', {DOCUMENTS}",
    "no such dialect": f"url: 'nodialect://reader:{PASSWORD}@127.0.0.1/shop', {DOCUMENTS}",
    "no dialect": f"url: 'reader:{PASSWORD}@127.0.0.1/shop', {DOCUMENTS}",
    "a port that is no number": f"url: 'postgresql+psycopg2://reader:{PASSWORD}@127.0.0.1:http/shop', {DOCUMENTS}",
    "no YAML": f"url: '{AWAY}' 'twice', {DOCUMENTS}",
    "no YAML after a colon": f"url: {AWAY}: x: y, {DOCUMENTS}",
    "a file": f"kind: table, documents: {{path: 'ftp://reader:{PASSWORD}@127.0.0.1:1/shop.csv'}}",
}


@pytest.fixture(params=BROKEN)
def sources(request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sources.yaml"
    entry = BROKEN[request.param]
    path.write_text(f"sources: [{{name: shop, {'' if entry.startswith('kind') else 'kind: sql, '}{entry}}}]")
    monkeypatch.setenv("SEARCHLOOP_SOURCES", str(path))
    return path


def test_a_password_shows_nowhere_and_the_message_is_the_sources_own(
    sources: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _, corpus_prod = jobs
    with caplog.at_level(logging.DEBUG), DagsterInstance.ephemeral() as instance:
        definitions.source_names()
        tick = sources_changed(build_sensor_context(instance))
        run = corpus_prod.execute_in_process(instance=instance, raise_on_error=False)
        assert not run.success
        # Dagster's method has no annotations.
        events = [record.to_json() for record in instance.all_logs(run.run_id)]  # type: ignore[no-untyped-call]
        (failure,) = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)
        sensor = failure_sensor()
        sensor(
            build_run_status_sensor_context(
                sensor.name, failure.dagster_event, instance, instance.get_run_by_id(run.run_id)
            ).for_run_failure()
        )
    lines = [record.getMessage() for record in caplog.records if record.name == "shared_ops.notifications"]
    everything = "\n".join([*events, caplog.text, *capfd.readouterr(), repr(tick)])
    assert any("SourceError" in line and ("shop" in line or str(sources) in line) for line in lines)
    for part in (PASSWORD, "hunter2", "s3cret"):
        assert part not in everything


def test_a_mistake_in_yaml_is_told_with_its_place_and_without_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text(f"sources:\n  - kind: sql\n    url: {AWAY}: again\n")
    with pytest.raises(SourceError, match=r"sources.yaml, line 3, column \d+ cannot be read as YAML: mapping values"):
        load(path)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("ftp://me:p@h/x.csv, line 3; ftp://me:p@h/x.csv", "ftp://me:***@h/x.csv, line 3; ftp://me:***@h/x.csv"),
        ("ftp://me:my own p@h/x.csv is not there, a@b", "ftp://me:***@h/x.csv is not there, a@b"),
        ("ftp://me:p@q r/s@h/x.csv is not there", "ftp://me:***@h/x.csv is not there"),
        ("ftp://me:p/q r@h/x.csv is not there", "ftp://me:***@h/x.csv is not there"),
        ("ftp://me@corp.example:p q@h/x.csv", "ftp://me@corp.example:***@h/x.csv"),
        ("ftp://my name:p@h/x.csv", "ftp://my name:***@h/x.csv"),
        ("zip://d.csv::ftp://me:p q@h/x.zip", "zip://d.csv::ftp://me:***@h/x.zip"),
        ("https://h:8080/x.csv cannot be read: ask a@b", "https://h:8080/x.csv cannot be read: ask a@b"),
        ("https://h/x.csv?v=1&sig=a%2Fb/c=&w=2, line 3", "https://h/x.csv?v=1&sig=***&w=2, line 3"),
        ("url='https://h/x.csv?X-Amz-Signature=a.b.c'. So", "url='https://h/x.csv?X-Amz-Signature=***'. So"),
        ("https://h/x.csv?api_key=a&Token=b#c is not", "https://h/x.csv?api_key=***&Token=***#c is not"),
        ("s3://b/d.csv?versionId=7 is not there", "s3://b/d.csv?versionId=7 is not there"),
    ],
)
def test_what_is_secret_in_an_address_is_hidden_and_the_rest_of_a_message_stays(told: str, shown: str) -> None:
    assert mask_secrets(told) == shown
    assert mask_secrets(shown) == shown
