"""The feedback's jobs and triggers, against a real PostgreSQL: from recorded searches and clicks to what is learned."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psycopg2
import pytest
from dagster import (
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    ExecuteInProcessResult,
    JobDefinition,
    MetadataValue,
    RunRequest,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
)

from repos.feedback.graph import feedback_dev, feedback_prod, forget_prod
from repos.feedback.parts import Parts
from repos.feedback.tests.recorded import START, click, in_all, search
from repos.feedback.triggers import daily_feedback, enough_clicks
from shared_ops.data import storage, tables
from shared_ops.data.feedback import Feedback, FeedbackRef
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.data.ubi import Store
from shared_ops.pipeline.lineage import feedback_key, source_key
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import DEV, PROD, DeploymentResource
from shared_ops.pipeline.types import check_feedback
from shared_ops.release.releases import ReleaseManifest
from shared_ops.settings import Deployment

PAGE = ["a", "b", "c"]
DAY = 24 * 3600.0

Tick = Callable[[], Any]
"""A tick of the sensor: the run that it asks for, or why none."""


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def run(job: JobDefinition, instance: DagsterInstance, **config: dict[str, Any]) -> ExecuteInProcessResult:
    ops = {op: {"config": settings} for op, settings in config.items()}
    result = job.execute_in_process(instance=instance, run_config={"ops": ops})
    assert result.success
    return result


def said(instance: DagsterInstance, result: ExecuteInProcessResult) -> str:
    """What a run logged, its own lines and Dagster's."""
    return "\n".join(record.user_message for record in instance.all_logs(result.run_id))


def cells(table: MetadataValue[Any]) -> list[tuple[str, ...]]:
    """The rows of a Markdown table in Dagit."""
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in str(table.value).splitlines()]


def latest() -> Feedback:
    return Feedback(PROD.feedback.latest())


def materialized(instance: DagsterInstance, deployment: Deployment = "prod") -> AssetMaterialization | None:
    event = instance.get_latest_materialization_event(feedback_key(deployment))
    return event and event.asset_materialization


def release_that_learned_from(feedback: FeedbackRef) -> ReleaseManifest:
    return ReleaseManifest(
        family="behavior", version="v1", created_at=START, snapshot=SnapshotRef(id="s", url="file:///s"),
        feedback=feedback, parameters={}, hyperparameters={}, metrics={}, gate={"accepted": True, "reasons": []},
        environment="e", code_version="c", deployment="prod", run_id="r",
    )  # fmt: skip


def parts(deployment: DeploymentResource = PROD) -> Parts:
    return Parts(storage.join(deployment.feedback.url, "parts"))


def test_searches_and_clicks_become_feedback_and_dagit_is_told(store: Store, instance: DagsterInstance) -> None:
    real = [search("sort", PAGE, f"s{i}", at=i, features=[[1.0], [2.0], [3.0]], hits=True) for i in range(3)]
    made_up = search("Sort!", PAGE, "m", at=9, application="simulation")
    store.add([*real, made_up], [click(real[0], "b"), click(made_up, "a"), click(made_up, "b", position=3)])
    run(feedback_prod, instance)
    assert in_all(latest().clicks()).select("doc_id", "clicks", "impressions").rows() == [
        ("a", 1, 4),
        ("b", 1, 4),
        ("c", 0, 4),
    ]
    assert len(latest().requests()) == 3 and len(latest().judged()) == len(latest().clicks())
    materialization = materialized(instance)
    assert materialization.tags["dagster/data_version"] == latest().ref.id
    numbers = {
        name: materialization.metadata[name].value
        for name in ("clicks", "searches", "sessions", "simulated share", "events left out")
    }
    assert numbers == {"clicks": 2, "searches": 4, "sessions": 4, "simulated share": 0.5, "events left out": 1}
    assert (
        materialization.metadata["clicks of simulation"].value
        == materialization.metadata["clicks of searchloop"].value
        == 1
    )
    metadata = materialization.metadata
    assert ("2", "0.500") in cells(metadata["propensities"])
    assert ("a click at another position than shown", "1") in cells(metadata["left out"])
    simulated = ("simulation", "SIMULATED: nobody searched or clicked any of this", "1", "1", "1")
    assert simulated in cells(metadata["where it comes from"])


def test_a_run_takes_what_is_new_since_the_last_and_learns_from_all(store: Store, instance: DagsterInstance) -> None:
    first, second = search("sort", PAGE, "s1"), search("sort", PAGE, "s2")
    store.add([first], [click(first, "a")])
    run(feedback_prod, instance)
    before, watermark = latest(), PROD.feedback.watermark()
    store.add([second], [click(second, "a")])
    result = run(feedback_prod, instance)
    assert f"1 searches and 1 clicks in transactions {watermark} to" in said(instance, result)
    assert in_all(latest().clicks())["clicks"].to_list() == [2, 0, 0] and len(parts().names()) == 2
    assert in_all(before.clicks())["clicks"].to_list() == [1, 0, 0]  # what was published stays as it is


@pytest.mark.slow
def test_what_the_ranker_was_given_is_read_of_the_newest_searches_alone(
    store: Store, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repos.feedback.parts.WITH_RANKING", 2)
    features = [[1.0], [2.0], [3.0]]
    for at in range(3):  # three parts, of two searches each
        searches = [
            search(f"query {at}", PAGE, f"s{at}.{i}", at=10 * at + i, features=features, hits=True) for i in (0, 1)
        ]
        store.add(searches, [click(searches[0], "a")])
        run(feedback_prod, instance)
    assert latest().clicks()["text"].n_unique() == 3
    assert latest().asked()["text"].unique().to_list() == ["query 2"] and len(latest().requests()) == 2


def test_events_that_come_late_or_again_are_counted_once(store: Store, instance: DagsterInstance) -> None:
    first = search("sort", PAGE, "s1")
    clicked = click(first, "a")
    store.add([], [clicked, clicked])
    run(feedback_prod, instance)
    assert latest().manifest().left_out == {"a click for an unknown search": 1}
    store.add([first], [clicked])  # the search comes after its click, and the click once more
    run(feedback_prod, instance)
    assert in_all(latest().clicks())["clicks"].to_list() == [1, 0, 0] and latest().manifest().left_out == {}


def test_a_run_that_ended_before_it_published_is_made_up_for(store: Store, instance: DagsterInstance) -> None:
    first, later = search("sort", PAGE, "s1"), search("sort", PAGE, "s2")
    store.add([first], [click(first, "a")])
    run(feedback_prod, instance)
    ref, watermark = PROD.feedback.latest(), PROD.feedback.watermark()
    store.add([later], [click(later, "b")])
    run(feedback_prod, instance)
    PROD.feedback.point_to(ref, watermark)  # as if it had been killed just before: its part is there already
    assert len(parts().names()) == 2
    run(feedback_prod, instance)
    assert in_all(latest().clicks())["impressions"].to_list() == [2, 2, 2]
    assert in_all(latest().clicks())["clicks"].to_list() == [1, 1, 0]


def test_with_nothing_new_nothing_is_published_and_the_run_says_so(store: Store, instance: DagsterInstance) -> None:
    store.add([search("sort", PAGE, "s1")], [])
    run(feedback_prod, instance)
    ref = PROD.feedback.latest()
    result = run(feedback_prod, instance)
    assert f"Nothing new since feedback {ref.id}; nothing is published." in said(instance, result)
    assert PROD.feedback.latest() == ref and len(parts().names()) == 1
    assert [event.step_key for event in result.all_events if event.is_step_success] == ["read_events"]


def test_before_anybody_searched_nothing_is_published(store: Store, instance: DagsterInstance) -> None:
    assert "Nothing new since feedback (none yet)" in said(instance, run(feedback_prod, instance))
    assert PROD.feedback.latest() is None and materialized(instance) is None


def test_other_parameters_are_tried_again_on_the_same_events(store: Store, instance: DagsterInstance) -> None:
    page = [f"d{i}" for i in range(20)]
    store.add([search("sort", page, "s1")], [])
    run(feedback_prod, instance)
    before = latest()
    run(feedback_prod, instance, read_events={"again": True}, learn_clicks={"propensity_floor": 0.5})
    assert (
        in_all(latest().clicks())["examinations"].min() == 0.5 and in_all(before.clicks())["examinations"].min() == 0.1
    )


def test_a_database_that_was_replaced_is_read_from_its_start(store: Store, instance: DagsterInstance) -> None:
    first = search("sort", PAGE, "s1")
    store.add([first], [click(first, "a")])
    run(feedback_prod, instance)
    PROD.feedback.point_to(PROD.feedback.latest(), watermark=10**9)
    result = run(feedback_prod, instance)
    assert "The database is another one than before" in said(instance, result)
    assert PROD.feedback.watermark() < 10**9 and in_all(latest().clicks())["clicks"].to_list() == [1, 0, 0]


def test_dev_learns_from_the_same_events_and_touches_nothing_of_prod(store: Store, instance: DagsterInstance) -> None:
    store.add([search("sort", PAGE, "s1")], [])
    run(feedback_dev, instance)
    assert len(Feedback(DEV.feedback.latest()).clicks()) == 3 and materialized(instance, "dev")
    assert PROD.feedback.latest() is None and not parts().names() and materialized(instance) is None


def test_what_is_too_old_is_forgotten_everywhere_and_no_longer_learned_from(
    store: Store, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = search("sort", PAGE, "s1", at=-40 * DAY), search("sort", PAGE, "s2")
    store.add([old], [click(old, "a"), click(old, "b")])
    run(feedback_prod, instance)
    run(feedback_dev, instance)
    store.add([new], [click(new, "c")])
    run(feedback_prod, instance)
    assert in_all(latest().clicks())["impressions"].to_list() == [2, 2, 2]
    monkeypatch.setenv("SEARCHLOOP_RETENTION_DAYS", "30")
    messages = said(instance, run(forget_prod, instance))
    assert "1 searches, 2 clicks, 1 parts of dev, 1 parts of prod" in messages
    window = store.window(0)
    assert [query.query_id for query in store.queries(window)] == [new.query_id] and len(store.events(window)) == 1
    assert len(parts().names()) == 1 and not parts(DEV).names()
    run(feedback_prod, instance, read_events={"again": True})
    assert in_all(latest().clicks()).select("impressions", "clicks").rows() == [(1, 0), (1, 0), (1, 1)]
    assert latest().manifest().left_out == {}


def test_feedback_that_no_release_learned_from_is_removed_but_for_the_latest_and_what_is_new(
    store: Store, instance: DagsterInstance, tmp_path: Path
) -> None:
    refs = []
    for days in (9, 8, 7, 0.5, 0.1):
        first = search("sort", PAGE, f"s{days}", at=DAY * (1 - days))
        store.add([first], [click(first, "a")])
        run(feedback_prod, instance)
        refs.append(latest().ref)
    folder = tmp_path / "weights"
    folder.mkdir()
    PROD.staging.publish(folder, release_that_learned_from(refs[1]))
    assert "Removed 2 feedback of prod" in said(instance, run(forget_prod, instance))
    there = [ref for ref in refs if storage.exists(ref.url)]
    assert there == [refs[1], refs[3], refs[4]]


def test_a_click_that_comes_when_its_search_is_too_old_is_left_out_without_a_word(
    store: Store, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCHLOOP_RETENTION_DAYS", "30")
    old = search("sort", PAGE, "s1", at=-40 * DAY)
    store.add([old], [click(old, "a", at=0)])
    run(feedback_prod, instance)
    assert not len(latest().clicks()) and latest().manifest().left_out == {}


def test_published_tables_that_do_not_hold_together_are_told(store: Store, instance: DagsterInstance) -> None:
    first = search("sort", PAGE, "s1", features=[[1.0]] * 3)
    store.add([first], [click(first, "a")])
    run(feedback_prod, instance)
    ref = PROD.feedback.latest()
    check = check_feedback(ref)
    assert check.success and check.metadata["clicks"].value == 3
    broken = latest().clicks().with_columns(clicks=pl.col("impressions") + 1)
    tables.write(storage.join(ref.url, "clicks.parquet"), broken)
    assert "3 rows have more clicks or examinations than impressions" in check_feedback(ref).description
    tables.write(storage.join(ref.url, "clicks.parquet"), broken.clear())
    assert "3 judged documents are not among those shown" in check_feedback(ref).description
    tables.write(storage.join(ref.url, "clicks.parquet"), broken.drop("text"))
    assert "Table 'clicks' does not hold to its schema" in check_feedback(ref).description
    storage.remove(ref.url)
    assert "No feedback at" in check_feedback(ref).description


def test_a_job_without_a_database_says_what_to_set(
    home: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEARCHLOOP_POSTGRES_URL", raising=False)
    with pytest.raises(RuntimeError, match="SEARCHLOOP_POSTGRES_URL is not set"):
        feedback_prod.execute_in_process(instance=instance)


@pytest.fixture
def tick(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Tick:
    """Evaluates the sensor as the daemon does; 3 clicks are enough."""
    monkeypatch.setenv("SEARCHLOOP_ENOUGH_CLICKS", "3")
    return lambda: enough_clicks(build_sensor_context(instance=instance))


def clicked(store: Store, clicks: int) -> None:
    searches = [search("sort", PAGE, f"of click {i}") for i in range(clicks)]
    store.add(searches, [click(each, "a") for each in searches])


def test_too_few_clicks_wait(store: Store, instance: DagsterInstance, tick: Tick) -> None:
    clicked(store, 2)
    assert tick().skip_message == "2 of 3 new clicks since the start: there is no feedback yet; waiting"
    run(feedback_prod, instance)
    clicked(store, 1)
    assert tick().skip_message == f"1 of 3 new clicks since feedback {PROD.feedback.latest().id}; waiting"


def test_clicks_that_can_teach_nothing_are_not_waited_for(store: Store, instance: DagsterInstance, tick: Tick) -> None:
    """Clicks for searches that were never recorded, or on documents that were not shown."""
    first, never = search("sort", PAGE, "s1"), search("sort", PAGE, "s2")
    elsewhere = click(search("sort", ["elsewhere"], "s1", search_id=first.query_id), "elsewhere")
    store.add([first], [click(first, "a"), elsewhere, *(click(never, "a") for _ in range(10))])
    assert tick().skip_message.startswith("1 of 3 new clicks")


def test_enough_clicks_ask_for_a_run_that_says_why(store: Store, instance: DagsterInstance, tick: Tick) -> None:
    clicked(store, 4)
    request = tick()
    assert isinstance(request, RunRequest)
    assert request.tags[BECAUSE] == "4 of 3 new clicks since the start: there is no feedback yet"
    tags = {**request.tags, "dagster/run_key": request.run_key}
    feedback_prod.execute_in_process(instance=instance, run_config=request.run_config, tags=tags)
    assert tick().skip_message.startswith("0 of 3 new clicks since feedback")
    clicked(store, 3)
    assert tick().run_key != request.run_key


def test_a_run_reads_up_to_where_its_trigger_looked_and_what_came_later_is_left_to_the_next(
    store: Store, instance: DagsterInstance, tick: Tick
) -> None:
    clicked(store, 3)
    request = tick()
    clicked(store, 4)
    assert feedback_prod.execute_in_process(instance=instance, run_config=request.run_config).success
    assert latest().manifest().watermark == request.run_config["ops"]["read_events"]["config"]["before"]
    assert in_all(latest().clicks())["clicks"].sum() == 3
    assert tick().tags[BECAUSE].startswith("4 of 3 new clicks since feedback")


def test_what_another_run_has_read_since_is_not_read_again_and_the_run_says_so(
    store: Store, instance: DagsterInstance, tick: Tick
) -> None:
    clicked(store, 3)
    request = tick()
    clicked(store, 1)
    run(feedback_prod, instance)  # by hand, up to now
    ref, watermark = PROD.feedback.latest(), PROD.feedback.watermark()
    result = feedback_prod.execute_in_process(instance=instance, run_config=request.run_config)
    assert f"Nothing new since feedback {ref.id}; nothing is published." in said(instance, result)
    assert (PROD.feedback.latest(), PROD.feedback.watermark()) == (ref, watermark) and len(parts().names()) == 1
    again = {"read_events": {"again": True, **request.run_config["ops"]["read_events"]["config"]}}
    run(feedback_prod, instance, **again)
    assert PROD.feedback.watermark() == watermark


def test_a_transaction_of_a_database_that_was_replaced_since_is_no_limit(
    store: Store, instance: DagsterInstance
) -> None:
    clicked(store, 3)
    run(feedback_prod, instance, read_events={"before": 10**9})
    assert in_all(latest().clicks())["clicks"].sum() == 3 and PROD.feedback.watermark() < 10**9


def test_while_a_run_is_under_way_none_is_asked_for(store: Store, instance: DagsterInstance, tick: Tick) -> None:
    clicked(store, 4)
    under_way = instance.create_run_for_job(job_def=feedback_prod, status=DagsterRunStatus.STARTED)
    assert tick().skip_message == f"Run {under_way.run_id[:8]} of feedback_prod is under way; waiting for its end."


def test_a_run_that_failed_is_asked_for_again_when_as_many_clicks_more_are_there(
    store: Store, instance: DagsterInstance, tick: Tick
) -> None:
    clicked(store, 4)
    tags = {"dagster/run_key": tick().run_key}
    instance.create_run_for_job(job_def=feedback_prod, status=DagsterRunStatus.FAILURE, tags=tags)
    assert "ended with FAILURE" in tick().skip_message
    clicked(store, 1)
    assert isinstance(tick(), SkipReason)
    clicked(store, 1)
    assert isinstance(tick(), RunRequest)


def test_a_database_that_was_replaced_asks_for_a_run_whatever_it_holds(
    store: Store, instance: DagsterInstance, tick: Tick
) -> None:
    clicked(store, 1)
    run(feedback_prod, instance)
    PROD.feedback.point_to(PROD.feedback.latest(), watermark=10**9)
    assert "The database was replaced" in tick().tags[BECAUSE]
    run(feedback_prod, instance)
    assert tick().skip_message.startswith("0 of 3 new clicks")


def test_without_a_database_the_sensor_waits(store: Store, tick: Tick, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg2.connect(store._url) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE ubi_queries, ubi_events")
    connection.close()
    assert "Nobody has searched yet" in tick().skip_message
    monkeypatch.setenv("SEARCHLOOP_POSTGRES_URL", "postgresql+psycopg2://127.0.0.1:1/none")
    assert "Postgres cannot be asked, the next tick tries again: " in tick().skip_message
    assert "Connection refused" in tick().skip_message
    monkeypatch.delenv("SEARCHLOOP_POSTGRES_URL")
    assert "SEARCHLOOP_POSTGRES_URL is not set" in tick().skip_message


def test_once_a_day_a_single_new_click_is_enough(store: Store) -> None:
    # A schedule opens its instance by a reference, which an instance in memory does not have.
    with DagsterInstance.local_temp() as instance, build_schedule_context(instance=instance) as day:
        assert daily_feedback(day).skip_message.startswith("0 of 1 new clicks")
        clicked(store, 1)
        assert isinstance(daily_feedback(day), RunRequest)


def test_the_triggers_are_on_by_default(home: Path) -> None:
    from repos.feedback.definitions import defs

    assert {each.name: each.default_status.value for each in [*defs.sensors, *defs.schedules]} == {
        "enough_clicks": "RUNNING", "drift": "RUNNING", "daily_feedback": "RUNNING", "daily_forget": "RUNNING",
    }  # fmt: skip
    assert {check.name for each in defs.asset_checks for check in each.check_specs} == {"bursts", "code_loads"}


def test_definitions_show_where_feedback_comes_from(home: Path) -> None:
    from repos.feedback.definitions import defs

    graph = defs.resolve_asset_graph()
    for deployment in ("dev", "prod"):
        parents = graph.get(feedback_key(deployment)).parent_keys
        assert parents == {source_key(deployment, "searches_and_clicks")}
    jobs = {job.name: job for job in defs.resolve_all_job_defs()}
    assert {"feedback_dev", "feedback_prod", "forget_prod"} <= set(jobs) and "forget_dev" not in jobs
    assert jobs["feedback_prod"].tags["searchloop/queue"] == "feedback"
