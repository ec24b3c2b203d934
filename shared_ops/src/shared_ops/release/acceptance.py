"""Which release of a family counts as accepted where no gate has just spoken: after a rollback, with older code.

Knows no Dagster. The next training is compared with the accepted release, which should be what people get.
"""

from shared_ops.release import inputs
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging


def comes_back(result: ReleaseManifest, staging: Staging, live_sets: LiveSets) -> bool:
    """Whether a release, to which a training would come again, is to be accepted in place of the accepted one.

    So it is where code, packages or data were taken back. Not where it was rejected, where a rollback took it back or
    passed it over before it was ever live, or where what is accepted was trained with another configuration, which a
    person chose for that one run.
    """
    if not _was_replaced(result, staging) or result.version in staging.passed_over(result.family):
        return False
    return live_sets.taken_back_release(result.family, result.version) is None


def accept_again(result: ReleaseManifest, staging: Staging, live_sets: LiveSets) -> str | None:
    """Accept a release to which a training has just come again, where it `comes_back`; says what was done, and why not.

    None where there is nothing to say.
    """
    if not _was_replaced(result, staging):
        return None
    name, accepted = f"{result.family}/{result.version}", staging.accepted(result.family)
    if past := live_sets.taken_back_release(result.family, result.version):
        return (
            f"{name} was taken back with set {past.number}, so {result.family}/{accepted} stays accepted: "
            f"make rollback SET={past.number} brings it back."
        )
    if result.version in staging.passed_over(result.family):
        return (
            f"{name} was passed over when a set was gone back to, so {result.family}/{accepted} stays accepted: other "
            "data or code bring another, and FORCE=1 trains the same anew."
        )
    if (decision := live_sets.decision(result.version)) and decision.accepted:
        live_sets.reopen(result.version)  # first: the next try finds it where a kill comes in between
    staging.accept(result)
    return f"{name} is accepted again, in place of {result.family}/{accepted}."


def _was_replaced(result: ReleaseManifest, staging: Staging) -> bool:
    """Whether it passed its gate, and another release of the same configuration is accepted now."""
    accepted = staging.accepted(result.family)
    if not result.accepted or accepted is None or accepted == result.version:
        return False
    return _configured_alike(result, staging.manifest(result.family, accepted))


def _configured_alike(one: ReleaseManifest, other: ReleaseManifest) -> bool:
    """Whether two trainings had the same configuration; code that changes has other parameters, or defaults, itself."""
    return one.parameters == other.parameters or (inputs.unconfigured(one) and inputs.unconfigured(other))


def follow(live_sets: LiveSets, live: LiveSet, staging: Staging) -> list[str]:
    """Accept those releases of a set that was gone back to that another one was accepted in place of; returns them.

    One that was accepted and never live is passed over: it would come back by itself at once. What a dev set holds of
    prod's staging area is left alone.
    """
    moved = []
    for family, version in live.releases.items():
        accepted = staging.accepted(family)
        if accepted != version and version in staging.versions(family):
            gone = set(staging.passed_over(family))
            if accepted and not live_sets.was_live(family, accepted):
                gone.add(accepted)
            staging.accept(staging.manifest(family, version), passed_over=gone - {version})
            moved.append(f"{family}/{version}")
    return moved
