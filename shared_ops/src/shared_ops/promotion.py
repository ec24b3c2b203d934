"""Promotion: propose a set, wait until every service has loaded and checked it, replace the live one.

Knows no Dagster.
"""

import time
from collections.abc import Callable

from shared_ops.livesets import LiveSet, LiveSets
from shared_ops.settings import Settings, families
from shared_ops.snapshots import SnapshotRef

POLL_SECONDS = 0.2


class PromotionError(RuntimeError):
    """A set that did not go live. What was live still is."""


def promote(
    live_sets: LiveSets,
    releases: dict[str, str],
    snapshot: SnapshotRef,
    note: str,
    *,
    services: bool,
    timeout_s: float = 300.0,
    log: Callable[[str], None] = print,
) -> LiveSet:
    """Make a set of these releases and this snapshot live; where it already is, nothing changes.

    Args:
        live_sets: the sets of the deployment.
        releases: family to version, one for every family.
        snapshot: whose documents may be shown.
        note: why the set is made.
        services: whether to wait for the prediction services and the search app.
        timeout_s: how long they may take to load and check the set.
        log: gets a line for each step.

    Raises:
        PromotionError: when a family has no release, or a service could not load the set in time.
    """
    missing = sorted(set(families()) - set(releases))
    if missing:
        raise PromotionError(f"A live set has one release of every family; {', '.join(missing)} has none. Train it.")
    live = live_sets.live()
    if live and live.releases == releases and live.snapshot == snapshot:
        log(f"Set {live.number} already holds these releases and this snapshot.")
        return live
    proposal = live_sets.propose(releases, snapshot, note)
    log(f"Set {proposal.number} is proposed.")
    try:
        if services:
            _await_services(proposal, timeout_s, log)
    except PromotionError:
        live_sets.withdraw()
        raise
    live_sets.go_live(proposal)
    log(f"Set {proposal.number} is live.")
    return proposal


def _await_services(proposal: LiveSet, timeout_s: float, log: Callable[[str], None]) -> None:
    settings, waiting = Settings(), [*families(), "search"]
    deadline, said = time.monotonic() + timeout_s, "no answer yet"
    while waiting:
        for name in list(waiting):
            state, reason = _state(f"{settings.url(name)}/sets/{proposal.number}")
            if state == "ready":
                waiting.remove(name)
                log(f"{name} has loaded and checked set {proposal.number}.")
            elif state == "failed":
                raise PromotionError(f"{name} could not load set {proposal.number}: {reason} The live set stays.")
            else:
                said = f"{name}: {state}{f', {reason}' if reason else ''}"
        if waiting and time.monotonic() > deadline:
            raise PromotionError(
                f"Set {proposal.number} was not loaded by {', '.join(waiting)} within {timeout_s:.0f} s "
                f"(last: {said}). The live set stays. Look at `make status` and `make logs`."
            )
        if waiting:
            time.sleep(POLL_SECONDS)


def _state(url: str) -> tuple[str, str]:
    import httpx

    try:
        answer = httpx.get(url, timeout=5.0)
        body = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return "not reached", str(error)
    return str(body.get("state", answer.status_code)), str(body.get("reason") or "")
