"""A change of any source's content starts one build, and every tick says in words why it acted or did not."""

import json
import re
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import fsspec
import pytest
import sqlalchemy
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    ExecuteInProcessResult,
    RunRequest,
    build_sensor_context,
)
from sqlalchemy import create_engine, text

from repos.corpus import fingerprints
from repos.corpus.build import Built
from repos.corpus.sources.config import Sources
from repos.corpus.sources.files import FileState
from repos.corpus.tests.conftest import age, write_lines
from repos.corpus.triggers import corpus_prod, daily, daily_build, sources_changed
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import PROD


class SourceTicks:
    """The sensor as the daemon calls it: each tick gets the cursor of the one before."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> RunRequest | str:
        """The run that was asked for, or the words why none was."""
        with build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            data = sources_changed.evaluate_tick(context)
        self.cursor = data.cursor
        return data.run_requests[0] if data.run_requests else data.skip_message


@pytest.fixture
def ticks(instance: DagsterInstance) -> SourceTicks:
    return SourceTicks(instance)


def build(instance: DagsterInstance, run_config: dict[str, Any] | None = None) -> ExecuteInProcessResult:
    return corpus_prod.execute_in_process(run_config, instance, raise_on_error=False)


def documents(beir: Path, texts: list[str]) -> None:
    """Write other documents into the folder, and let them be a minute old."""
    write_lines(beir / "corpus.jsonl", [{"_id": f"d{i}", "text": f"{text} {i}."} for i, text in enumerate(texts)])
    age(beir)


def finish(instance: DagsterInstance, status: DagsterRunStatus, **tags: str) -> DagsterRun:
    """A run of the corpus in some state."""
    return instance.create_run_for_job(corpus_prod, status=status, tags=tags)


def test_without_a_snapshot_nothing_is_asked_for(sources: Path, ticks: SourceTicks) -> None:
    assert "There is no snapshot yet" in ticks.tick()


def test_unchanged_sources_are_left_alone(sources: Path, ticks: SourceTicks, instance: DagsterInstance) -> None:
    build(instance)
    assert "Nothing changed since snapshot" in ticks.tick()
    assert ticks.tick() == f"Nothing changed since snapshot {PROD.snapshots.latest().id} was built: tiny."


def test_a_changed_file_is_built_once(sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path) -> None:
    build(instance)
    ticks.tick()
    documents(beir, ["new"] * 10)
    request = ticks.tick()
    assert request.run_key and request.tags[BECAUSE] == "tiny was changed"
    assert "Nothing changed since the last decision: tiny." in ticks.tick()
    before = PROD.snapshots.latest()
    build(instance)
    assert PROD.snapshots.latest() != before
    assert "Nothing changed since snapshot" in ticks.tick()


def test_a_change_while_nothing_ran_is_noticed_at_the_first_tick(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    documents(beir, ["new"] * 10)
    assert ticks.tick().tags[BECAUSE] == "tiny was changed"


def test_a_change_while_the_sources_are_read_is_noticed_afterwards(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from repos.corpus import ops
    from repos.corpus.build import build as build_tables

    def read_and_change(sources: Sources, log: Callable[[str], None]) -> Built:
        built = build_tables(sources, log)
        documents(beir, ["new"] * 10)
        return built

    monkeypatch.setattr(ops, "build", read_and_change)
    build(instance)
    assert ticks.tick().tags[BECAUSE] == "tiny was changed"


def test_a_file_written_again_with_the_same_content_is_no_change(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    ticks.tick()
    content = (beir / "corpus.jsonl").read_bytes()
    (beir / "corpus.jsonl").unlink()
    (beir / "corpus.jsonl").write_bytes(content)
    assert "Nothing changed since snapshot" in ticks.tick()


def test_a_content_that_goes_there_and_back_is_built_each_time(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    keys = set()
    for word in ("new", "old", "new", "old"):
        documents(beir, [word] * 10)
        keys.add(ticks.tick().run_key)
        build(instance)
    assert len(keys) == 4


def test_while_a_run_is_in_flight_it_waits_and_then_acts(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    documents(beir, ["new"] * 10)
    run = finish(instance, DagsterRunStatus.STARTED)
    assert ticks.tick() == f"tiny was changed. Waits for the end of run {run.run_id[:8]}."
    instance.delete_run(run.run_id)
    assert ticks.tick().tags[BECAUSE] == "tiny was changed"


def test_what_another_run_built_meanwhile_is_not_built_again(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    ticks.tick()
    documents(beir, ["new"] * 10)
    build(instance)
    assert "Nothing changed since snapshot" in ticks.tick()


def test_a_file_that_is_still_written_is_waited_for(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    documents(beir, ["new"] * 10)
    (beir / "corpus.jsonl").touch()
    assert f"tiny was changed. Waits until {beir}/corpus.jsonl has not been written for 2 s." in ticks.tick()
    age(beir)
    assert ticks.tick().tags[BECAUSE] == "tiny was changed"


def test_a_run_that_failed_is_told_and_not_repeated(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    documents(beir, ["new"] * 10)
    run = finish(instance, DagsterRunStatus.FAILURE, **{"dagster/run_key": ticks.tick().run_key})
    assert f"Run {run.run_id[:8]} was asked for then: FAILURE." in ticks.tick()


def test_the_sources_file_is_a_source_too(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    sources.write_text("# a remark\nsources: [{kind: beir, name: tiny, path: collection}]")
    assert "Nothing changed" in ticks.tick()
    sources.write_text(
        "sources: [{kind: beir, name: tiny, path: collection, dev_share: 0.5}, {kind: beir, name: b, path: collection}]"
    )
    assert ticks.tick().tags[BECAUSE] == "tiny was changed; b was added"
    build(instance)
    sources.write_text("sources: [{kind: beir, name: b, path: collection}]")
    assert ticks.tick().tags[BECAUSE] == "tiny was removed"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("sources: [{kind: bier, name: tiny}]", "is not a sources file"),
        ("sources: [{kind: beir, name: tiny, path: nowhere}]", "'tiny': .*nowhere/corpus.jsonl is not there"),
        ("sources: [{kind: beir, name: tiny, path: 'nope://x'}]", "'tiny': nope://x/corpus.jsonl cannot be read"),
        (
            "sources: [{kind: sql, name: shop, url: 'postgresql+psycopg2://127.0.0.1:1/shop', changed_query: SELECT 1, "
            "documents: {query: SELECT 1}}]",
            "'shop': .*127.0.0.1:1/shop cannot be read",
        ),
    ],
)
def test_what_cannot_be_read_is_told_by_name_and_forgets_nothing(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, content: str, told: str
) -> None:
    build(instance)
    ticks.tick()
    cursor = ticks.cursor
    sources.write_text(content)
    message = ticks.tick()
    assert isinstance(message, str) and message.startswith("Nothing is built while a source cannot be read: ")
    assert re.search(told, message)
    assert ticks.cursor == cursor


def test_a_file_that_comes_back_unchanged_starts_nothing(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    ticks.tick()
    (beir / "queries.jsonl").rename(beir / "away")
    assert "queries.jsonl is not there" in ticks.tick()
    (beir / "away").rename(beir / "queries.jsonl")
    assert "Nothing changed since snapshot" in ticks.tick()


def test_a_split_that_may_be_missing_counts_when_it_comes(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    (beir / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    age(beir)
    assert ticks.tick().tags[BECAUSE] == "tiny was changed"


def test_a_snapshot_of_unknown_origin_is_taken_as_it_is(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    (record,) = (beir.parent / "home" / "snapshots" / "prod" / ".fingerprints").iterdir()
    record.unlink()
    assert "Nobody wrote down" in ticks.tick()
    assert "Nothing changed since the last decision" in ticks.tick()
    documents(beir, ["new"] * 10)
    assert ticks.tick().tags[BECAUSE] == "tiny was changed"


def test_what_a_person_built_from_other_sources_stays_until_the_sources_change(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path
) -> None:
    build(instance)
    ticks.tick()
    other = beir.parent / "other.yaml"
    other.write_text("sources: [{kind: beir, name: renamed, path: collection}]")
    build(instance, run_config={"ops": {"read_sources": {"config": {"sources": str(other)}}}})
    assert "The latest snapshot was built from other sources by hand." in ticks.tick()
    documents(beir, ["new"] * 10)
    assert ticks.tick().tags[BECAUSE] == "tiny was changed"


def test_a_cursor_of_another_version_starts_anew(sources: Path, ticks: SourceTicks, instance: DagsterInstance) -> None:
    build(instance)
    ticks.cursor = '{"known": "no longer a mapping"}'
    assert "Nothing changed since snapshot" in ticks.tick()


def test_a_tick_reads_no_file_that_looks_as_before(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(instance)
    ticks.tick()
    (beir / "corpus.jsonl").chmod(0o644)
    ticks.tick()
    monkeypatch.setattr("shared_ops.data.storage.sha256", lambda path: pytest.fail(f"{path} was read"))
    assert "Nothing changed" in ticks.tick()


def test_a_file_of_a_table_elsewhere_is_told_by_what_its_store_says(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance
) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/faq.jsonl", b'{"doc_id": "a", "text": "A."}')
    sources.write_text("sources: [{kind: table, name: faq, documents: {path: 'memory://faq.jsonl'}}]")
    assert build(instance).success
    assert "Nothing changed since snapshot" in ticks.tick()
    store.pipe_file("/faq.jsonl", b'{"doc_id": "b", "text": "B."}')
    assert ticks.tick().tags[BECAUSE] == "faq was changed"


@pytest.fixture
def behind_a_password(sources: Path, instance: DagsterInstance) -> str:
    """The URL, with a password in it, of a file that the corpus was built from."""
    url = "memory://reader:hunter2@h/secret.jsonl"
    fsspec.filesystem("memory").pipe_file(url, b'{"doc_id": "a", "text": "A."}')
    sources.write_text(f"sources: [{{kind: table, name: faq, documents: {{path: '{url}'}}}}]")
    assert build(instance).success
    return url


def test_the_cursor_names_no_address_because_it_is_stored_and_shown(
    behind_a_password: str, ticks: SourceTicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Nothing changed since snapshot" in ticks.tick()
    assert "hunter2" not in ticks.cursor and "secret.jsonl" not in ticks.cursor
    states: list[FileState | None] = []

    def seen(url: str, source: str, known: FileState | None) -> FileState | None:
        states.append(known)
        return known

    monkeypatch.setattr(fingerprints, "state", seen)
    assert "Nothing changed since snapshot" in ticks.tick()
    assert states != [None], "what was seen of the file is found again"


def test_a_cursor_that_names_addresses_is_read_and_they_are_gone_after_a_tick(
    behind_a_password: str, ticks: SourceTicks, sources: Path
) -> None:
    ticks.tick()
    now = json.loads(ticks.cursor)
    (state,) = now["known"].values()
    before = json.dumps({**now, "known": {}, "files": {behind_a_password: state}})
    ticks.cursor = before
    assert "Nothing changed since snapshot" in ticks.tick()
    assert json.loads(ticks.cursor) == now
    ticks.cursor = before
    sources.write_text("sources: [{kind: table, name: faq, documents: {path: nowhere.jsonl}}]")
    assert "nowhere.jsonl is not there" in ticks.tick()
    assert "hunter2" not in ticks.cursor and json.loads(ticks.cursor)["decided"] == now["decided"]


def test_another_version_of_a_package_is_a_change(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.write_text("sources: [{kind: pydocs, name: docs, packages: {scikit-learn: sklearn, image: skimage.io}}]")
    before = fingerprints.take(sources, {}).sources
    assert fingerprints.take(sources, {}).sources == before
    real = metadata.version
    for changed in ("scikit-learn", "scikit-image"):
        monkeypatch.setattr(metadata, "version", lambda name, c=changed: "99" if name == c else real(name))
        assert fingerprints.take(sources, {}).sources != before


@pytest.fixture
def shop(postgres: str, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlalchemy.Engine]:
    """A sources file that names a table of products in PostgreSQL, and a connection to change it."""
    monkeypatch.setenv("SHOP", postgres)
    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS product"))
        connection.execute(text("CREATE TABLE product (doc_id text, text text, updated int)"))
        connection.execute(text("INSERT INTO product VALUES ('a', 'A thing.', 1)"))
    yield engine
    engine.dispose()


def shop_source(**settings: str) -> str:
    entry = {"kind": "sql", "name": "shop", "url": "${SHOP}", "documents": {"query": "SELECT * FROM product"}}
    return json.dumps({"sources": [{**entry, **settings}]})


def test_a_database_is_asked_what_its_changed_query_says(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, shop: sqlalchemy.Engine
) -> None:
    sources.write_text(shop_source(changed_query="SELECT max(updated), count(*) FROM product"))
    assert build(instance).success
    assert "Nothing changed since snapshot" in ticks.tick()
    with shop.begin() as connection:
        connection.execute(text("INSERT INTO product VALUES ('b', 'Another.', 2)"))
    assert ticks.tick().tags[BECAUSE] == "shop was changed"
    sources.write_text(shop_source(changed_query="SELECT nothing FROM product"))
    assert 'column "nothing" does not exist' in ticks.tick()


def test_a_database_without_a_changed_query_is_left_to_the_daily_schedule(
    sources: Path, ticks: SourceTicks, instance: DagsterInstance, shop: sqlalchemy.Engine
) -> None:
    sources.write_text(shop_source())
    build(instance)
    with shop.begin() as connection:
        connection.execute(text("INSERT INTO product VALUES ('b', 'Another.', 2)"))
    assert "shop (no changed_query: read by the daily schedule only)" in ticks.tick()


def test_every_day_at_two_the_sources_are_read(sources: Path, instance: DagsterInstance) -> None:
    assert daily.cron_schedule == "0 2 * * *" and daily.job_name == "corpus_prod"
    assert daily_build(instance).tags[BECAUSE] == "every source is read once a day"
    run = finish(instance, DagsterRunStatus.STARTED)
    assert daily_build(instance).skip_message == f"Run {run.run_id[:8]} reads the sources already."


def test_all_of_it_is_on_by_default(sources: Path) -> None:
    from repos.corpus import definitions

    repository = definitions.defs.get_repository_def()
    assert repository.get_sensor_def("sources_changed").default_status == DefaultSensorStatus.RUNNING
    assert repository.get_schedule_def("corpus_daily").default_status == DefaultScheduleStatus.RUNNING
