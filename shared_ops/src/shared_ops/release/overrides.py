"""What a person decides over the loop: freeze and thaw, pin and unpin, and a set made live past the end-to-end gate.

Knows no Dagster. The commands and the jobs both come here. Each act is kept in the sets' history with who and why.
"""

from collections.abc import Sequence

from shared_ops.data.snapshots import Snapshots
from shared_ops.release.holds import Freeze, Hold, Pin
from shared_ops.release.livesets import Decision, LiveSet, LiveSets
from shared_ops.release.promotion import (
    Log,
    PromotionError,
    follow_by_hand,
    need_live,
    past_set,
    promote,
    releases_of,
    rollback,
    shown_with,
)
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging


def freeze(live_sets: LiveSets, by: str, why: str = "") -> str:
    """Keep the live set as it is, whatever is accepted; returns the note that is kept.

    Raises:
        PromotionError: when nothing is live yet.
    """
    frozen = Freeze(by=by, why=why)
    return _held(live_sets, f"frozen {frozen.note}", frozen=frozen)


def thaw(live_sets: LiveSets, by: str, why: str = "") -> str:
    """End the freeze: what is accepted by now is promoted as any other; returns the note that is kept.

    Raises:
        PromotionError: when nothing is frozen.
    """
    if not live_sets.hold().frozen:
        raise PromotionError("Nothing is frozen, so there is nothing to thaw.")
    return _held(live_sets, f"thawed {Freeze(by=by, why=why).note}", frozen=None)


def pin(live_sets: LiveSets, family: str, version: str | None, by: str, why: str = "") -> str:
    """Keep a family at a release, or at its live one; returns the note that is kept.

    The release is the accepted one as long as it is pinned: rankers learn from it, challengers are compared with it.

    Raises:
        PromotionError: when nothing is live yet, no release is named and the live set holds none, or the release was
            taken back.
        ReleaseError: when there is no such release, or its files are not those of its manifest.
    """
    live, staging = need_live(live_sets, "hold"), Staging(live_sets.url)
    version = version or live.releases.get(family)
    if version is None:
        raise PromotionError(f"{family} takes no part in set {live.number}: name the release, RELEASE=<version>.")
    manifest = staging.manifest(family, version)
    staging.fetch(family, version)
    if past := live_sets.taken_back_release(family, version):
        raise PromotionError(
            f"{family}/{version} was taken back with set {past.number}, and no set with it is promoted before that is "
            f'brought back: make promote SET={past.number} WHY="..."'
        )
    pinned = Pin(by=by, why=why, version=version)
    note = f"{family}/{version} pinned {pinned.note}"
    live_sets.change_hold(lambda hold: hold.model_copy(update={"pins": {**hold.pins, family: pinned}}), live, note)
    if staging.accepted(family) != version:
        _accept(live_sets, manifest, staging)
    return note


def _accept(live_sets: LiveSets, manifest: ReleaseManifest, staging: Staging) -> None:
    """Accept a release that a person has chosen; a ranker's set is open to promotion again."""
    if (decision := live_sets.decision(manifest.version)) and decision.accepted:
        live_sets.reopen(manifest.version)
    staging.accept(manifest, passed_over=set(staging.passed_over(manifest.family)) - {manifest.version})


def unpin(live_sets: LiveSets, family: str, by: str, why: str = "") -> str:
    """End a family's pin: what passed meanwhile may be accepted by its trigger; returns the note that is kept.

    Raises:
        PromotionError: when it is not pinned.
    """
    pins = live_sets.hold().pins
    if family not in pins:
        raise PromotionError(f"{family} is not pinned. Pinned are: {', '.join(pins) or 'none'}.")
    note = f"{family}/{pins[family].version} unpinned {Freeze(by=by, why=why).note}"
    live_sets.change_hold(lambda hold: hold.without([family]), need_live(live_sets, "hold"), note)
    return note


def _held(live_sets: LiveSets, note: str, frozen: Freeze | None) -> str:
    def change(hold: Hold) -> Hold:
        return hold.model_copy(update={"frozen": frozen})

    live_sets.change_hold(change, need_live(live_sets, "hold"), note)
    return note


def promote_chosen(
    live_sets: LiveSets,
    snapshots: Snapshots,
    *,
    number: int | None,
    releases: Sequence[tuple[str, str]],
    note: str,
    services: bool,
    log: Log = print,
) -> LiveSet:
    """Make live a set that a person has chosen, past the end-to-end gate, but not past the services' checks.

    Args:
        live_sets: the sets of the deployment.
        snapshots: of the deployment: a new set shows its ranker's snapshot, or the newest (`promotion.shown_with`).
        number: of a set that was taken back; None: a set is made of `releases`.
        releases: family and version of a ranker's release, and of any that it learned from.
        note: who decided it and why.
        services: whether to wait for the prediction services and the search app.
        log: gets a line for each step.

    Raises:
        PromotionError: when both or neither is given, there is no such set, it was not taken back, these are not the
            releases of one ranker's set, or as for `promote`.
        ReleaseError: when there is no such release, or its files are not those of its manifest.
    """
    if (number is None) != bool(releases):
        raise PromotionError(
            "Expected a set that was taken back (SET=<n>) or a ranker's release (RELEASES=<ranker>/<version>), and one "
            "of the two."
        )
    if number is not None:
        return _brought_back(live_sets, number, note, services, log)
    return _of_releases(live_sets, snapshots, releases, note, services, log)


def _brought_back(live_sets: LiveSets, number: int, note: str, services: bool, log: Log) -> LiveSet:
    """A set that was taken back, live again: what `rollback` to its number does."""
    chosen, live = past_set(live_sets, number), live_sets.live()
    if chosen != live and number not in live_sets.rolled_back():
        raise PromotionError(
            f"Set {number} was not taken back, newer ones followed it: make rollback SET={number} goes back to it."
        )
    return rollback(live_sets, number, note=note, services=services, log=log)


def _of_releases(
    live_sets: LiveSets,
    snapshots: Snapshots,
    releases: Sequence[tuple[str, str]],
    note: str,
    services: bool,
    log: Log,
) -> LiveSet:
    """The set of a ranker's release, live."""
    staging = Staging(live_sets.url)
    ranker = _ranker_of(releases, staging)
    chosen = releases_of(ranker)
    for family, version in chosen.items():
        staging.fetch(family, version)
    snapshot = shown_with(live_sets, snapshots, ranker)
    if past := live_sets.taken_back(chosen, snapshot):
        return _brought_back(live_sets, past.number, note, services, log)
    live = promote(live_sets, ranker, snapshot, note, services=services, by_hand=True, log=log)
    live_sets.decide(ranker.version, Decision(accepted=True, reason=note, set_number=live.number))
    follow_by_hand(live_sets, live, note, log)
    return live


def _ranker_of(releases: Sequence[tuple[str, str]], staging: Staging) -> ReleaseManifest:
    """The ranker among these releases.

    Raises:
        PromotionError: when there is not just one, or the others are not those that it learned from.
        ReleaseError: when one of them does not exist.
    """
    manifests = [staging.manifest(family, version) for family, version in releases]
    rankers = [each for each in manifests if each.learned_from]
    if len(rankers) != 1:
        named = ", ".join(f"{family}/{version}" for family, version in releases)
        raise PromotionError(f"Expected the release of one ranker, which says what it learned from, got {named}.")
    held = releases_of(rankers[0])
    for family, version in releases:
        if held.get(family) != version:
            ranker = f"{rankers[0].family}/{rankers[0].version}"
            learned = f"{family}/{held[family]}" if family in held else f"no {family}"
            raise PromotionError(
                f"{ranker} learned from {learned}, not from {family}/{version}: a set is a ranker and what it learned "
                f"from. A ranker that learns from {family}/{version} is trained after: "
                f"make pin FAMILY={family} RELEASE={version}"
            )
    return rankers[0]


def release_of(text: str) -> tuple[str, str]:
    """Family and version of a release that is written as family/version.

    Raises:
        ReleaseError: when it is not.
    """
    family, _, version = text.partition("/")
    if not family or not version:
        raise ReleaseError(f"Expected <family>/<version>, got {text!r}. Those that are live: make lineage")
    return family, version
