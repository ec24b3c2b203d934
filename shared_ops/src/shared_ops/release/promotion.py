"""Promotion and rollback: propose a set, wait until every service has loaded and checked it, replace the live one.

Knows no Dagster.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from shared_ops.data.snapshots import SnapshotRef, Snapshots
from shared_ops.data.wire import SPOKEN, WIRE, SetAnswer, WireAnswer
from shared_ops.release import acceptance, runtimes
from shared_ops.release.codes import CodeError
from shared_ops.release.livesets import NOTHING_LIVE, Decision, LiveSet, LiveSetChangedError, LiveSets
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.release.runtimes import Runtime, RuntimeMissingError
from shared_ops.settings import Role, current, ranking_families
from shared_ops.waiting import until

POLL_SECONDS = 0.1

Log = Callable[[str], None]


class PromotionError(RuntimeError):
    """A set that did not go live. What was live still is."""


class OvertakenError(PromotionError):
    """Another set went live while this one was judged or loaded."""


class TakenBackError(PromotionError):
    """The set was live and was taken back, or what its ranker learned from: only a person brings it back."""


def promote(
    live_sets: LiveSets,
    ranker: ReleaseManifest,
    snapshot: SnapshotRef,
    note: str,
    *,
    services: bool,
    over: int | None = None,
    by_hand: bool = False,
    timeout_s: float = 300.0,
    log: Log = print,
) -> LiveSet:
    """Make live the set of a ranker and the releases that it learned from; where it is live already, nothing changes.

    Args:
        live_sets: the sets of the deployment.
        ranker: the manifest of the ranker's release: it says who takes part.
        snapshot: whose documents may be shown.
        note: why the set is made.
        services: whether to wait for the prediction services and the search app.
        over: the number of the live set that this one was judged against, 0 where there was none: a set of other
            releases is not replaced. None replaces whatever is live.
        by_hand: whether a person has decided it: then neither a freeze or a pin nor an earlier rollback is in the way.
        timeout_s: how long they may take to load and check the set.
        log: gets a line for each step.

    Raises:
        PromotionError: when the release is no ranker's, what a release runs with cannot be had, or a service could
            not load the set in time.
        TakenBackError: when the set was taken back before, or a release that the ranker learned from.
        OvertakenError: when another set went live since it was judged.
        HeldError: when the live set is frozen, or a family is pinned to another release.
    """
    releases = releases_of(ranker)
    roles: dict[str, Role] = {family: "rank" if family == ranker.family else "search" for family in releases}
    live = live_sets.live()
    if live and live.releases == releases and live.snapshot == snapshot:
        log(f"Set {live.number} already holds these releases and this snapshot.")
        return live
    if not by_hand:
        live_sets.check_hold(releases)
        _refuse_taken_back(live_sets, ranker, releases, snapshot)
    if over is not None and not _still(live_sets, over, live):
        raise OvertakenError(
            f"{ranker.family}/{ranker.version} was judged against set {over}; set {live.number if live else 0} is live "
            "by now, and stays."
        )
    if services:
        provide(live_sets, releases)
    proposal = live_sets.propose(releases, snapshot, note, roles)
    log(f"Set {proposal.number} is proposed.")
    _replace(live_sets, live, proposal, services, timeout_s, log, by_hand=by_hand)
    log(f"Set {proposal.number} is live.")
    return proposal


def releases_of(ranker: ReleaseManifest) -> dict[str, str]:
    """The releases of a ranker's set, family to version: its own, and those that it learned from.

    Raises:
        PromotionError: when the release is no ranker's.
    """
    if not ranker.learned_from:
        raise PromotionError(f"{ranker.family}/{ranker.version} learned from no family's hits: it is no ranker.")
    return {**ranker.learned_from, ranker.family: ranker.version}


def shown_with(live_sets: LiveSets, snapshots: Snapshots, ranker: ReleaseManifest) -> SnapshotRef:
    """The snapshot whose documents a ranker's set may show: its own, or the newest where the live set shows it already.

    What has left the corpus since the ranker's training began stays away.
    """
    live, newest = live_sets.live(), snapshots.latest()
    return live.snapshot if live and live.snapshot == newest else ranker.snapshot


def _refuse_taken_back(
    live_sets: LiveSets, ranker: ReleaseManifest, releases: Mapping[str, str], snapshot: SnapshotRef
) -> None:
    """Refuse a set that was rolled back, and a ranker in training when what it learned from was taken back.

    Raises:
        TakenBackError: naming the set or the release.
    """
    if taken_back := live_sets.taken_back(releases, snapshot):
        raise TakenBackError(
            f"Set {taken_back.number} held just these releases and was rolled back: it is not promoted again by "
            f'itself. make promote SET={taken_back.number} WHY="..." brings it back.'
        )
    for family, version in ranker.learned_from.items():
        if past := live_sets.taken_back_release(family, version):
            raise TakenBackError(
                f"{ranker.family}/{ranker.version} learned from {family}/{version}, which was taken back with set "
                f"{past.number}. A new training learns from what is live: make train REPO={ranker.family}. "
                f'make promote SET={past.number} WHY="..." brings back what was taken back.'
            )


def _still(live_sets: LiveSets, over: int, live: LiveSet | None) -> bool:
    """Whether set `over` is live, or one that holds the same releases and shows another snapshot."""
    judged = live_sets.past(over)
    return over == (live.number if live else 0) or bool(judged and live and judged.releases == live.releases)


def promotion_obstacles(staging: Staging, live_sets: LiveSets) -> dict[str, str | None]:
    """Why the accepted release of each listed ranker is not to be promoted; None where it is to be.

    The live ranker's family stands first, then they stand as listed: where search models are new, it is judged with
    them first, so that another ranker is compared with it on the same hits.
    """
    live = live_sets.live()
    rankers = sorted(ranking_families(), key=lambda family: not (live and family in live.releases))
    return {ranker: promotion_obstacle(staging, live_sets, ranker) for ranker in rankers}


def promotion_obstacle(staging: Staging, live_sets: LiveSets, ranker: str) -> str | None:
    """Why the accepted release of this ranker is not to be promoted; None where it is to be."""
    if reason := settled(staging, live_sets, ranker):
        return reason
    return held(staging, live_sets, ranker, str(staging.accepted(ranker)))


def settled(staging: Staging, live_sets: LiveSets, ranker: str) -> str | None:
    """Why nothing is left to decide upon the accepted release of this ranker; None where something is."""
    version, live = staging.accepted(ranker), live_sets.live()
    if version is None:
        return f"No release of {ranker} is accepted yet."
    if live and live.releases.get(ranker) == version:
        return f"Set {live.number} holds the accepted ranker {version}."
    decision = live_sets.decision(version)
    if decision and not _void(decision, live):
        return f"{ranker}/{version} was decided upon: {decision.reason}"
    return None


def _void(decision: Decision, live: LiveSet | None) -> bool:
    """Whether a decision on a ranker that is not live counts no more: the live ranker's family is listed no more.

    It had taken this ranker's place, or kept its own against it.
    """
    if live is None or not live.releases.keys().isdisjoint(ranking_families()):
        return False
    return decision.accepted or decision.rival in live.releases


def held(staging: Staging, live_sets: LiveSets, ranker: str, version: str) -> str | None:
    """Why a freeze or a pin keeps the set of a ranker's release from going live; None where none does."""
    hold, live = live_sets.hold(), live_sets.live()
    if not (hold.frozen or hold.pins):
        return None
    return hold.refusal(releases_of(staging.manifest(ranker, version)), live.releases if live else {})


def rollback(
    live_sets: LiveSets,
    number: int | None = None,
    *,
    note: str,
    services: bool,
    timeout_s: float = 60.0,
    log: Log = print,
) -> LiveSet:
    """Make a set of the past live again: the one of this number, or the one before the present.

    Newer sets count as taken back: they are not promoted again by themselves. The set's releases are the accepted ones
    again. A service that does not run is not waited for: it will load the set when it starts. It is a person's
    decision, which no freeze keeps from being done, and which ends the pins of families that the set holds otherwise.

    Args:
        live_sets: the sets of the deployment.
        number: the number of the set; None takes the one before the present.
        note: who goes back and why; it is kept with the move.
        services: whether to wait for the prediction services and the search app.
        timeout_s: how long they may take to load and check the set.
        log: gets a line for each step.

    Raises:
        PromotionError: when there is no such set, what a release runs with cannot be had, or a service could not load
            the set in time.
        OvertakenError: when another set went live meanwhile.
    """
    live, chosen = need_live(live_sets, "roll back"), past_set(live_sets, number)
    if chosen == live:
        log(f"Set {live.number} is live already.")
        follow_by_hand(live_sets, live, note, log)
        return live
    if services:
        provide(live_sets, chosen.releases)
    live_sets.offer(chosen)
    _replace(live_sets, live, chosen, services, timeout_s, log, note=note, goes_back=True, by_hand=True)
    log(f"Set {chosen.number} is live again, instead of set {live.number}.")
    follow_by_hand(live_sets, chosen, note, log)
    return chosen


def provide(live_sets: LiveSets, releases: Mapping[str, str]) -> None:
    """Make sure that the code and the environment of each of these releases are here, and make again what is missing.

    Raises:
        PromotionError: when one of them cannot be had. The live set has not changed by then.
    """
    settings = current()
    for family, version in releases.items():
        runtime = _runtime(live_sets, family, version)
        try:
            runtime.folder(settings)
            runtime.provide(settings)
        except (CodeError, RuntimeMissingError) as error:
            raise PromotionError(f"{family}/{version} cannot go live: {error} The live set stays.") from error
        runtime.problem(settings).unlink(missing_ok=True)  # of an earlier try: its worker is started again


def follow_by_hand(live_sets: LiveSets, live: LiveSet, note: str, log: Log) -> None:
    """After a person has made `live` the live set, end the pins that it contradicts, and accept its releases.

    The next trainings are to be compared with what people get from now on.
    """
    if ended := live_sets.hold().contradicted(live.releases):
        listed = ", ".join(ended)
        live_sets.change_hold(lambda hold: hold.without(ended), live, f"unpinned {listed} by this: {note}")
        log(f"No longer pinned, as set {live.number} holds another release: {listed}.")
    if live_sets.hold().frozen:
        log("The live set stays frozen: make thaw")
    if moved := acceptance.follow(live_sets, live, Staging(live_sets.url)):
        log(f"Accepted again, to compare the next trainings with: {', '.join(moved)}.")


def past_set(live_sets: LiveSets, number: int | None = None) -> LiveSet:
    """The set of the past that a rollback makes live again: the one of this number, or the one before the present.

    Raises:
        PromotionError: when there is no such set.
    """
    live = need_live(live_sets, "roll back")
    chosen = live_sets.before(live) if number is None else live_sets.past(number)
    if chosen is None:
        which = f"set before set {live.number}" if number is None else f"set {number}"
        raise PromotionError(f"There is no {which}. Kept are: {_listed(live_sets.numbers())}.")
    return chosen


def need_live(live_sets: LiveSets, to_do: str) -> LiveSet:
    """The live set, which somebody wants `to_do` something with.

    Raises:
        PromotionError: when none is live yet.
    """
    live = live_sets.live()
    if live is None:
        raise PromotionError(f"There is nothing to {to_do}. {NOTHING_LIVE}")
    return live


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in numbers) or "none"


def _replace(
    live_sets: LiveSets,
    live: LiveSet | None,
    chosen: LiveSet,
    services: bool,
    timeout_s: float,
    log: Log,
    note: str | None = None,
    goes_back: bool = False,
    by_hand: bool = False,
) -> None:
    """Make the proposed set `chosen` live in place of `live`, once every service has loaded it.

    Where it `goes_back`, a service that does not run is not waited for: it will load the set when it starts.
    """
    try:
        if services:
            _await_services(live_sets, live, chosen, timeout_s, log, skip_unreachable=goes_back, by_hand=by_hand)
        live_sets.go_live(chosen, instead_of=live, note=note, goes_back=goes_back, by_hand=by_hand)
    except LiveSetChangedError as error:
        raise OvertakenError(str(error)) from error
    finally:
        if live_sets.proposed() == chosen:  # and not the proposal of another move
            live_sets.withdraw()


def _await_services(
    live_sets: LiveSets,
    live: LiveSet | None,
    chosen: LiveSet,
    timeout_s: float,
    log: Log,
    skip_unreachable: bool,
    by_hand: bool,
) -> None:
    workers = {family: _runtime(live_sets, family, version) for family, version in chosen.releases.items()}
    serving = _serving(live_sets, live) if live else set()
    waiting: dict[str, Runtime | None] = {**workers, "search": None}
    began, said = time.monotonic(), "no answer yet"
    seen_by_all = 4 * current().poll_seconds

    def all_ready() -> bool:
        nonlocal said
        _keep_offered(live_sets, live, chosen, by_hand)
        for name, runtime in list(waiting.items()):
            state, reason = _state(name, runtime, chosen)
            if state == "ready":
                del waiting[name]
                log(f"{name} has loaded and checked set {chosen.number}.")
            # A service that has not read this proposal yet may still report that it could not load an earlier one.
            elif state == "failed" and time.monotonic() - began > seen_by_all:
                raise PromotionError(f"{name} could not load set {chosen.number}: {reason} The live set stays.")
            elif state == "not reached" and skip_unreachable and (runtime is None or runtime in serving):
                del waiting[name]
                log(f"{name} does not run: it loads set {chosen.number} when it starts.")
            else:
                said = f"{name}: {state}{f', {reason}' if reason else ''}"
        return not waiting

    if not until(all_ready, every=POLL_SECONDS, seconds=timeout_s):
        raise PromotionError(
            f"Set {chosen.number} was not loaded by {', '.join(waiting)} within {timeout_s:.0f} s "
            f"(last: {said}). The live set stays. Look at `make status` and `make logs`."
        )


def _keep_offered(live_sets: LiveSets, live: LiveSet | None, chosen: LiveSet, by_hand: bool) -> None:
    """Propose `chosen` again where another move has replaced or withdrawn its proposal before every service read it.

    Raises:
        LiveSetChangedError: when another set is live by now: there is nothing to wait for.
        HeldError: when somebody has frozen the live set meanwhile, or pinned a family.
    """
    if not by_hand:
        live_sets.check_hold(chosen.releases)
    live_sets.check_live(chosen, instead_of=live)
    if live_sets.proposed() != chosen:
        live_sets.offer(chosen)


def _serving(live_sets: LiveSets, live: LiveSet) -> set[Runtime]:
    """What the live set's releases run with; a release that is damaged or gone is left out."""
    serving = set()
    for family, version in live.releases.items():
        with suppress(ReleaseError):
            serving.add(runtimes.of_release(live_sets.url, family, version))
    return serving


def _runtime(live_sets: LiveSets, family: str, version: str) -> Runtime:
    """What a release runs with.

    Raises:
        PromotionError: when there is no such release.
    """
    try:
        return runtimes.of_release(live_sets.url, family, version)
    except ReleaseError as error:
        raise PromotionError(f"{family}/{version} cannot go live: {error} The live set stays.") from error


def _state(name: str, runtime: Runtime | None, chosen: LiveSet) -> tuple[str, str]:
    """How far the worker of a runtime, or the service of this name, has loaded a set: its state, and the reason."""
    import httpx

    settings = current()
    if runtime and (problem := runtime.problem(settings)).exists():
        return "failed", problem.read_text()
    socket_file = runtime.socket(settings) if runtime else None
    root = "http://localhost" if runtime else settings.url(name)
    try:
        with runtimes.client(socket_file, 5.0) as client:
            answer = client.get(f"{root}/sets/{chosen.number}")
        if answer.status_code != httpx.codes.OK:
            return str(answer.status_code), ""
        # The search app asks the workers, and knows the versions that its code knew when it was started.
        spoken, way_out = (SPOKEN, "") if runtime else ((WIRE,), " make down, then make up, starts it anew.")
        if (wire := WireAnswer.model_validate_json(answer.content).wire) not in spoken:
            return "failed", f"It speaks version {wire} of the wire, and this stack {spoken}.{way_out}"
        said = SetAnswer.model_validate_json(answer.content)
    except (httpx.HTTPError, ValueError) as error:
        return "not reached", str(error)
    # A later proposal may have the number of a withdrawn one, and this service may not have read it yet.
    held, expected = said.release or said.snapshot, chosen.releases.get(name, chosen.snapshot.id)
    if held is not None and held != expected:
        return "loading", f"it has seen another set of this number, of {held}"
    return said.state, said.reason or ""
