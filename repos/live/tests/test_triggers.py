"""What moves the live set is decided by what is there: a new accepted ranker, a new snapshot; and it is tried again."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunRequest, SkipReason, build_sensor_context
from dagster._core.test_utils import create_run_for_test

from repos.live import triggers
from repos.live.triggers import FIRST_RETRY, new_accepted_ranker, new_snapshot, to_promote, to_show
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.pipeline.lineage import live_set_key, proposed_set_key
from shared_ops.pipeline.references import BECAUSE, HELD, OVERTAKEN
from shared_ops.pipeline.resources import PROD
from shared_ops.release import overrides, promotion
from shared_ops.release.livesets import NOTHING_LIVE, Decision, LiveSet
from shared_ops.release.releases import ReleaseManifest
from shared_ops.settings import families, ranking_families
from tests.lists import list_another_ranker


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def published(snapshot: SnapshotRef, content: dict[str, pl.DataFrame]) -> SnapshotRef:
    return publish(content)


def publish(content: dict[str, pl.DataFrame]) -> SnapshotRef:
    ref = PROD.snapshots.publish(content)
    PROD.snapshots.point_to(ref)
    return ref


def accept(family: str, version: str, snapshot: SnapshotRef, scratch: Path) -> None:
    """Publish an empty release, and accept it."""
    (folder := scratch / family / version).mkdir(parents=True)
    manifest = ReleaseManifest(
        family=family, version=version, created_at=datetime.now(UTC), snapshot=snapshot, parameters={},
        hyperparameters={}, metrics={}, gate={"accepted": True, "reasons": []}, environment="e", code_version="c",
        deployment="prod", run_id="r",
    )  # fmt: skip
    PROD.staging.accept(PROD.staging.publish(folder, manifest))


@pytest.fixture
def ranker(published: SnapshotRef, tmp_path: Path) -> None:
    """An accepted ranker."""
    accept(ranking_families()[0], "v1", published, tmp_path)


@pytest.fixture
def another(ranker: None, published: SnapshotRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The family of a second ranker, with an accepted release `a1`."""
    family = list_another_ranker(monkeypatch, tmp_path)
    accept(family, "a1", published, tmp_path)
    return family


@pytest.fixture
def live(published: SnapshotRef, ranker: None) -> LiveSet:
    PROD.live_sets.go_live(PROD.live_sets.propose(dict.fromkeys(families(), "v1"), published, "first"))
    return PROD.live_sets.live()


def why(decided: object) -> str:
    assert isinstance(decided, SkipReason), decided
    return decided.skip_message


def test_an_accepted_ranker_is_promoted_whatever_made_it(instance: DagsterInstance, ranker: None) -> None:
    request = to_promote(instance)
    assert isinstance(request, RunRequest) and request.tags[triggers.MOVES] == "ranker/v1 over set 0"
    assert request.run_config == {"ops": {"accepted_ranker": {"config": {"family": "ranker", "version": "v1"}}}}
    PROD.live_sets.decide("v1", Decision(accepted=False, reason="worse end to end"))
    assert "worse end to end" in why(to_promote(instance))


def test_the_history_of_the_sets_says_why_the_ranker_was_trained(
    instance: DagsterInstance, ranker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert to_promote(instance).tags[BECAUSE] == "its gate accepted it"
    trained = create_run_for_test(instance, job_name="ranker_prod", tags={BECAUSE: "new: hits of keyword"})
    monkeypatch.setattr(instance, "get_run_by_id", {"r": trained}.get)
    assert to_promote(instance).tags[BECAUSE] == "its gate accepted it (trained because: new: hits of keyword)"


def test_without_an_accepted_ranker_there_is_nothing_to_promote(instance: DagsterInstance) -> None:
    assert "No release of ranker is accepted" in why(to_promote(instance))


def found(asked: object) -> dict[str, str]:
    """What a trigger found to promote."""
    assert isinstance(asked, RunRequest), asked
    config: dict[str, str] = asked.run_config["ops"]["accepted_ranker"]["config"]
    return config


def test_of_several_rankers_each_that_is_undecided_is_promoted_in_the_list_s_order(
    instance: DagsterInstance, another: str
) -> None:
    assert found(to_promote(instance)) == {"family": "ranker", "version": "v1"}
    PROD.live_sets.decide("v1", Decision(accepted=False, reason="worse end to end"))
    assert found(to_promote(instance)) == {"family": another, "version": "a1"}
    PROD.live_sets.decide("a1", Decision(accepted=False, reason="as good"))
    assert why(to_promote(instance)).startswith("ranker/v1 was decided upon: worse end to end another/a1 was decided")


def test_the_live_ranker_s_family_goes_first(
    instance: DagsterInstance, another: str, published: SnapshotRef, tmp_path: Path
) -> None:
    """What others are compared with then has the same search models."""
    searches = {name: "v1" for name, each in families().items() if each.role == "search"}
    PROD.live_sets.go_live(PROD.live_sets.propose(searches | {another: "a0"}, published, "first"))
    assert found(to_promote(instance))["family"] == another


def test_a_promotion_that_waits_for_its_next_try_holds_up_no_other_ranker(
    instance: DagsterInstance, another: str
) -> None:
    failed = to_promote(instance)
    create_run_for_test(instance, job_name="promotion_prod", status=DagsterRunStatus.FAILURE, tags=failed.tags)
    assert found(to_promote(instance))["family"] == another
    create_run_for_test(instance, job_name="promotion_prod", status=DagsterRunStatus.STARTED)
    assert "is in flight" in why(to_promote(instance))


def test_a_ranker_that_is_live_is_left_alone(instance: DagsterInstance, live: LiveSet) -> None:
    assert "Set 1 holds the accepted ranker v1" in why(to_promote(instance))


@pytest.mark.parametrize("ended", [DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED])
def test_a_promotion_that_came_to_nothing_is_tried_again_at_longer_and_longer_intervals(
    instance: DagsterInstance, ranker: None, monkeypatch: pytest.MonkeyPatch, ended: DagsterRunStatus
) -> None:
    """A service that was away, an environment that could not be made, a stack that was ended: none is the last word."""
    keys = set()
    for wait in (FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY):
        request = to_promote(instance)
        keys.add(request.run_key)
        create_run_for_test(instance, job_name="promotion_prod", status=ended, tags=request.tags)
        assert f"which ended {ended.value}: tried again at" in why(to_promote(instance))
        now = time.time()
        monkeypatch.setattr(time, "time", lambda later=now + wait + 1: later)
    assert len(keys) == 3, "Dagster launches nothing twice for one key"


def test_a_new_snapshot_is_shown_once_by_what_is_live(
    instance: DagsterInstance, live: LiveSet, content: dict[str, pl.DataFrame]
) -> None:
    assert "Set 1 shows the newest snapshot" in why(to_show(instance))
    newest = publish(content | {"slices": content["slices"].clear()})
    request = to_show(instance)
    assert newest.id in request.run_key and newest.id in request.tags[triggers.MOVES]
    assert request.run_config == {"ops": {"newest_snapshot": {"config": {"snapshot_id": newest.id}}}}
    create_run_for_test(instance, job_name="show_snapshot_prod", status=DagsterRunStatus.SUCCESS, tags=request.tags)
    assert "to a ranker of it" in why(to_show(instance)), "it may be that too much is gone for it to be shown"


def test_a_run_that_was_overtaken_is_no_try_and_settles_nothing(
    instance: DagsterInstance, live: LiveSet, content: dict[str, pl.DataFrame]
) -> None:
    """What it left alone may be the newest again, where a source was changed back."""
    publish(content | {"slices": content["slices"].clear()})
    first = to_show(instance)
    tags = {**first.tags, OVERTAKEN: "another snapshot came"}
    ended = create_run_for_test(instance, job_name="show_snapshot_prod", status=DagsterRunStatus.SUCCESS, tags=tags)
    again = to_show(instance)
    assert again.run_config == first.run_config
    assert again.run_key == first.run_key.replace("after nothing", f"after {ended.run_id}")


def test_a_snapshot_that_was_gone_back_from_is_not_shown_again(
    instance: DagsterInstance, live: LiveSet, content: dict[str, pl.DataFrame]
) -> None:
    newest = publish(content | {"slices": content["slices"].clear()})
    PROD.live_sets.go_live(PROD.live_sets.propose(live.releases, newest, "second"))
    promotion.rollback(PROD.live_sets, note="a try", services=False)
    assert "was shown by set 2, which was rolled back" in why(to_show(instance))


def test_a_rollback_past_a_new_ranker_is_not_half_undone_by_its_snapshot(
    instance: DagsterInstance, live: LiveSet, content: dict[str, pl.DataFrame]
) -> None:
    """Set 1 shows A; a ranker's set 2 shows A, set 3 shows B: who goes back to set 1 goes back to A."""
    newer, newest = live.releases | {"keyword": "v2"}, publish(content | {"slices": content["slices"].clear()})
    for snapshot in (live.snapshot, newest):
        PROD.live_sets.go_live(PROD.live_sets.propose(newer, snapshot, "a ranker's"))
    promotion.rollback(PROD.live_sets, 1, note="a try", services=False)
    assert "was shown by set 3, which was rolled back" in why(to_show(instance))


def test_a_move_of_another_life_of_the_database_is_none_of_this_home_s(
    instance: DagsterInstance, live: LiveSet, content: dict[str, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of sets and hashes of snapshots come again where a home begins anew beside a database that stays."""
    publish(content | {"slices": content["slices"].clear()})
    earlier = live.model_copy(update={"created_at": live.created_at.replace(year=2000)})
    with monkeypatch.context() as then:
        then.setattr(type(PROD.live_sets), "live", lambda self: earlier)
        tags = to_show(instance).tags
    create_run_for_test(instance, job_name="show_snapshot_prod", status=DagsterRunStatus.SUCCESS, tags=tags)
    assert isinstance(to_show(instance), RunRequest)


def test_before_the_first_set_there_is_nothing_to_show(instance: DagsterInstance, published: SnapshotRef) -> None:
    assert NOTHING_LIVE in why(to_show(instance))


def test_while_frozen_no_run_is_asked_for_and_after_the_thaw_one_is_at_once(
    instance: DagsterInstance, live: LiveSet, content: dict[str, pl.DataFrame]
) -> None:
    """Nor is a run that found it frozen waited for as one that failed."""
    publish(content | {"slices": content["slices"].clear()})
    request = to_show(instance)
    overrides.freeze(PROD.live_sets, "ada", "the fair")
    assert "frozen by ada" in why(new_snapshot(build_sensor_context()))
    tags = {**request.tags, HELD: "frozen by ada"}
    create_run_for_test(instance, job_name="show_snapshot_prod", status=DagsterRunStatus.SUCCESS, tags=tags)
    overrides.thaw(PROD.live_sets, "ada")
    assert to_show(instance).run_config == request.run_config


@pytest.mark.parametrize("job", triggers.JOBS)
def test_one_run_at_a_time_moves_the_live_set(
    instance: DagsterInstance, live: LiveSet, content: dict[str, pl.DataFrame], job: str
) -> None:
    publish(content | {"slices": content["slices"].clear()})
    create_run_for_test(instance, job_name=job, status=DagsterRunStatus.STARTED)
    assert f"of {job} is in flight" in why(to_show(instance))


def test_a_tick_with_nothing_new_asks_no_database(live: LiveSet) -> None:
    """The context has no instance: asking for it would raise."""
    assert "Set 1 holds" in why(new_accepted_ranker(build_sensor_context()))
    assert "Set 1 shows" in why(new_snapshot(build_sensor_context()))


def test_all_of_it_is_on_by_default_and_dagit_shows_what_moves() -> None:
    from repos.live.definitions import defs

    assert {each.name: each.default_status.value for each in defs.sensors} == {
        "new_accepted_ranker": "RUNNING", "new_snapshot": "RUNNING", "failed_runs": "RUNNING",
    }  # fmt: skip
    held = {"freeze_prod", "thaw_prod", "pin_prod", "unpin_prod"}
    assert {"promotion_dev", *held, *triggers.JOBS} <= {job.name for job in defs.resolve_all_job_defs()}
    assert {proposed_set_key("prod"), live_set_key("prod")} <= defs.resolve_asset_graph().get_all_asset_keys()
    checks = {check.name for each in defs.asset_checks for check in each.check_specs}
    assert checks == {"end_to_end", "answers", "code_loads"}
