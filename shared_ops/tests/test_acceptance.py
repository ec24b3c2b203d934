"""The accepted release is the one that people get: after a rollback, and where code or data were changed back."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release import inputs
from shared_ops.release.acceptance import accept_again, comes_back, follow
from shared_ops.release.livesets import Decision, LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging

SNAPSHOT = SnapshotRef(id="s", url="file:///s")


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(f"file://{tmp_path}/staging")


@pytest.fixture
def sets(staging: Staging) -> LiveSets:
    return LiveSets(staging.url)


@pytest.fixture
def release(staging: Staging, tmp_path: Path) -> Callable[..., ReleaseManifest]:
    """Publishes a release of keyword, accepted or not."""

    def make(
        version: str,
        accepted: bool = True,
        family: str = "keyword",
        configured: dict[str, Any] | None = None,
        **parameters: float,
    ) -> ReleaseManifest:
        folder = tmp_path / f"{family}-{version}"
        folder.mkdir()
        manifest = ReleaseManifest(
            family=family, version=version, created_at=datetime.now(UTC), snapshot=SNAPSHOT, parameters=parameters,
            hyperparameters={}, metrics={}, gate={"accepted": accepted}, environment="e", code_version="c",
            deployment="prod", run_id="r",
        )  # fmt: skip
        if configured is not None:
            of_data = inputs.of_manifest(manifest, "").data_key
            stated = [of_data, manifest.code_version, manifest.environment, configured]
            manifest = manifest.model_copy(update={"key": inputs._digest(stated)})
        staging.publish(folder, manifest)
        if accepted:
            staging.accept(manifest)
        return manifest

    return make


def live(sets: LiveSets, **releases: str) -> None:
    sets.go_live(sets.propose(releases, SNAPSHOT, ""))


def test_what_a_training_comes_to_again_is_accepted_again_and_open_to_promotion(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    before, _ = release("v1"), release("v2")
    sets.decide("v1", Decision(accepted=True, reason="it went live"))
    assert accept_again(before, staging, sets) == "keyword/v1 is accepted again, in place of keyword/v2."
    assert staging.accepted("keyword") == "v1" and sets.decision("v1") is None


def test_what_is_accepted_already_stays_so_and_nothing_is_said(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    newest = release("v1")
    sets.decide("v1", Decision(accepted=False, reason="worse end to end"))
    assert accept_again(newest, staging, sets) is None
    assert sets.decision("v1") is not None, "the verdict on its set stands"


def test_what_was_rejected_is_not_accepted_for_being_made_again(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    rejected, _ = release("v1", accepted=False), release("v2")
    assert accept_again(rejected, staging, sets) is None and staging.accepted("keyword") == "v2"


def test_what_a_person_configured_otherwise_gives_not_way_to_the_configuration_of_every_day(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    every_day, _ = release("v1", k1=1.2), release("v2", k1=2.0)
    assert accept_again(every_day, staging, sets) is None and staging.accepted("keyword") == "v2"


def test_code_that_is_taken_back_may_have_had_other_parameters(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    """The key holds a training's configuration; its parameters are what its code makes of that."""
    before, _ = release("v1", configured={}, k1=1.2), release("v2", configured={}, k1=1.2, b=0.75)
    assert accept_again(before, staging, sets) == "keyword/v1 is accepted again, in place of keyword/v2."


def test_a_rollback_takes_nothing_back_that_the_set_holds_which_it_goes_back_to(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    """One team's release is rolled back; another team undoes a change of its own after it."""
    before, _ = release("v1"), release("b1", family="behavior")
    live(sets, keyword="v1", behavior="b1")
    live(sets, keyword="v1", behavior="b2")
    sets.go_live(sets.past(1), goes_back=True)
    release("v2")
    live(sets, keyword="v2", behavior="b1")
    assert sets.rolled_back() == [2] and sets.taken_back_release("behavior", "b2").number == 2
    assert accept_again(before, staging, sets) == "keyword/v1 is accepted again, in place of keyword/v2."


def test_what_was_accepted_and_never_live_does_not_come_back_by_itself_after_a_rollback(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    release("v1")
    live(sets, keyword="v1", ranker="r1")
    never_live = release("v2")
    follow(sets, sets.live(), staging)
    assert staging.accepted("keyword") == "v1" and not comes_back(never_live, staging, sets)
    assert "keyword/v2 was passed over when a set was gone back to" in accept_again(never_live, staging, sets)
    release("v3")
    assert comes_back(never_live, staging, sets), (
        "a gate has accepted another since: whatever comes is compared with that"
    )


def test_a_verdict_on_its_set_is_the_last_word_on_what_is_accepted_again(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    before, _ = release("v1"), release("v2")
    sets.decide("v1", Decision(accepted=False, reason="worse end to end"))
    accept_again(before, staging, sets)
    assert sets.decision("v1").reason == "worse end to end"


def test_what_was_taken_back_with_its_set_is_not_accepted_by_itself(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    release("v1")
    newer = release("v2")
    live(sets, keyword="v1", ranker="r1")
    live(sets, keyword="v2", ranker="r2")
    sets.go_live(sets.past(1))
    sets.mark_rolled_back([2])
    follow(sets, sets.live(), staging)
    assert "keyword/v2 was taken back with set 2" in accept_again(newer, staging, sets)
    assert staging.accepted("keyword") == "v1"


def test_the_releases_of_a_set_that_was_gone_back_to_are_the_accepted_ones(
    staging: Staging, sets: LiveSets, release: Callable[..., ReleaseManifest]
) -> None:
    for version in ("v1", "v2"):
        release(version)
        release(version, family="ranker")
    live(sets, keyword="v1", ranker="v2", semantic="of another staging area")
    assert follow(sets, sets.live(), staging) == ["keyword/v1"]
    assert staging.accepted("keyword") == "v1" and staging.accepted("ranker") == "v2"
