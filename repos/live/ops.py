"""The ops that move the live set: to a new ranker and what it learned from, to a new snapshot, or back.

    accepted_ranker → gate_set → promote
    newest_snapshot → show
    set_of_the_past → roll_back

A better model can make the whole worse, so a set is judged by its final order before it is promoted.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from operator import not_
from typing import Any

import polars as pl
from dagster import (
    AssetMaterialization,
    Config,
    MetadataValue,
    OpExecutionContext,
    Out,
    Output,
    op,
)
from pydantic import Field

from repos.live.checks import ANSWERS, END_TO_END
from shared_ops.data.snapshots import SnapshotRef, load
from shared_ops.judge import gating
from shared_ops.judge.answering import answering
from shared_ops.judge.judging import JudgedQueries
from shared_ops.judge.report import report
from shared_ops.judge.training import Answers
from shared_ops.notifications import notify
from shared_ops.pipeline.checks import log_check
from shared_ops.pipeline.lineage import live_set_key, proposed_set_key
from shared_ops.pipeline.ops import GateConfig, judging_feedback, numbers, plot_metadata, tell_verdict
from shared_ops.pipeline.references import BECAUSE, BY_HAND, HELD, OVERTAKEN, JudgedSet, ReleaseRef
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.release import candidates, copies, inputs, promotion, runtimes
from shared_ops.release.agreement import disagreements
from shared_ops.release.holds import HeldError
from shared_ops.release.livesets import NOTHING_LIVE, Decision, LiveSet
from shared_ops.release.promotion import TakenBackError, past_set, shown_with
from shared_ops.release.promotion import promote as promote_set
from shared_ops.release.promotion import rollback as rollback_set
from shared_ops.release.releases import ReleaseError, ReleaseManifest
from shared_ops.settings import current, ranking_families, repository_of
from shared_ops.waiting import until

POOL = repository_of(__name__)
"""The pool of the ops that move the live set: one at a time does."""
KEPT_RELEASES = 10
KEPT_SETS = 20
FOLLOW_SECONDS = 10.0
"""How long the services are given to answer with a set that has just gone live."""


class RankerConfig(Config):
    """Whose set is to go live."""

    family: str | None = Field(
        default=None, description="the ranker's family; unset: the first with an accepted release that is undecided"
    )
    version: str | None = Field(
        default=None, description="the release that a trigger found accepted; unset: the one that is accepted now"
    )


@op(out=Out(ReleaseRef, is_required=False))
def accepted_ranker(
    context: OpExecutionContext, config: RankerConfig, deployment: DeploymentResource
) -> Iterator[Output[ReleaseRef]]:
    """Find the ranker whose set is to go live. Where it is accepted no more, or held, the run ends here and says so.

    Raises:
        ReleaseError: when none is accepted, or no ranker's family is named and all are decided upon.
    """
    ranker = _chosen(deployment, config.family)
    version = deployment.staging.accepted(ranker)
    if version is None:
        raise ReleaseError(f"There is no accepted ranker to promote. Train one: make train REPO={ranker}.")
    if config.version is not None and config.version != version:
        _tell_moved_nothing(context, OVERTAKEN, _no_longer_accepted(deployment, ranker, config.version, version))
        return
    if held := promotion.held(deployment.staging, deployment.live_sets, ranker, version):
        _tell_moved_nothing(context, HELD, held)
        return
    yield Output(ReleaseRef(family=ranker, version=version, accepted=True))


def _chosen(deployment: DeploymentResource, family: str | None) -> str:
    """The ranker's family that is named, or the only one, or the first whose accepted release is undecided.

    Raises:
        ReleaseError: when there is none.
    """
    rankers = [family] if family else ranking_families()
    if unknown := set(rankers) - set(ranking_families()):
        raise ReleaseError(f"family: expected one of {', '.join(ranking_families())}, got {', '.join(unknown)}.")
    reasons = {each: promotion.settled(deployment.staging, deployment.live_sets, each) for each in rankers}
    undecided = [each for each, reason in reasons.items() if reason is None]
    if not undecided and len(rankers) > 1:
        told = " ".join(filter(None, reasons.values()))
        raise ReleaseError(f"There is no ranker to decide upon. {told} Name one by family to judge it again.")
    return (undecided or rankers)[0]


def _no_longer_accepted(deployment: DeploymentResource, ranker: str, found: str, accepted: str) -> str:
    """Why the release that a trigger found is not proposed: another one is accepted since."""
    if past := deployment.live_sets.taken_back_release(ranker, found):
        why = f"was taken back with set {past.number}"
    elif found in deployment.staging.passed_over(ranker):
        why = "was passed over by a rollback"
    else:
        why = f"is no longer the accepted one: {ranker}/{accepted} is, and has a run of its own"
    return f"{ranker}/{found}, for which this run was started, {why}. It is not proposed."


def _tell_moved_nothing(context: OpExecutionContext, tag: str, reason: str) -> None:
    """Say by the log and a tag why a run moves nothing: it is no failure, and is not waited for as after one."""
    context.log.warning(reason)
    context.instance.add_run_tags(context.run_id, {tag: reason})


@op
def gate_set(
    context: OpExecutionContext, config: GateConfig, deployment: DeploymentResource, staged: ReleaseRef
) -> JudgedSet:
    """The end-to-end gate: the proposed set's final order against that of the live set.

    They are compared on the test queries that both sets know, and on what the newest sessions asked. The hits for
    either are those of models that had not learned from these queries; for the newest sessions, the live set's hits are
    those that were served.

    To take the place of another family's ranker, which may stay, a set has to be surely better. Two rankers of which
    neither is worse would else take turns.
    """
    manifest, live = deployment.staging.manifest(staged.family, staged.version), deployment.live_sets.live()
    judged_set = JudgedSet(**staged.model_dump(), over=live.number if live else 0)
    if live is None or live.releases.get(staged.family) == staged.version:
        reason = "There is no other live set to compare with."
        context.log.info(reason)
        _log_proposed(context, deployment, manifest, reason)
        return judged_set
    snapshot = load(manifest.snapshot)
    judged = JudgedQueries.of(snapshot, judging_feedback(manifest.feedback, snapshot, deployment))
    champion_manifest = deployment.staging.manifest(live.ranker, live.releases[live.ranker])
    ours, theirs = _final_orders(deployment, (manifest, champion_manifest), judged)
    common = pl.concat([_both(ours, theirs, judged.test), judged.asked_newest.select("query_id")])
    challenger, champion = (_measured(order, common, judged) for order in (ours, theirs))
    policy, rival = config.policy(), _rival(live, staged.family)
    if rival:
        policy = policy.model_copy(update={"margin": 0.0})
    verdict = gating.judge(challenger, champion, judged.members, policy, f"set {live.number}")
    _log_verdict(context, deployment, verdict, manifest, rival)
    page = report(challenger, champion, judged.members, judged.texts, verdict)
    context.add_output_metadata({"report": MetadataValue.md(page)})
    return judged_set.model_copy(update={"accepted": verdict.accepted})


def _rival(live: LiveSet, ranker: str) -> str | None:
    """The family of the live ranker, where it is another than `ranker` and may stay: it is still listed."""
    return live.ranker if live.ranker != ranker and live.ranker in ranking_families() else None


def _final_orders(
    deployment: DeploymentResource, rankers: Sequence[ReleaseManifest], judged: JudgedQueries
) -> list[pl.DataFrame]:
    """The orders that the rankers' releases gave to the test queries, and give now to those of the newest sessions.

    The latter are asked of the releases' processes, which start side by side.
    """
    tested = [_tested(deployment, ranker, judged) for ranker in rankers]
    if not len(judged.newest):
        return tested
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(deployment, ranker, judged)) for ranker in rankers]
        return [pl.concat([order, each.many(judged.asked_newest)]) for order, each in zip(tested, opened, strict=True)]


def _tested(deployment: DeploymentResource, ranker: ReleaseManifest, judged: JudgedQueries) -> pl.DataFrame:
    hits = inputs.release_hits(deployment.staging.checked_url(ranker.family, ranker.version), "test")
    return inputs.kept_hits(hits, judged.test, judged.snapshot.documents())


def _opened(
    deployment: DeploymentResource, ranker: ReleaseManifest, judged: JudgedQueries
) -> AbstractContextManager[Answers]:
    """A ranker's release, ready to order the hits of the newest sessions in `judged`."""
    manifest = ranker.model_copy(update={"feedback": judged.feedback})
    own_inputs = inputs.of_manifest(manifest, deployment.input_staging.url)
    return answering(deployment.staging, own_inputs, ranker.version)


def _both(ours: pl.DataFrame, theirs: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """The queries (query_id) that both orders know."""
    common = queries.select("query_id").join(ours, on="query_id", how="semi")
    return common.join(theirs, on="query_id", how="semi")


def _measured(order: pl.DataFrame, queries: pl.DataFrame, judged: JudgedQueries) -> pl.DataFrame:
    return judged.measure(order).join(queries, on="query_id", how="semi").sort("query_id")


def _log_verdict(
    context: OpExecutionContext,
    deployment: DeploymentResource,
    verdict: gating.Verdict,
    manifest: ReleaseManifest,
    rival: str | None,
) -> None:
    rule = f"To take the place of {rival}, another family, it has to rule out any loss. " if rival else ""
    sentence = f"{manifest.family}/{manifest.version} with its hits, end to end. {rule}{verdict.sentence}"
    tell_verdict(context, verdict, sentence)
    _log_proposed(context, deployment, manifest, sentence)
    log_check(
        context,
        proposed_set_key(deployment.deployment),
        END_TO_END,
        passed=verdict.accepted,
        description=sentence,
        metadata=numbers(verdict.model_dump(mode="json")),
    )
    if not verdict.accepted:
        decision = Decision(accepted=False, reason=sentence, rival=rival, verdict=verdict.model_dump(mode="json"))
        deployment.live_sets.decide(manifest.version, decision)
        notify(f"A set was rejected in {deployment.deployment}", sentence, level="warning")


def _log_proposed(
    context: OpExecutionContext, deployment: DeploymentResource, manifest: ReleaseManifest, verdict: str
) -> None:
    metadata: dict[str, Any] = {
        "releases": MetadataValue.json({**manifest.learned_from, manifest.family: manifest.version}),
        "snapshot": manifest.snapshot.id,
        "verdict": verdict,
        **plot_metadata(manifest.metrics),
    }
    context.log_event(AssetMaterialization(asset_key=proposed_set_key(deployment.deployment), metadata=metadata))


class PromoteConfig(Config):
    """How a set goes live, and how much of the past is kept."""

    timeout_s: float = Field(default=300.0, description="how long the services may take to load and check the set")
    kept_releases: int = Field(default=KEPT_RELEASES, ge=2, description="newest releases of each family that are kept")
    kept_sets: int = Field(default=KEPT_SETS, ge=2, description="newest sets that are kept, to roll back to")


@op(pool=POOL)
def promote(
    context: OpExecutionContext, config: PromoteConfig, deployment: DeploymentResource, judged_set: JudgedSet
) -> None:
    """Propose the set and make it the live one, unless it was rejected. Then remove old sets and releases."""
    manifest = deployment.staging.manifest(judged_set.family, judged_set.version)
    if judged_set.accepted:
        try:
            live = promote_set(
                deployment.live_sets,
                manifest,
                shown_with(deployment.live_sets, deployment.input_snapshots, manifest),
                over=judged_set.over,
                note=f"{judged_set.family} {judged_set.version}, {by_run(context)}",
                services=deployment.services,
                timeout_s=config.timeout_s,
                log=context.log.info,
            )
        except TakenBackError as error:
            # This is final. Whatever else stops a promotion may pass, so the trigger tries again.
            deployment.live_sets.decide(judged_set.version, Decision(accepted=False, reason=str(error)))
            raise
        except HeldError as error:  # once it ends, the trigger finds the ranker again
            _tell_moved_nothing(context, HELD, str(error))
            return
        decision = Decision(accepted=True, reason=live.note, set_number=live.number)
        deployment.live_sets.decide(judged_set.version, decision)
        materialize_live_set(context, deployment, live, plot_metadata(manifest.metrics))
        log_answers(context, deployment)
    _tidy(context, deployment, config)


def by_run(context: OpExecutionContext) -> str:
    """Which run made a set, and why it was started."""
    return f"by run {context.run_id[:8]}: {context.get_tag(BECAUSE) or BY_HAND}"


def log_answers(context: OpExecutionContext, deployment: DeploymentResource) -> None:
    """Tell Dagster whether the services answer with the live set; they notice a new one after a moment."""
    if not deployment.services:
        return
    found = until(lambda: disagreements(current()), not_, every=0.2, seconds=FOLLOW_SECONDS)
    log_check(
        context,
        live_set_key(deployment.deployment),
        ANSWERS,
        passed=not found,
        description="; ".join(found) or None,
    )


def _tidy(context: OpExecutionContext, deployment: DeploymentResource, config: PromoteConfig) -> None:
    """Remove old sets and releases, except the newest and whatever a kept set needs."""
    sets, staging = deployment.live_sets, deployment.staging
    if old := sets.forget(config.kept_sets):
        context.log.info(f"Forgot the sets {old}: {config.kept_sets} are kept.")
    kept_sets = [each for each in (*map(sets.past, sets.numbers()), sets.live(), sets.proposed()) if each]
    needed: dict[str, set[str]] = defaultdict(set)
    for each in kept_sets:
        for family, version in each.releases.items():
            needed[family].add(version)
    for family, pin in sets.hold().pins.items():
        needed[family].add(pin.version)
    for family in staging.families():  # what a kept ranker learned from is needed to train it again
        for version in staging.kept(family, config.kept_releases, needed[family]):
            for upstream, version_learned in staging.manifest(family, version).learned_from.items():
                needed[upstream].add(version_learned)
    for family in staging.families():
        if removed := staging.tidy(family, config.kept_releases, needed[family]):
            context.log.info(f"Removed {len(removed)} old releases of {family}: {', '.join(removed)}")
    # In this order: a release is published before it is decided upon.
    for ranker in set(sets.decisions()) - {version for _, version in staging.releases()}:
        sets.reopen(ranker)
    if gone := runtimes.tidy(current()):
        context.log.info(f"Removed {len(gone)} codes and locks that no release names.")
    if gone := copies.tidy():
        context.log.info(f"Removed {len(gone)} copies of releases that no set needs.")
    if gone := candidates.tidy():
        context.log.info(f"Removed {len(gone)} candidates that runs left behind: {', '.join(gone)}")


class RollbackConfig(Config):
    """Which set to go back to."""

    set_number: int = Field(default=0, ge=0, description="a set's number; 0 takes the one before the present")


@op
def set_of_the_past(config: RollbackConfig, deployment: DeploymentResource) -> LiveSet:
    """Choose the set to go back to.

    An op of its own: a run that is lost after the set went live, and tried again, must not go back once more.
    """
    return past_set(deployment.live_sets, config.set_number or None)


@op(pool=POOL)
def roll_back(context: OpExecutionContext, deployment: DeploymentResource, chosen: LiveSet) -> None:
    """Make a set of the past live again; sets that are newer are not promoted again by themselves."""
    note = f"rollback {by_run(context)}"
    live = rollback_set(
        deployment.live_sets, chosen.number, note=note, services=deployment.services, log=context.log.info
    )
    materialize_live_set(context, deployment, live, {}, note)
    log_answers(context, deployment)


class SnapshotConfig(Config):
    """Which snapshot the live set is to show."""

    snapshot_id: str | None = Field(
        default=None, description="the snapshot that a trigger found to be the newest; unset: the newest there is now"
    )


@op(out=Out(SnapshotRef, is_required=False))
def newest_snapshot(
    context: OpExecutionContext, config: SnapshotConfig, deployment: DeploymentResource
) -> Iterator[Output[SnapshotRef]]:
    """Find the snapshot that is to be shown. Where it is no longer the newest, the run ends here and says so.

    Raises:
        MissingInputError: when there is none.
    """
    newest = inputs.newest_snapshot(deployment.input_snapshots)
    if config.snapshot_id is not None and config.snapshot_id != newest.id:
        found = f"Snapshot {config.snapshot_id}, for which this run was started, is no longer the newest"
        _tell_moved_nothing(context, OVERTAKEN, f"{found}: snapshot {newest.id} is, and has a run of its own.")
        return
    yield Output(newest)


class ShowConfig(Config):
    """Which new snapshots are shown at once, by releases that never learned them, and which wait for a ranker."""

    max_removed_share: float = Field(
        default=0.2, ge=0, le=1, description="past this share of documents gone, the change waits for new models"
    )
    timeout_s: float = Field(default=300.0, description="how long the services may take to load the snapshot")


@op(pool=POOL)
def show(
    context: OpExecutionContext, config: ShowConfig, deployment: DeploymentResource, snapshot: SnapshotRef
) -> None:
    """Let the live set show the new snapshot, so that what left the corpus leaves the results at once.

    Its releases stay: what is new in the corpus is found once models have learned it.
    """
    live = deployment.live_sets.live()
    if live is None or live.snapshot == snapshot:
        shown = f"{NOTHING_LIVE}." if live is None else f"Set {live.number} shows snapshot {snapshot.id} already."
        context.log.info(shown)
        return
    if taken_back := deployment.live_sets.taken_back_snapshot(snapshot):
        context.log.warning(f"Snapshot {snapshot.id} was shown by set {taken_back.number}, which was rolled back.")
        return
    before, after = (load(ref).documents().select("doc_id") for ref in (live.snapshot, snapshot))
    removed = len(before.join(after, on="doc_id", how="anti")) / max(len(before), 1)
    if removed > config.max_removed_share:
        message = (
            f"{removed:.1%} of the documents that are shown are not in snapshot {snapshot.id}, more than "
            f"{config.max_removed_share:.1%}. The live set keeps {live.snapshot.id} until a ranker of the new one is "
            "accepted; raise max_removed_share to show it now."
        )
        context.log.warning(message)
        notify(f"A snapshot is not shown in {deployment.deployment}", message, level="warning")
        return
    try:
        moved = promote_set(
            deployment.live_sets,
            deployment.staging.manifest(live.ranker, live.releases[live.ranker]),
            snapshot,
            note=f"snapshot {snapshot.id}, {by_run(context)}",
            over=live.number,
            services=deployment.services,
            timeout_s=config.timeout_s,
            log=context.log.info,
        )
    except HeldError as error:
        _tell_moved_nothing(context, HELD, str(error))
        return
    materialize_live_set(context, deployment, moved, {"share of documents removed": removed})
    log_answers(context, deployment)


def materialize_live_set(
    context: OpExecutionContext,
    deployment: DeploymentResource,
    live: LiveSet,
    metrics: dict[str, float],
    note: str | None = None,
) -> None:
    """Tell Dagster of the live set; `note` says who moved or held it and why, None: the set's own note."""
    metadata = {**live.facts(note), **metrics}
    context.log_event(AssetMaterialization(asset_key=live_set_key(deployment.deployment), metadata=metadata))
