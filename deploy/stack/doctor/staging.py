"""Examines the staging area: every release by its manifest's hashes, with the code and the lock that it runs with."""

import hashlib
from collections.abc import Iterator

from deploy.stack.doctor.finding import Finding, Stack
from shared_ops.data import snapshots, storage
from shared_ops.data.published import PublishedError
from shared_ops.release import codes, releases, runtimes
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import DEPLOYMENTS, Settings

Damaged = dict[tuple[str, str], str]
"""Family and version of each release that is not what was published, with what is wrong with it."""


def staging(stack: Stack) -> Iterator[Finding]:
    """Every release of every deployment, and the snapshot that the live set shows."""
    for deployment in DEPLOYMENTS:
        area = Staging(stack.settings.staging_url(deployment))
        damaged, sets = damage(area, stack.settings), LiveSets(area.url)
        for (family, version), problem in damaged.items():
            yield Finding(problem, _mend(area, sets, family, version, damaged))
        if live := sets.live():
            yield from _snapshot(live)


def damage(area: Staging, settings: Settings) -> Damaged:
    """The releases that are damaged. Reads all files; of a staging area that lies elsewhere, it fetches them."""
    found: Damaged = {}
    for family, version in area.releases():
        try:
            manifest = area.manifest(family, version)
            with storage.local_folder(area.release_url(family, version)) as folder:
                releases.verify(folder, manifest)
        except ReleaseError as error:
            found[family, version] = str(error)
            continue
        if problem := _runs_with(manifest, settings):
            found[family, version] = f"Release {family}/{version}: {problem}"
    return found


def _runs_with(manifest: ReleaseManifest, settings: Settings) -> str | None:
    """What is wrong with the kept code or the kept lock of a release, if anything is."""
    if not manifest.code:
        return None
    if not codes.is_kept(settings.code_url, manifest.code):
        return f"its code {manifest.code[:12]} is not in {settings.code_url} as it was kept there"
    lock = storage.read_bytes(storage.join(settings.locks_url, manifest.environment, runtimes.LOCK))
    if lock is None or hashlib.sha256(lock).hexdigest() != manifest.environment:
        return f"its lock {manifest.environment[:12]} is not in {settings.locks_url} as it was kept there"
    return None


def _mend(area: Staging, sets: LiveSets, family: str, version: str, damaged: Damaged) -> str:
    """What to do about a damaged release: what is live or accepted needs another one, others can go."""
    live = sets.live()
    if live and live.releases.get(family) == version:
        taken_back = sets.rolled_back()
        past = (sets.past(number) for number in reversed(sets.numbers()) if number not in taken_back)
        whole = next((each for each in past if each and not damaged.keys() & each.releases.items()), None)
        return f"make rollback SET={whole.number}" if whole else f"make train REPO={family} FORCE=1"
    if area.accepted(family) == version:
        return f"make train REPO={family} FORCE=1"
    return f"nothing answers with it: rm -r {area.release_url(family, version).removeprefix('file://')}"


def _snapshot(live: LiveSet) -> Iterator[Finding]:
    try:
        snapshots.load(live.snapshot)
    except PublishedError as error:
        yield Finding(str(error), "make train")
