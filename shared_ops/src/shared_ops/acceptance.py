"""Which release of a family counts as accepted where no gate has just spoken: after a rollback, with older code.

Knows no Dagster. The next training is compared with the accepted release, which should be what people get.
"""

from shared_ops.livesets import LiveSet, LiveSets
from shared_ops.releases import ReleaseManifest, Staging


def comes_back(result: ReleaseManifest, staging: Staging, live_sets: LiveSets) -> bool:
    """Whether a release, to which a training would come again, is to be accepted in place of the accepted one.

    So it is where code, packages or data were taken back. Not where it was rejected, where a rollback took it back, or
    where what is accepted was trained with another configuration, which a person chose for that one run.
    """
    return _was_replaced(result, staging) and live_sets.taken_back_release(result.family, result.version) is None


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
    staging.accept(result)
    live_sets.reopen(result.version)
    return f"{name} is accepted again, in place of {result.family}/{accepted}."


def _was_replaced(result: ReleaseManifest, staging: Staging) -> bool:
    """Whether it passed its gate, and another release of the same configuration is accepted now."""
    accepted = staging.accepted(result.family)
    if not result.accepted or accepted is None or accepted == result.version:
        return False
    return staging.manifest(result.family, accepted).parameters == result.parameters


def follow(live: LiveSet, staging: Staging) -> list[str]:
    """Accept those releases of a set that was gone back to that another one was accepted in place of; returns them.

    What a dev set holds of prod's staging area is left alone.
    """
    moved = []
    for family, version in live.releases.items():
        if staging.accepted(family) != version and version in staging.versions(family):
            staging.accept(staging.manifest(family, version))
            moved.append(f"{family}/{version}")
    return moved
