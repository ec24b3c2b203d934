"""Which release of a family counts as accepted: after a gate, a rollback or a pin, or when old code is back.

Knows no Dagster. The next training is compared with the accepted release, which should be what people get.
"""

from shared_ops.release import inputs
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging


def accept(passed: ReleaseManifest, staging: Staging, live_sets: LiveSets) -> str | None:
    """Accept a release that has passed its gate, unless its family is pinned to another; returns why it is not."""
    hold = live_sets.hold()
    if passed.family in hold.contradicted({passed.family: passed.version}):
        return f"{passed.family}/{passed.version} passed its gate and is not accepted: {hold.pinned(passed.family)}"
    staging.accept(passed)
    return None


def comes_back(result: ReleaseManifest, staging: Staging, live_sets: LiveSets) -> bool:
    """Whether `result`, which a training would only make again, is to be accepted in place of the accepted release.

    It is when code, packages or data were changed back to those that made it, and when it passed its gate while its
    family was pinned. It is not when its gate rejected it, when its family is pinned, when a rollback took it back or
    passed it over before it was ever live, or when the accepted release was trained with another configuration, which a
    person chose for that one run.
    """
    if not _was_replaced(result, staging) or result.version in staging.passed_over(result.family):
        return False
    if live_sets.hold().pinned(result.family):
        return False
    return live_sets.taken_back_release(result.family, result.version) is None


def accept_again(result: ReleaseManifest, staging: Staging, live_sets: LiveSets) -> str | None:
    """Accept `result`, which a training would only make again, where it `comes_back`.

    Returns a message that says what was done, or why not; None where there is nothing to say.
    """
    if not _was_replaced(result, staging):
        return None
    name, accepted = f"{result.family}/{result.version}", staging.accepted(result.family)
    if past := live_sets.taken_back_release(result.family, result.version):
        return (
            f"{name} was taken back with set {past.number}, so {result.family}/{accepted} stays accepted: "
            f'make promote SET={past.number} WHY="..." brings it back.'
        )
    if result.version in staging.passed_over(result.family):
        return (
            f"{name} was passed over when a set was gone back to, so {result.family}/{accepted} stays accepted: other "
            "data or code bring another, and FORCE=1 trains the same anew."
        )
    if why := live_sets.hold().pinned(result.family):
        return f"{name} passed its gate and is not accepted: {why}"
    if (decision := live_sets.decision(result.version)) and decision.accepted:
        live_sets.reopen(result.version)  # first: after a kill in between, the next try does the rest
    staging.accept(result)
    return f"{name} is accepted again, in place of {result.family}/{accepted}."


def _was_replaced(result: ReleaseManifest, staging: Staging) -> bool:
    """Whether `result` passed its gate, and another release of the same configuration is accepted now."""
    accepted = staging.accepted(result.family)
    if not result.accepted or accepted is None or accepted == result.version:
        return False
    return _configured_alike(result, staging.manifest(result.family, accepted))


def _configured_alike(one: ReleaseManifest, other: ReleaseManifest) -> bool:
    """Whether two trainings had the same parameters, or both those of their own code and job by default."""
    return one.parameters == other.parameters or (inputs.unconfigured(one) and inputs.unconfigured(other))


def follow(live_sets: LiveSets, live: LiveSet, staging: Staging) -> list[str]:
    """After a rollback to the set `live`, accept its releases again; returns those that were not the accepted ones.

    An accepted release that was never live is marked as passed over: else it would come back by itself at once.
    Releases that a dev set holds from prod's staging area are left alone.
    """
    moved = []
    for family, version in live.releases.items():
        accepted = staging.accepted(family)
        if accepted != version and version in staging.versions(family):
            passed_over = set(staging.passed_over(family))
            if accepted and not live_sets.was_live(family, accepted):
                passed_over.add(accepted)
            staging.accept(staging.manifest(family, version), passed_over=passed_over - {version})
            moved.append(f"{family}/{version}")
    return moved
