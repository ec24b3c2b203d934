"""What is due is decided by what is there: no event can be missed, and a burst leads to one training."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    RunRequest,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
    graph,
    job,
)
from dagster._core.test_utils import create_run_for_test

from shared_ops.data.feedback import FeedbackManifest, FeedbackRef
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.ops import load_inputs_op
from shared_ops.pipeline.references import AGAIN, BECAUSE, BY_HAND
from shared_ops.pipeline.resources import PROD
from shared_ops.pipeline.triggers import DATA, daily_schedule, due, nightly, retrain_sensor
from shared_ops.release import promotion
from shared_ops.release.acceptance import follow
from shared_ops.release.inputs import find
from shared_ops.release.releases import ReleaseManifest
from shared_ops.settings import families, search_families


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def snapshot(content: dict[str, pl.DataFrame]) -> SnapshotRef:
    return new_snapshot(content)


def new_snapshot(content: dict[str, pl.DataFrame]) -> SnapshotRef:
    ref = PROD.snapshots.publish(content)
    PROD.snapshots.point_to(ref)
    return ref


def new_feedback(tables_of: dict[str, pl.DataFrame]) -> FeedbackRef:
    manifest = FeedbackManifest(
        applications={}, left_out={}, propensities=[1.0], held_back_sessions=0, oldest=None, newest=None, watermark=1
    )
    ref = PROD.feedback.publish(tables_of, manifest)
    PROD.feedback.point_to(ref, 1)
    return ref


def learn(tmp_path: Path, family: str, version: str, accepted: bool = True) -> None:
    """Publish a release of the family that learned from the present data."""
    data = find(family, PROD.snapshots, PROD.feedback.latest(), PROD.staging)
    folder = tmp_path / f"{family}-{version}"
    folder.mkdir()
    (folder / "model.json").write_text(version)
    manifest = ReleaseManifest(
        family=family, version=version, created_at=datetime.now(UTC), snapshot=data.snapshot, feedback=data.feedback,
        learned_from=data.releases, key=version, parameters={}, hyperparameters={}, metrics={},
        gate={"accepted": accepted, "reasons": []}, environment="e", code_version="c", deployment="prod", run_id="r",
    )  # fmt: skip
    manifest = PROD.staging.publish(folder, manifest)
    if accepted:
        PROD.staging.accept(manifest)


def test_a_run_that_says_nothing_else_says_that_it_was_started_by_hand_or_every_day() -> None:
    @graph
    def keyword() -> None:
        pass

    dev, prod = family_jobs(keyword)
    assert dev.run_tags[BECAUSE] == prod.run_tags[BECAUSE] == BY_HAND
    (request,) = daily_schedule("keyword", prod).evaluate_tick(build_schedule_context()).run_requests
    assert request.tags[BECAUSE] == "every day, for new code or another environment"


def why(decided: object) -> str:
    assert isinstance(decided, SkipReason), decided
    return decided.skip_message


def test_without_a_snapshot_nothing_is_due_and_it_says_how_to_get_one(instance: DagsterInstance) -> None:
    assert "make train REPO=corpus" in why(due(instance, "keyword"))


def test_a_snapshot_that_was_not_learned_is_due(instance: DagsterInstance, snapshot: SnapshotRef) -> None:
    request = due(instance, "keyword")
    assert isinstance(request, RunRequest) and snapshot.id in request.tags["searchloop/because"]


def test_its_run_learns_from_just_what_the_trigger_found(
    instance: DagsterInstance,
    snapshot: SnapshotRef,
    content: dict[str, pl.DataFrame],
    tmp_path: Path,
    empty_feedback: dict[str, pl.DataFrame],
) -> None:
    feedback = new_feedback(empty_feedback)
    for family in search_families():
        learn(tmp_path, family, "v1")
    config = due(instance, "ranker").run_config
    chosen = config["ops"]["load_inputs"]["config"]
    assert chosen == {
        "snapshot_id": snapshot.id, "feedback_id": feedback.id, "releases": dict.fromkeys(search_families(), "v1"),
    }  # fmt: skip
    new_snapshot(content | {"slices": content["slices"].clear()})
    assert PROD.snapshots.latest() != snapshot
    load_inputs = load_inputs_op("ranker")

    @job(resource_defs={"deployment": PROD})
    def loading() -> None:
        load_inputs()

    data = loading.execute_in_process(run_config=config, instance=instance).output_for_node("load_inputs")
    assert (data.snapshot, data.feedback, data.releases) == (snapshot, feedback, chosen["releases"])


@pytest.mark.parametrize(("accepted", "word"), [(True, "accepted"), (False, "rejected")])
def test_what_was_learned_is_not_due_whatever_became_of_it(
    instance: DagsterInstance, snapshot: SnapshotRef, tmp_path: Path, accepted: bool, word: str
) -> None:
    learn(tmp_path, "keyword", "v1", accepted)
    assert f"keyword/v1 ({word}) already learned from snapshot {snapshot.id}" in why(due(instance, "keyword"))


def test_an_older_release_of_the_same_data_that_is_accepted_again_is_no_news(
    instance: DagsterInstance, snapshot: SnapshotRef, tmp_path: Path
) -> None:
    """As where code was changed back: the newer release learned from the same data, with other code."""
    for version in ("v1", "v2"):
        learn(tmp_path, "keyword", version)
    PROD.staging.accept(PROD.staging.manifest("keyword", "v1"))
    assert "keyword/v1 (accepted) already learned" in why(due(instance, "keyword"))


def test_data_that_comes_back_is_due_once_to_accept_what_it_led_to(
    instance: DagsterInstance, snapshot: SnapshotRef, content: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    """So it is for a ranker when an upstream family's code is changed back: the family's earlier release comes back."""
    learn(tmp_path, "keyword", "v1")
    new_snapshot(content | {"slices": content["slices"].clear()})
    learn(tmp_path, "keyword", "v2")
    PROD.snapshots.point_to(snapshot)
    request = due(instance, "keyword")
    assert "after v2" in request.run_key
    tags = {DATA: request.tags[DATA]}
    run = create_run_for_test(instance, job_name="keyword_prod", status=DagsterRunStatus.FAILURE, tags=tags)
    assert f"Run {run.run_id[:8]} was to learn" in why(due(instance, "keyword")), "and no second time by itself"
    PROD.staging.accept(PROD.staging.manifest("keyword", "v1"))
    assert "keyword/v1 (accepted) already learned" in why(due(instance, "keyword"))


def test_a_rollback_is_not_undone_by_a_ranker_of_the_same_data_over_the_releases_that_were_gone_back_to(
    instance: DagsterInstance, snapshot: SnapshotRef, content: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    for family in families():
        learn(tmp_path, family, "v1")
    sets = PROD.live_sets
    sets.go_live(sets.propose(dict.fromkeys(families(), "v1"), snapshot, "first"))
    other = new_snapshot(content | {"slices": content["slices"].clear()})
    for family in families():
        learn(tmp_path, family, "v2")
    sets.go_live(sets.propose(dict.fromkeys(families(), "v2"), other, "second"))
    sets.go_live(sets.past(1))
    sets.mark_rolled_back([2])
    follow(sets, sets.live(), PROD.staging)
    assert "ranker/v2 learned from this data and was taken back with set 2" in why(due(instance, "ranker"))
    learn(tmp_path, "keyword", "v3")
    assert "keyword/v3" in due(instance, "ranker").tags["searchloop/because"], "something new has come"


def test_a_new_snapshot_makes_it_due_again(
    instance: DagsterInstance, snapshot: SnapshotRef, content: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    learn(tmp_path, "keyword", "v1")
    other = new_snapshot(content | {"slices": content["slices"].clear()})
    assert other.id in due(instance, "keyword").tags["searchloop/because"]


def test_new_clicks_concern_those_alone_who_learn_from_them(
    instance: DagsterInstance, snapshot: SnapshotRef, tmp_path: Path, empty_feedback: dict[str, pl.DataFrame]
) -> None:
    for family in search_families():
        learn(tmp_path, family, "v1")
    feedback = new_feedback(empty_feedback)
    assert "already learned" in why(due(instance, "keyword")) and "already learned" in why(due(instance, "semantic"))
    assert feedback.id in due(instance, "behavior").tags["searchloop/because"]


@pytest.fixture
def empty_feedback() -> dict[str, pl.DataFrame]:
    from shared_ops.data import tables
    from shared_ops.data.feedback import TABLES

    return {name: tables.empty(name) for name in TABLES}


def test_one_training_of_a_family_at_a_time(instance: DagsterInstance, snapshot: SnapshotRef) -> None:
    run = create_run_for_test(instance, job_name="keyword_prod", status=DagsterRunStatus.STARTED)
    assert f"Run {run.run_id[:8]} of keyword is in flight" in why(due(instance, "keyword"))


def test_a_training_that_failed_is_not_started_again_by_itself(
    instance: DagsterInstance, snapshot: SnapshotRef
) -> None:
    tags = due(instance, "keyword").tags
    create_run_for_test(instance, job_name="keyword_prod", status=DagsterRunStatus.FAILURE, tags=dict(tags))
    assert "ended FAILURE; it is not tried again by itself" in why(due(instance, "keyword"))


def test_a_training_that_failed_for_what_has_passed_is_started_again(
    instance: DagsterInstance, snapshot: SnapshotRef
) -> None:
    """As one whose code was saved while it was loaded: saving a file must not stop a family's learning."""
    first = due(instance, "keyword")
    ended = create_run_for_test(
        instance,
        job_name="keyword_prod",
        status=DagsterRunStatus.FAILURE,
        tags={**first.tags, AGAIN: "saved meanwhile"},
    )
    again = due(instance, "keyword")
    assert again.run_key == f"{first.run_key} after {ended.run_id}" and again.tags[DATA] == first.tags[DATA]
    create_run_for_test(instance, job_name="keyword_prod", status=DagsterRunStatus.FAILURE, tags=dict(again.tags))
    assert "is not tried again by itself" in why(due(instance, "keyword"))


def test_a_run_that_dagster_will_try_again_counts_as_in_flight(
    instance: DagsterInstance, snapshot: SnapshotRef
) -> None:
    tags = {**due(instance, "keyword").tags, "dagster/will_retry": "true"}
    create_run_for_test(instance, job_name="keyword_prod", status=DagsterRunStatus.FAILURE, tags=tags)
    assert "is in flight" in why(due(instance, "keyword"))


def test_a_run_that_was_to_be_tried_again_and_never_was_keeps_nobody_waiting(
    instance: DagsterInstance, snapshot: SnapshotRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster gives it up without a word where its job lies in another location by now."""
    tags = {**due(instance, "keyword").tags, "dagster/will_retry": "true"}
    create_run_for_test(instance, job_name="keyword_prod", status=DagsterRunStatus.FAILURE, tags=tags)
    later = time.time() + 3600
    monkeypatch.setattr("shared_ops.pipeline.triggers.time.time", lambda: later)
    assert "not tried again by itself" in why(due(instance, "keyword"))


def test_a_run_learns_from_no_release_that_was_taken_back_since_it_was_asked_for(
    instance: DagsterInstance, snapshot: SnapshotRef, tmp_path: Path
) -> None:
    for version in ("v1", "v2"):
        for family in search_families():
            learn(tmp_path, family, version)
        PROD.live_sets.go_live(PROD.live_sets.propose(dict.fromkeys(families(), version), snapshot, version))
    config = due(instance, "ranker").run_config
    promotion.rollback(PROD.live_sets, note="a try", services=False)
    load_inputs = load_inputs_op("ranker")

    @job(resource_defs={"deployment": PROD})
    def loading() -> None:
        load_inputs()

    run = loading.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
    assert not run.success and "was taken back with set 2" in instance.get_run_by_id(run.run_id).tags[AGAIN]


def test_three_families_that_finish_together_start_one_ranker_training(
    instance: DagsterInstance, snapshot: SnapshotRef, content: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    for number, family in enumerate(search_families()):
        assert isinstance(due(instance, "ranker"), SkipReason), f"due after {number} of the families"
        learn(tmp_path, family, "v1")
    first = due(instance, "ranker")
    assert isinstance(first, RunRequest) and all(
        f"{each}/v1" in first.tags["searchloop/because"] for each in search_families()
    )
    learn(tmp_path, "ranker", "r1")
    new_snapshot(content | {"slices": content["slices"].clear()})
    for family in search_families():
        assert "Waits for" in why(due(instance, "ranker"))
        learn(tmp_path, family, "v2")
    assert isinstance(due(instance, "ranker"), RunRequest)


def test_the_ranker_does_not_wait_for_a_family_whose_training_failed(
    instance: DagsterInstance, snapshot: SnapshotRef, content: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    for family in search_families():
        learn(tmp_path, family, "v1")
    learn(tmp_path, "ranker", "r1")
    new_snapshot(content | {"slices": content["slices"].clear()})
    for family in ("keyword", "behavior"):
        learn(tmp_path, family, "v2")
    tags = due(instance, "semantic").tags
    assert "Waits for semantic" in why(due(instance, "ranker"))
    create_run_for_test(instance, job_name="semantic_prod", status=DagsterRunStatus.FAILURE, tags={DATA: tags[DATA]})
    assert isinstance(due(instance, "ranker"), RunRequest)


def test_a_tick_with_nothing_new_asks_no_database(snapshot: SnapshotRef, tmp_path: Path) -> None:
    """The context has no instance: asking for it would raise."""

    @job
    def nothing() -> None:
        pass

    for family in families():
        learn(tmp_path, family, "v1")
        assert "already learned" in why(retrain_sensor(family, nothing)(build_sensor_context()))


def test_the_ranker_waits_for_a_training_that_was_created_a_moment_ago(
    instance: DagsterInstance,
    snapshot: SnapshotRef,
    content: dict[str, pl.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the look for runs in flight and the look for ended runs, a trigger may start the training."""
    for family in search_families():
        learn(tmp_path, family, "v1")
    learn(tmp_path, "ranker", "r1")
    new_snapshot(content | {"slices": content["slices"].clear()})
    for family in ("keyword", "semantic"):
        learn(tmp_path, family, "v2")
    tags = due(instance, "behavior").tags
    create_run_for_test(instance, job_name="behavior_prod", status=DagsterRunStatus.STARTED, tags={DATA: tags[DATA]})
    monkeypatch.setattr("shared_ops.pipeline.triggers.in_flight", lambda instance, job: None)
    assert "Waits for behavior" in why(due(instance, "ranker"))


def test_the_night_begins_when_its_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [nightly(-1, 30), nightly(), nightly(1)] == ["30 1 * * *", "0 2 * * *", "0 3 * * *"]
    monkeypatch.setenv("SEARCHLOOP_NIGHTLY_HOUR", "23")
    assert [nightly(-1, 30), nightly(), nightly(1)] == ["30 22 * * *", "0 23 * * *", "0 0 * * *"]
