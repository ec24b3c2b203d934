"""The jobs of the corpus, run in one process: from a sources file to the latest snapshot, or to none."""

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult, JobDefinition

from repos.corpus.graph import jobs
from repos.corpus.sources.collected import SourceError
from repos.corpus.tests.conftest import write_lines
from shared_ops.data import tables
from shared_ops.data.snapshots import TABLES, load
from shared_ops.pipeline.lineage import snapshot_key
from shared_ops.pipeline.resources import DEV, PROD
from shared_ops.pipeline.types import check_snapshot

CORPUS_DEV, CORPUS_PROD = jobs


def run(
    job: JobDefinition, instance: DagsterInstance, run_config: dict[str, Any] | None = None
) -> ExecuteInProcessResult:
    return job.execute_in_process(run_config, instance, raise_on_error=False)


def message(result: ExecuteInProcessResult) -> str:
    """What the failed step says in Dagit, causes included."""
    error = next(event for event in result.all_events if event.is_step_failure).step_failure_data.error
    texts = []
    while error is not None:
        texts.append(error.message)
        error = error.cause
    return "\n".join(texts)


def checks_of(result: ExecuteInProcessResult) -> dict[str, bool]:
    """The checks that a run evaluated, each with whether it passed."""
    checks = [event for event in result.all_events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
    return {check.event_specific_data.check_name: check.event_specific_data.passed for check in checks}


def test_a_build_publishes_the_snapshot_and_tells_of_it(sources: Path, instance: DagsterInstance) -> None:
    result = run(CORPUS_PROD, instance)
    assert result.success and checks_of(result) == {"sources": True, "tables": True}
    ref = PROD.snapshots.latest()
    content = load(ref)
    assert len(content.documents()) == 10
    assert [source["name"] for source in content.manifest().sources] == ["tiny"]
    event = instance.get_latest_materialization_event(snapshot_key("prod")).asset_materialization
    assert event.tags["dagster/data_version"] == ref.id
    assert event.metadata["documents"].value == 10 and event.metadata["bad rows"].value == 0
    assert "tiny beir 10 10 10" in " ".join(event.metadata["sources"].value.replace("|", " ").split())
    assert instance.get_latest_materialization_event(AssetKey(["prod", "source", "tiny"]))


def test_a_build_checks_the_rows_read_the_tables_to_publish_and_the_published_folder_once_each(
    sources: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, read = Counter[str](), Counter[str]()
    check, read_table = tables.check, tables.read

    def counted_check(table: str, frame: pl.DataFrame) -> pl.DataFrame:
        checked[table] += 1
        return check(table, frame)

    def counted_read(url: str, columns: list[str] | None = None) -> pl.DataFrame:
        read[url] += 1
        return read_table(url, columns)

    monkeypatch.setattr(tables, "check", counted_check)
    monkeypatch.setattr(tables, "read", counted_read)
    assert run(CORPUS_PROD, instance).success
    ref = PROD.snapshots.latest()
    folder = {f"{ref.url}/{name}.parquet" for name in TABLES}
    assert {url: read[url] for url in folder} == dict.fromkeys(folder, 1)
    assert {url for url in read if url not in folder} and set(read.values()) == {1}, "the draft, too"
    assert checked == {"documents": 3, "queries": 3, "qrels": 3, "slices": 2}  # no rows of slices were made
    assert check_snapshot(ref).success and set(read.values()) == {1}


def test_the_same_sources_change_nothing(sources: Path, instance: DagsterInstance) -> None:
    run(CORPUS_PROD, instance)
    first = PROD.snapshots.latest()
    run(CORPUS_PROD, instance)
    assert PROD.snapshots.latest() == first
    event = instance.get_latest_materialization_event(snapshot_key("prod")).asset_materialization
    assert event.metadata["changed"].value is False


def test_dev_builds_its_own_and_touches_nothing_of_prod(sources: Path, instance: DagsterInstance) -> None:
    config = {"ops": {"publish": {"config": {"sample_documents": 4}}}}
    assert run(CORPUS_DEV, instance, run_config=config).success
    assert len(load(DEV.snapshots.latest()).documents()) == 4
    assert PROD.snapshots.latest() is None
    assert not instance.get_latest_materialization_event(snapshot_key("prod"))


def test_a_run_may_name_another_sources_file(sources: Path, instance: DagsterInstance, beir: Path) -> None:
    other = beir.parent / "other.yaml"
    other.write_text("sources: [{kind: beir, name: renamed, path: collection}]")
    config = {"ops": {"read_sources": {"config": {"sources": str(other)}}}}
    assert run(CORPUS_PROD, instance, run_config=config).success
    assert set(load(PROD.snapshots.latest()).documents()["source"]) == {"renamed"}


def test_too_many_bad_rows_stop_the_run_and_the_last_snapshot_stays(
    sources: Path, instance: DagsterInstance, beir: Path
) -> None:
    run(CORPUS_PROD, instance)
    before = PROD.snapshots.latest()
    write_lines(beir / "corpus.jsonl", [*({"_id": f"d{i}", "text": f"New {i}."} for i in range(10)), b'{"_id": \xff}'])
    result = run(CORPUS_PROD, instance)
    assert not result.success
    assert "source 'tiny', documents: wrong encoding: 1 of 11 rows (9.1%, the limit is 1.0%)" in message(result)
    assert PROD.snapshots.latest() == before
    assert checks_of(result) == {"sources": False}


def test_a_source_that_is_gone_stops_the_run_and_the_last_snapshot_stays(
    sources: Path, instance: DagsterInstance, beir: Path
) -> None:
    run(CORPUS_PROD, instance)
    before = PROD.snapshots.latest()
    (beir / "queries.jsonl").unlink()
    result = run(CORPUS_PROD, instance)
    assert not result.success and "'tiny'" in message(result) and "has no queries.jsonl" in message(result)
    assert PROD.snapshots.latest() == before


def test_a_sources_file_with_a_mistake_still_loads_and_its_job_tells_of_it(
    sources: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.write_text("sources: [{kind: bier, name: tiny}]")
    from repos.corpus import definitions

    assert definitions.source_names() == []
    with pytest.raises(SourceError, match="its kind is 'bier'; write one of pydocs, beir, table, sql"):
        CORPUS_PROD.execute_in_process(instance=instance)


def test_definitions_show_sources_snapshot_jobs_and_checks(sources: Path) -> None:
    from repos.corpus import definitions

    assert definitions.source_names() == ["tiny"]
    keys = definitions.defs.resolve_asset_graph().get_all_asset_keys()
    assert {snapshot_key("dev"), snapshot_key("prod")} <= set(keys)
    assert {job.name for job in definitions.defs.resolve_all_job_defs()} >= {"corpus_dev", "corpus_prod"}
    names = {check.name for each in definitions.defs.asset_checks for check in each.check_specs}
    assert names == {"sources", "tables", "code_loads"}
