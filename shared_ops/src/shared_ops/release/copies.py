"""Tidies the home's copies of releases from a staging area that lies elsewhere.

Knows no Dagster. A copy that was removed is made again when it is needed.
"""

import shutil
import time

from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging, copies
from shared_ops.release.runtimes import KEPT_SECONDS
from shared_ops.settings import DEPLOYMENTS, current


def tidy() -> list[str]:
    """Remove the copies older than KEPT_SECONDS that no deployment is about to load; returns their names.

    These stay: the copies of the live set, of the proposed set and of the set before, which a rollback loads; and those
    of the accepted releases, with which candidates are compared.
    """
    areas = [current().staging_url(deployment) for deployment in DEPLOYMENTS]
    releases = {each for url in areas for each in _named(url)}
    # Every release in every area: dev's sets hold prod's releases, too.
    needed = {Staging(url).copy_of(*each).name for url in areas for each in releases}
    made_before = time.time() - KEPT_SECONDS
    old = [each for each in copies().glob("*") if each.name not in needed and each.stat().st_mtime < made_before]
    for copy in old:
        shutil.rmtree(copy.rename(copy.with_name(f".{copy.name}")))  # half a copy must not bear its name
    return [copy.name for copy in old]


def _named(url: str) -> set[tuple[str, str]]:
    """The family and the version of each release of a staging area that is accepted or in one of those sets."""
    sets, staging = LiveSets(url), Staging(url)
    live = sets.live()
    sets_in_use = [each for each in (live, sets.proposed(), sets.before(live) if live else None) if each]
    accepted = {family: version for family in staging.families() if (version := staging.accepted(family))}
    return {item for releases in (accepted, *(each.releases for each in sets_in_use)) for item in releases.items()}
