"""What is live and where it came from, what was decided upon a release and why: read from the staging area."""

from collections.abc import Iterator

from rich.table import Table
from rich.tree import Tree

from deploy.stack.terminal import brief
from shared_ops.data import snapshots
from shared_ops.data.feedback import Feedback
from shared_ops.data.published import PublishedError
from shared_ops.data.snapshots import SnapshotRef, Snapshots
from shared_ops.data.ubi import SIMULATION
from shared_ops.judge.evaluation import MEASURES, PRIMARY
from shared_ops.judge.gating import Verdict
from shared_ops.release import inputs
from shared_ops.release.livesets import NOTHING_LIVE, LiveSet, LiveSets
from shared_ops.release.promotion import promotion_obstacles
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import Role, Settings, families, ranking_families, search_families

NO_PART = "takes no part in this set: its ranker did not learn from it"
NO_RELEASE = "takes no part in this set: it has no accepted release yet"
WHY = 'WHY="..."'
NOT_LISTED = "(not in repos/repos.toml any more: it answers until a set without it is promoted)"


def live_lines(settings: Settings) -> Iterator[str]:
    """Lines on the live set: its releases with their metrics, and what is accepted or newest and not in it."""
    url = settings.staging_url("prod")
    live = LiveSets(url).live()
    if live is None:
        yield f"{NOTHING_LIVE}; or wait for the trainings that are shown above"
        return
    created = f"{live.created_at:%Y-%m-%d %H:%M} UTC"
    yield f"live set {live.number} of {created} ({brief(live.note)}), snapshot {live.snapshot.id}"
    for family in _in_order(live):
        version = live.releases[family]
        line = f"{version}  {_measured(Staging(url), family, version)}"
        yield f"  {family:<9} {line}" + ("" if family in families() else f"  {NOT_LISTED}")
    for family, why in _without_part(url, live).items():
        yield f"  {family:<9} {why}"
    for family in search_families():
        accepted = Staging(url).accepted(family)
        if accepted and accepted != live.releases.get(family):
            yield f"accepted, and not in this set: {family}/{accepted}; a ranker that learns from it brings it"
    yield from _accepted_rankers(url, live)
    newest = Snapshots(settings.snapshots_url("prod")).latest()
    if newest and newest != live.snapshot:
        yield f"not shown by this set: the newest snapshot, {newest.id}; why, says the sensor new_snapshot in Dagit"


def _accepted_rankers(url: str, live: LiveSet) -> Iterator[str]:
    """What becomes of the accepted rankers that are not the live one."""
    for ranker, obstacle in promotion_obstacles(Staging(url), LiveSets(url)).items():
        version = Staging(url).accepted(ranker)
        decision = LiveSets(url).decision(version) if version else None
        if obstacle is None:
            yield f"accepted, and to be promoted: {ranker}/{version}"
        elif version and version != live.releases.get(ranker) and decision is None:
            yield f"accepted, and held: {ranker}/{version}. {obstacle}"
        elif version != live.releases.get(ranker) and decision and decision.set_number:
            yield f"accepted, and not in this set: {ranker}/{version}; {_back(LiveSets(url), decision.set_number)}"


def _back(sets: LiveSets, number: int) -> str:
    """What makes a set of the past live again: one that was not taken back is gone back to."""
    promotes = number in sets.rolled_back()
    return f"make {f'promote SET={number} {WHY}' if promotes else f'rollback SET={number}'} brings it back"


def held_lines(settings: Settings) -> Iterator[str]:
    """What holds the live set, a line each: a freeze, pins."""
    yield from LiveSets(settings.staging_url("prod")).hold().lines


def moved_lines(settings: Settings) -> Iterator[str]:
    """The newest moves of the live set, and what held it, a line each: when, which set, by whom and why."""
    for move in LiveSets(settings.staging_url("prod")).moves():
        yield move.sentence


def _in_order(live: LiveSet) -> list[str]:
    """The families of a set, the searches first."""
    return sorted(live.releases, key=lambda family: live.roles[family] == "rank")


def _without_part(url: str, live: LiveSet) -> dict[str, str]:
    """The listed families that a set in the staging area at `url` does without, each with the reason."""
    ranker = next((name for name, role in live.roles.items() if role == "rank"), None)
    without = {name: each.role for name, each in families().items() if name not in live.releases}

    def why(family: str, role: Role) -> str:
        if Staging(url).accepted(family) is None:
            return NO_RELEASE
        return f"takes no part in this set: {ranker} is its ranker" if ranker and role == "rank" else NO_PART

    return {family: why(family, role) for family, role in without.items()}


def _measured(staging: Staging, family: str, version: str) -> str:
    try:
        manifest = staging.manifest(family, version)
    except ReleaseError as error:
        return str(error)
    if inputs.reach(staging.release_url(family, version)) == []:
        return "abstains: there was nothing that it could learn from"
    measured = (f"{name} {values[PRIMARY]:.4f}" for name, values in manifest.metrics.items() if ":" not in name)
    when = f"when it was trained ({manifest.created_at:%Y-%m-%d %H:%M} UTC), nothing was judged."
    return ", ".join(measured) or " ".join([when, *manifest.gate.get("notes", [])])


def rejected_lines(settings: Settings) -> Iterator[str]:
    """The newest rejected release of each family, and each ranker's set that did not go live, with the reasons."""
    url = settings.staging_url("prod")
    staging, sets = Staging(url), LiveSets(url)
    for family in staging.families():
        manifest = _newest_rejected(staging, family)
        if manifest:
            yield f"rejected: {family}/{manifest.version}: {Verdict.model_validate(manifest.gate).sentence}"
    for ranker in ranking_families():
        version = staging.accepted(ranker)
        decision = sets.decision(version) if version else None
        if decision and not decision.accepted:
            yield f"not promoted: {ranker}/{version}: {decision.reason}"
    if taken_back := sets.rolled_back():
        one = len(taken_back) == 1
        back = _back(sets, taken_back[0]) if one else f"make promote SET=<n> {WHY} brings one back"
        yield f"rolled back: set{'' if one else 's'} {', '.join(map(str, taken_back))} ({back})"


def _newest_rejected(staging: Staging, family: str) -> ReleaseManifest | None:
    manifests = (staging.manifest(family, version) for version in reversed(staging.versions(family)))
    return next((manifest for manifest in manifests if not manifest.accepted), None)


def explanation(settings: Settings, family: str, version: str) -> Iterator[str]:
    """Why a release was accepted or rejected and what has become of it, a line each.

    Raises:
        ReleaseError: when there is no such release.
    """
    staging, sets = Staging(settings.staging_url("prod")), LiveSets(settings.staging_url("prod"))
    manifest = staging.manifest(family, version)
    verdict = Verdict.model_validate(manifest.gate)
    run = f"{settings.url('dagit')}/runs/{manifest.run_id}"
    yield f"{family}/{version}, asked for at {manifest.created_at:%Y-%m-%d %H:%M} UTC, run {run}"
    yield f"its gate: {verdict.sentence}"
    yield from _compared_on(manifest, verdict)
    if verdict.latency:
        champion = f", the champion {verdict.latency.champion_ms:.1f} ms" if verdict.latency.champion_ms else ""
        yield f"took {verdict.latency.challenger_ms:.1f} ms a query{champion}"
    yield f"held to: {', '.join(f'{name} {value:g}' for name, value in verdict.policy)} (docs/gate.md)"
    yield f"now: {'; '.join(_standing(manifest, staging, sets))}"
    if decision := sets.decision(version):
        yield f"its set: {f'went live as set {decision.set_number}, ' if decision.accepted else ''}{decision.reason}"
    yield from _origin(manifest)


def _compared_on(manifest: ReleaseManifest, verdict: Verdict) -> Iterator[str]:
    """Why the gate counted other queries than the measures of all, where it did."""
    measured = int(manifest.metrics.get("all", {}).get("queries", 0))
    if verdict.queries > measured:
        newest = verdict.queries - measured
        yield f"of its {verdict.queries} queries {newest} are of the newest clicks, which the measures of all leave out"


def _standing(manifest: ReleaseManifest, staging: Staging, sets: LiveSets) -> Iterator[str]:
    """What a release is now, in a few words each."""
    family, version, live = manifest.family, manifest.version, sets.live()
    if live and live.releases.get(family) == version:
        yield f"live, in set {live.number}"
    if staging.accepted(family) == version:
        yield "the accepted release"
    else:
        yield f"not the accepted release: {staging.accepted(family) or 'none'} is"
    if past := sets.taken_back_release(family, version):
        yield f"taken back with set {past.number}"
    if version in staging.passed_over(family):
        yield "passed over when a set was gone back to"
    if pinned := sets.hold().pinned(family):
        yield pinned


def _origin(manifest: ReleaseManifest) -> Iterator[str]:
    """What a release came from, a line each."""
    for upstream, learned in manifest.learned_from.items():
        yield f"learned from the hits of {upstream}/{learned}"
    if manifest.feedback:
        yield f"learned from feedback {manifest.feedback.id}: {_clicks(Feedback(manifest.feedback))}"
    yield f"learned from snapshot {manifest.snapshot.id}"
    code = manifest.code[:16] or f"{manifest.code_version} (not kept)"
    yield f"code {code}, environment {manifest.environment[:16]}, run {manifest.run_id}"


def slices(settings: Settings, family: str, version: str) -> Table:
    """What a release measured in each slice, and what it gained or lost there against the champion."""
    manifest = Staging(settings.staging_url("prod")).manifest(family, version)
    verdict = Verdict.model_validate(manifest.gate)
    compared = ("compared on", "difference", f"p of {verdict.policy.loss}", "p of no loss")
    rows = Table("slice", "queries", *MEASURES, *compared)
    for name, values in manifest.metrics.items():
        measured = [f"{values['queries']:.0f}", *(f"{values[each]:.4f}" for each in MEASURES)]
        rows.add_row(name, *measured, *_compared(name, verdict))
    return rows


def _compared(name: str, verdict: Verdict) -> tuple[str, str, str, str]:
    """What the gate found in a slice, or in `all`: on how many queries, the difference, and the p-value of its test."""
    if verdict.difference is None:  # nothing was there to compare with
        return "", "", "", ""
    if name == "all":
        return str(verdict.queries), _signed(verdict.difference), _probability(verdict.p_value), ""
    if test := verdict.slice_tests.get(name):
        return str(test.queries), _signed(test.difference), "", _probability(test.p_value)
    return "", "", "", ""


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _probability(value: float | None) -> str:
    return "not judged" if value is None else f"{value:.4f}"


def lineage(settings: Settings) -> Tree | None:
    """The chain from the sources to the weights of the live set, as a tree; None before the first set."""
    url = settings.staging_url("prod")
    live = LiveSets(url).live()
    if live is None:
        return None
    tree = Tree(f"set {live.number} of {live.created_at:%Y-%m-%d %H:%M} UTC ({live.note})")
    for family in reversed(_in_order(live)):
        _add_release(tree, Staging(url), family, live)
    for family, why in _without_part(url, live).items():
        tree.add(f"{family} {why}")
    _add_snapshot(tree.add(f"shows snapshot {live.snapshot.id}"), live.snapshot)
    for line in [*held_lines(settings), *moved_lines(settings)]:
        tree.add(line)
    return tree


def _add_release(tree: Tree, staging: Staging, family: str, live: LiveSet) -> None:
    version = live.releases[family]
    manifest = staging.manifest(family, version)
    branch = tree.add(f"{family}/{version}: {_measured(staging, family, version)}")
    for line in _origin(manifest):
        branch.add(line)
    _add_snapshot(branch, manifest.snapshot)
    weights = branch.add("weights")
    for entry in manifest.files:
        if "/" not in entry.path:
            weights.add(f"{entry.path}  {entry.size} bytes  SHA-256 {entry.sha256[:16]}…")


def _clicks(feedback: Feedback) -> str:
    try:
        applications = feedback.manifest().applications
    except PublishedError as error:
        return str(error)
    marked = {name: f"{name}, SIMULATED" if name == SIMULATION else name for name in applications}
    return ", ".join(f"{each.clicks} clicks ({marked[name]})" for name, each in applications.items()) or "no clicks"


def _add_snapshot(branch: Tree, ref: SnapshotRef) -> None:
    try:
        manifest = snapshots.load(ref).manifest()
    except PublishedError as error:
        branch.add(str(error))
        return
    for source in manifest.sources:
        branch.add(
            ", ".join(f"{name} {source[name]}" for name in ("name", "kind", "documents", "queries") if name in source)
        )
