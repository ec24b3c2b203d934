"""Examines the staging area: every release by its manifest's hashes, with the code and the lock that it runs with."""

import hashlib
import shlex
from collections.abc import Collection, Iterator

from deploy.stack.doctor.finding import Finding, Subject
from shared_ops.data import snapshots, storage
from shared_ops.data.published import PublishedError
from shared_ops.release import codes, releases, runtimes
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import DEPLOYMENTS, Settings, ranking_families

Damaged = dict[tuple[str, str], str]
"""Family and version of each release that is not what was published, with what is wrong with it."""


def staging(subject: Subject) -> Iterator[Finding]:
    """Every release of every deployment, and the snapshot that the live set shows."""
    for deployment in DEPLOYMENTS:
        area = Staging(subject.settings.staging_url(deployment))
        sets = LiveSets(area.url)
        damaged = damage(area, sets.live(), subject.settings)
        for (family, version), problem in damaged.items():
            dev = f"only jobs of dev use it: rm -r {_path(area.url)}"
            yield Finding(problem, _mend(area, sets, family, version, damaged) if deployment == "prod" else dev)
        if live := sets.live():
            yield from _snapshot(live)


def damage(area: Staging, live: LiveSet | None, settings: Settings) -> Damaged:
    """The releases that are damaged, or named by a pointer and missing.

    All their files are read; those of a staging area that lies elsewhere are fetched for that.
    """
    found: Damaged = {}
    accepted = ((family, area.accepted(family)) for family in area.families())
    named = [(family, version) for family, version in accepted if version] + list(live.releases.items() if live else [])
    for family, version in dict.fromkeys([*area.releases(), *named]):
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
    is_live, is_accepted = live and live.releases.get(family) == version, area.accepted(family) == version
    if is_live and (number := _whole_set(sets, {*area.releases()} - damaged.keys())):
        return f"make rollback SET={number}"
    if not is_live and not is_accepted:
        return f"nothing answers with it: rm -r {_path(area.release_url(family, version))}"
    # A gate would compare the next one with it, and could not: without the pointer it is judged as a first one. The
    # services answer from the set that they hold until another is live.
    pointers = [storage.join(area.url, family, "accepted.json")] if is_accepted else []
    pointers += [storage.join(area.url, "live.json")] if live and is_live and family == live.ranker else []
    train = f"make train REPO={family} FORCE=1" if is_accepted else f"make train REPO={_ranker(live)}"
    return "; ".join([*(f"rm {_path(pointer)}" for pointer in pointers), train])


def _ranker(live: LiveSet | None) -> str:
    """The live ranker's family where it is listed, else the first that is."""
    return next((family for family in ranking_families() if live and family in live.releases), ranking_families()[0])


def _whole_set(sets: LiveSets, whole: Collection[tuple[str, str]]) -> int | None:
    """The newest set of the past whose releases are all among these, and that was not taken back."""
    past = (sets.past(number) for number in reversed(sets.numbers()) if number not in sets.rolled_back())
    return next((each.number for each in past if each and each.releases.items() <= {*whole}), None)


def _path(url: str) -> str:
    """A URL as one types it to a shell: a local file by its path."""
    return shlex.quote(str(storage.local_path(url) or url))


def _snapshot(live: LiveSet) -> Iterator[Finding]:
    try:
        snapshots.load(live.snapshot)
    except PublishedError as error:
        yield Finding(str(error), "make train")
