"""Which copies of releases stay in a home, of those that were made from a staging area elsewhere.

Knows no Dagster. A copy that is gone is made again where it is asked for.
"""

import shutil
import time

from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging, copies
from shared_ops.release.runtimes import KEPT_SECONDS
from shared_ops.settings import DEPLOYMENTS, current


def tidy() -> list[str]:
    """Remove the copies, a day after they were made, that no deployment is about to load; their names.

    Kept are those of the live set, of the proposed one and of the one before, which a rollback loads; and those of the
    accepted releases, with which candidates are compared.
    """
    areas = [current().staging_url(deployment) for deployment in DEPLOYMENTS]
    named = {each for url in areas for each in _named(url)}
    kept = {Staging(url).copy_of(*each).name for url in areas for each in named}  # dev's sets hold prod's releases, too
    made_before = time.time() - KEPT_SECONDS
    old = [each for each in copies().glob("*") if each.name not in kept and each.stat().st_mtime < made_before]
    for copy in old:
        shutil.rmtree(copy.rename(copy.with_name(f".{copy.name}")))  # half a copy must not bear its name
    return [copy.name for copy in old]


def _named(url: str) -> set[tuple[str, str]]:
    """Family and version of what the staging area's pointers and sets hold."""
    sets, staging = LiveSets(url), Staging(url)
    live = sets.live()
    held = [each for each in (live, sets.proposed(), sets.before(live) if live else None) if each]
    accepted = {family: version for family in staging.families() if (version := staging.accepted(family))}
    return {item for releases in (accepted, *(each.releases for each in held)) for item in releases.items()}
