"""What a person decides counts above the loop: a freeze, a pin, a set made live; each is remembered."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared_ops.data import storage
from shared_ops.data.snapshots import SnapshotRef, Snapshots
from shared_ops.release import acceptance, overrides
from shared_ops.release.holds import HeldError
from shared_ops.release.livesets import Decision, LiveSet, LiveSets
from shared_ops.release.promotion import PromotionError, promote, promotion_obstacle, rollback
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import search_families

SNAPSHOT = SnapshotRef(id="s", url="file:///s")

Make = Callable[..., ReleaseManifest]


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging((tmp_path / "staging" / "prod").as_uri())


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return Snapshots((tmp_path / "snapshots").as_uri())


@pytest.fixture
def make(staging: Staging, tmp_path: Path) -> Make:
    """Publishes and accepts a release; of a ranker with what it learned from."""

    def made(family: str, version: str, **learned_from: str) -> ReleaseManifest:
        folder = tmp_path / f"{family}-{version}"
        folder.mkdir()
        (folder / "weights.txt").write_text(version)
        upstream = dict.fromkeys(search_families(), "v1") | learned_from if family == "ranker" else {}
        manifest = ReleaseManifest(
            family=family, version=version, created_at=datetime.now(UTC), snapshot=SNAPSHOT, parameters={},
            hyperparameters={}, metrics={}, gate={"accepted": True}, environment="", code_version="",
            deployment="prod", run_id="r", learned_from=upstream,
        )  # fmt: skip
        staging.accept(staging.publish(folder, manifest))
        return manifest

    return made


@pytest.fixture
def sets(staging: Staging, make: Make) -> LiveSets:
    """Set 1 is live, of r1 and the families' v1."""
    for family in search_families():
        make(family, "v1")
    live_sets = LiveSets(staging.url)
    promote(live_sets, make("ranker", "r1"), SNAPSHOT, "first", services=False)
    return live_sets


def held_notes(sets: LiveSets) -> list[str]:
    return [move.note for move in sets.moves() if move.held]


def test_a_home_of_before_is_held_by_nothing(sets: LiveSets) -> None:
    assert not storage.exists(storage.join(sets.url, "hold.json"))
    assert list(sets.hold().lines) == [] and sets.hold().pinned("keyword") is None


def test_while_frozen_nothing_goes_live_and_after_the_thaw_the_newest_does(
    sets: LiveSets, staging: Staging, make: Make
) -> None:
    overrides.freeze(sets, "ada", "the fair is on")
    newest = make("ranker", "r2")
    with pytest.raises(HeldError, match=r"frozen by ada at .* UTC: the fair is on.*make thaw"):
        promote(sets, newest, SNAPSHOT, "second", services=False)
    assert "frozen by ada" in promotion_obstacle(staging, sets, "ranker")
    assert sets.live().number == 1 and sets.proposed() is None
    overrides.thaw(sets, "bob", "it is over")
    assert promotion_obstacle(staging, sets, "ranker") is None
    assert promote(sets, newest, SNAPSHOT, "second", services=False).number == 2
    assert held_notes(sets) == ["thawed by bob: it is over", "frozen by ada: the fair is on"]


def test_a_move_that_is_under_way_when_somebody_freezes_does_not_happen(sets: LiveSets, make: Make) -> None:
    """The pointer is replaced under the lock by which a freeze is written."""
    make("ranker", "r2")
    proposal = sets.propose(sets.live().releases | {"ranker": "r2"}, SNAPSHOT, "under way")
    with sets._exclusive():
        going = threading.Thread(target=lambda: overrides.freeze(sets, "ada"))
        going.start()
    going.join(10)
    with pytest.raises(HeldError):
        sets.go_live(proposal, instead_of=sets.live())
    assert sets.live().number == 1


def test_a_rollback_goes_through_a_freeze_and_says_that_it_stays(sets: LiveSets, make: Make) -> None:
    promote(sets, make("ranker", "r2"), SNAPSHOT, "second", services=False)
    overrides.freeze(sets, "ada")
    said: list[str] = []
    assert rollback(sets, note="rollback by bob", services=False, log=said.append).number == 1
    assert "The live set stays frozen: make thaw" in said and sets.hold().frozen


def test_what_is_not_frozen_or_pinned_cannot_be_ended(sets: LiveSets) -> None:
    with pytest.raises(PromotionError, match="Nothing is frozen"):
        overrides.thaw(sets, "ada")
    overrides.pin(sets, "semantic", None, "ada")
    with pytest.raises(PromotionError, match=r"keyword is not pinned\. Pinned are: semantic"):
        overrides.unpin(sets, "keyword", "ada")


def test_before_the_first_set_there_is_nothing_to_hold(staging: Staging, make: Make) -> None:
    make("keyword", "v1")
    acts: list[Callable[[], str]] = [
        lambda: overrides.freeze(LiveSets(staging.url), "ada"),
        lambda: overrides.pin(LiveSets(staging.url), "keyword", "v1", "ada"),
    ]
    for act in acts:
        with pytest.raises(PromotionError, match=r"There is nothing to hold\. No set of models is live yet"):
            act()


def test_a_pinned_family_stays_at_its_release_and_the_others_move_on(
    sets: LiveSets, staging: Staging, make: Make
) -> None:
    overrides.pin(sets, "keyword", None, "ada", "the new one is slow")
    other = make("ranker", "r2", keyword="v2")
    with pytest.raises(HeldError, match=r"keyword/v2, and keyword is pinned to v1 by ada .*: the new one is slow"):
        promote(sets, other, SNAPSHOT, "second", services=False)
    assert "make unpin FAMILY=keyword" in promotion_obstacle(staging, sets, "ranker")
    assert (
        promote(sets, make("ranker", "r3", semantic="v2"), SNAPSHOT, "third", services=False).releases["keyword"]
        == "v1"
    )
    overrides.unpin(sets, "keyword", "ada")
    assert promote(sets, other, SNAPSHOT, "fourth", services=False).releases["keyword"] == "v2"


def test_what_passes_its_gate_while_its_family_is_pinned_is_kept_and_comes_after(
    sets: LiveSets, staging: Staging, make: Make
) -> None:
    newer = make("keyword", "v2")
    overrides.pin(sets, "keyword", "v1", "ada")
    assert staging.accepted("keyword") == "v1", "rankers learn from it, challengers are compared with it"
    assert "keyword/v2 passed its gate and is not accepted: keyword is pinned to v1" in acceptance.accept(
        newer, staging, sets
    )
    assert not acceptance.comes_back(newer, staging, sets)
    assert "is pinned to v1" in acceptance.accept_again(newer, staging, sets)
    assert staging.accepted("keyword") == "v1"
    overrides.unpin(sets, "keyword", "ada")
    assert acceptance.comes_back(newer, staging, sets), "the family's trigger finds it"
    assert acceptance.accept_again(newer, staging, sets) and staging.accepted("keyword") == "v2"


def test_a_pin_to_a_release_that_is_not_live_leaves_what_is_until_a_ranker_brings_it(
    sets: LiveSets, make: Make
) -> None:
    make("keyword", "v2")
    overrides.pin(sets, "keyword", "v2", "ada")
    newer = SnapshotRef(id="s2", url="file:///s2")
    shown = promote(sets, make("ranker", "r1b"), newer, "what left the corpus leaves", services=False)
    assert shown.releases["keyword"] == "v1"
    assert promote(sets, make("ranker", "r2", keyword="v2"), newer, "", services=False).releases["keyword"] == "v2"
    with pytest.raises(HeldError):
        promote(sets, make("ranker", "r3"), newer, "", services=False)


@pytest.mark.parametrize(
    ("version", "said"),
    [("v9", r"keyword/v9 is not in .* Published: keyword/v1"), ("r1", r"Release keyword/r1 is not in")],
)
def test_a_pin_to_what_is_no_release_of_the_family_is_told(sets: LiveSets, version: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        overrides.pin(sets, "keyword", version, "ada")
    assert sets.hold().pins == {}


def test_a_pin_to_a_release_that_is_not_whole_is_told(sets: LiveSets, staging: Staging) -> None:
    (storage.local_path(staging.release_url("keyword", "v1")) / "weights.txt").write_text("other")
    with pytest.raises(ReleaseError, match=r"weights\.txt is not the one that was published"):
        overrides.pin(sets, "keyword", "v1", "ada")
    assert sets.hold().pins == {}


def test_a_pin_to_what_was_taken_back_says_how_to_bring_it_back(sets: LiveSets, make: Make) -> None:
    make("keyword", "v2")
    promote(sets, make("ranker", "r2", keyword="v2"), SNAPSHOT, "second", services=False)
    rollback(sets, note="", services=False)
    with pytest.raises(PromotionError, match=r"keyword/v2 was taken back with set 2.*make promote SET=2"):
        overrides.pin(sets, "keyword", "v2", "ada")


def test_a_rollback_to_another_release_of_a_pinned_family_ends_the_pin(
    sets: LiveSets, staging: Staging, make: Make
) -> None:
    """What a person decides last counts."""
    make("keyword", "v2")
    promote(sets, make("ranker", "r2", keyword="v2"), SNAPSHOT, "second", services=False)
    for family in ("keyword", "semantic"):
        overrides.pin(sets, family, None, "ada")
    rollback(sets, note="rollback by bob", services=False)
    assert list(sets.hold().pins) == ["semantic"] and staging.accepted("keyword") == "v1"
    assert held_notes(sets)[0] == "unpinned keyword by this: rollback by bob"


def chosen(sets: LiveSets, snapshots: Snapshots, number: int | None = None, *releases: str) -> LiveSet:
    named = [overrides.release_of(each) for each in releases]
    return overrides.promote_chosen(
        sets, snapshots, number=number, releases=named, note="promotion by ada: it is good", services=False
    )


def test_a_set_that_was_taken_back_is_brought_back_by_a_person(
    sets: LiveSets, snapshots: Snapshots, staging: Staging, make: Make
) -> None:
    promote(sets, make("ranker", "r2"), SNAPSHOT, "second", services=False)
    with pytest.raises(PromotionError, match=r"Set 1 was not taken back.*make rollback SET=1 goes back to it"):
        chosen(sets, snapshots, 1)
    rollback(sets, note="", services=False)
    overrides.freeze(sets, "ada")
    assert chosen(sets, snapshots, 2).number == 2 == sets.live().number
    assert sets.rolled_back() == [] and staging.accepted("ranker") == "r2"
    assert sets.moves()[0].note == "promotion by ada: it is good" and sets.hold().frozen


def test_the_set_of_a_ranker_that_was_rejected_end_to_end_goes_live_where_a_person_says_so(
    sets: LiveSets, snapshots: Snapshots, staging: Staging, make: Make
) -> None:
    make("ranker", "r2")
    sets.decide("r2", Decision(accepted=False, reason="worse end to end"))
    make("ranker", "r3")
    live = chosen(sets, snapshots, None, "ranker/r2")
    assert live.releases["ranker"] == "r2" == staging.accepted("ranker") and sets.live() == live
    assert sets.decision("r2") == Decision(accepted=True, reason="promotion by ada: it is good", set_number=2)
    assert staging.passed_over("ranker") == ["r3"], "it does not come back by itself at once"


def test_what_was_taken_back_goes_live_again_under_its_number(sets: LiveSets, snapshots: Snapshots, make: Make) -> None:
    promote(sets, make("ranker", "r2"), SNAPSHOT, "second", services=False)
    rollback(sets, note="", services=False)
    assert chosen(sets, snapshots, None, "ranker/r2").number == 2


@pytest.mark.parametrize(
    ("releases", "said"),
    [
        (["keyword/v1"], "Expected the release of one ranker"),
        (
            ["ranker/r1", "keyword/v2"],
            r"r1 learned from keyword/v1, not from keyword/v2.*make pin FAMILY=keyword",
        ),
        ([], r"Expected a set that was taken back \(SET=<n>\) or a ranker's release"),
    ],
)
def test_what_makes_no_set_is_told(
    sets: LiveSets, snapshots: Snapshots, make: Make, releases: list[str], said: str
) -> None:
    make("keyword", "v2")
    with pytest.raises(PromotionError, match=said):
        chosen(sets, snapshots, None, *releases)
    assert sets.live().number == 1


def test_a_damaged_release_does_not_go_live_by_hand_either(
    sets: LiveSets, snapshots: Snapshots, staging: Staging, make: Make
) -> None:
    make("ranker", "r2")
    (storage.local_path(staging.release_url("ranker", "r2")) / "weights.txt").write_text("other")
    with pytest.raises(ReleaseError, match="is not the one that was published"):
        chosen(sets, snapshots, None, "ranker/r2")
    assert sets.live().number == 1
