"""The ops that every family's graph is made of, beside the family's own `train`.

    load_inputs → validate → train → evaluate → gate → stage → materialize

They hand on references (`shared_ops.pipeline.references`), never data.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import polars as pl
from dagster import (
    AssetMaterialization,
    Config,
    MetadataValue,
    OpDefinition,
    OpExecutionContext,
    Out,
    Output,
    op,
)
from pydantic import Field

from shared_ops.data import storage, tables
from shared_ops.data.feedback import HELD_BACK, FeedbackRef
from shared_ops.data.snapshots import Snapshot, SnapshotRef, load, sample
from shared_ops.judge import gating
from shared_ops.judge.answering import AnsweringError, answering
from shared_ops.judge.evaluation import PRIMARY, means, table
from shared_ops.judge.judging import JudgedQueries, all_alike
from shared_ops.judge.latency import medians
from shared_ops.judge.report import report
from shared_ops.judge.training import (
    Answers,
    HitsRanker,
    Open,
    RankAnswers,
    SearchAnswers,
    Searcher,
    TrainingResult,
)
from shared_ops.notifications import notify
from shared_ops.pipeline import checks
from shared_ops.pipeline.lineage import challenger_key, release_key
from shared_ops.pipeline.references import (
    AGAIN,
    HELD,
    NO_FEEDBACK,
    REASON,
    UNCHANGED,
    VERDICT,
    Candidate,
    Challenger,
    GateResult,
    ReleaseRef,
)
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidInputs
from shared_ops.release import codes, inputs, runtimes
from shared_ops.release.acceptance import accept, accept_again
from shared_ops.release.inputs import Inputs
from shared_ops.release.releases import ReleaseError, ReleaseManifest, environment_lock
from shared_ops.settings import current

ROOT_RUN, RETRY_NUMBER = "dagster/root_run_id", "dagster/retry_number"


class LoadConfig(Config):
    """Which inputs to train on."""

    snapshot_id: str = Field(default="", description="a snapshot's id; empty takes the latest")
    sample_documents: int | None = Field(default=None, description="documents in the sample; unset takes the job's")
    sample_seed: int = Field(default=0, description="which sample: the same seed draws the same documents")
    feedback_id: str = Field(default="", description="the id of feedback; empty takes the latest, none takes none")
    releases: dict[str, str] = Field(
        default={}, description="family to version, for a ranker; a family that is not named gives its accepted release"
    )
    force: bool = Field(default=False, description="train again although nothing changed since a release")


def load_inputs_op(family: str) -> OpDefinition:
    """The `load_inputs` op of a family."""
    codes.running_code(family)  # read now, while this process loads it: files saved later change nothing that runs

    @op(name="load_inputs", out=Out(Inputs, is_required=False))
    def load_inputs(
        context: OpExecutionContext, config: LoadConfig, deployment: DeploymentResource
    ) -> Iterator[Output[Inputs]]:
        """Find what to learn from. Where a release already is the result of just this training, the run ends here."""
        _check_loaded_code(context, family)
        _check_not_taken_back(context, config, deployment)
        data = inputs.find(
            family,
            deployment.input_snapshots,
            _feedback(config, deployment),
            deployment.input_staging,
            _snapshot(config, deployment),
            config.releases,
        )
        context.log.info(_description(data))
        result = inputs.with_key(training_key(context, data), family, deployment.staging)
        if result and not config.force:
            what = f"{family}/{result.version} ({'accepted' if result.accepted else 'rejected'})"
            context.log.info(f"Nothing is trained: {what} is the result of just this data, code and configuration.")
            if not result.accepted:
                why = " ".join(result.gate["reasons"])
                context.log.warning(f"{why} Another result takes other data, code or configuration.")
            if result.code != codes.digest(codes.running_code(family)):
                context.log.info("What serves it has changed since: FORCE=1 trains it anew, to be served with that.")
            if again := accept_again(result, deployment.staging, deployment.live_sets):
                context.log.info(again)
                _log_release(context, deployment, result)
            context.instance.add_run_tags(context.run_id, {UNCHANGED: f"{family}/{result.version}"})
            return
        yield Output(data, metadata={"snapshot": data.snapshot.id, "data": data.data_key})

    return load_inputs


def _check_loaded_code(context: OpExecutionContext, family: str) -> None:
    """End a run, before it trains, whose code was saved while its process loaded it; its trigger starts another one.

    Raises:
        CodeError: when that happened.
    """
    try:
        codes.running_code(family)
    except codes.CodeError as error:
        context.instance.add_run_tags(context.run_id, {AGAIN: str(error)[:250]})
        raise


def _check_not_taken_back(context: OpExecutionContext, config: LoadConfig, deployment: DeploymentResource) -> None:
    """End a run whose configuration names a release that was taken back since; its trigger starts another one.

    Raises:
        MissingInputError: naming the release.
    """
    for family, version in config.releases.items():
        if past := deployment.live_sets.taken_back_release(family, version):
            reason = f"{family}/{version} was taken back with set {past.number} since this run was asked for."
            context.instance.add_run_tags(context.run_id, {AGAIN: reason})
            raise inputs.MissingInputError(reason)


def _log_release(context: OpExecutionContext, deployment: DeploymentResource, manifest: ReleaseManifest) -> None:
    """Tell Dagster that an earlier release is the accepted one again, if it is."""
    if deployment.staging.accepted(manifest.family) == manifest.version:
        metadata: dict[str, Any] = {"version": manifest.version, "accepted": "again", **plot_metadata(manifest.metrics)}
        key = release_key(deployment.deployment, manifest.family)
        context.log_event(AssetMaterialization(asset_key=key, metadata=metadata))


def _snapshot(config: LoadConfig, deployment: DeploymentResource) -> SnapshotRef | None:
    """The snapshot that the configuration names, else the latest, or a sample of it; None where there is none."""
    source = deployment.input_snapshots
    chosen = source.latest()
    if config.snapshot_id:
        chosen = SnapshotRef(id=config.snapshot_id, url=storage.join(source.url, config.snapshot_id))
    size = deployment.sample_documents if config.sample_documents is None else config.sample_documents
    if chosen is None or not size:
        return chosen
    cut = sample(load(chosen), size, config.sample_seed)
    return deployment.snapshots.publish(cut, [{"sample_of": chosen.id, "documents": size, "seed": config.sample_seed}])


def _feedback(config: LoadConfig, deployment: DeploymentResource) -> FeedbackRef | None:
    """The feedback that the configuration names, else the latest; None for NO_FEEDBACK, and where there is none."""
    if not config.feedback_id:
        return deployment.input_feedback.latest()
    if config.feedback_id == NO_FEEDBACK:
        return None
    return FeedbackRef(id=config.feedback_id, url=storage.join(deployment.input_feedback.url, config.feedback_id))


def _description(data: Inputs) -> str:
    parts = [f"Snapshot {data.snapshot.id} at {data.snapshot.url}"]
    if data.feedback:
        parts.append(f"feedback {data.feedback.id}")
    if data.releases:
        parts.append(f"hits of {', '.join(f'{family}/{version}' for family, version in data.releases.items())}")
    return "; ".join(parts)


def training_key(context: OpExecutionContext, data: Inputs) -> str:
    """The key of this run's training.

    The configuration of `load_inputs` is no part of it: the inputs that it leads to are.
    """
    stated: Any = context.run.run_config.get("ops", {})
    return data.key({name: config for name, config in stated.items() if name != "load_inputs"})


@op(out=Out(ValidInputs))
def validate(inputs: Inputs) -> Inputs:
    """Read the inputs' tables; the output's type is the check, and its findings show in the UI."""
    return inputs


def save_candidate(
    context: OpExecutionContext,
    deployment: DeploymentResource,
    inputs: Inputs,
    trained: TrainingResult[Any],
    parameters: dict[str, Any],
) -> Candidate:
    """Write a trained model and its hits into the run's candidate folder; every family's `train` ends with it."""
    url = deployment.staging.candidate_url(inputs.family, root_run_id(context))
    with storage.written_folder(url) as folder:
        write_trained(trained, folder)
    chosen = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in trained.hyperparameters.items()
    )
    context.log.info(f"Chose {', '.join(chosen)}")
    return Candidate(
        inputs=inputs,
        key=training_key(context, inputs),
        code=runtimes.keep(inputs.family, codes.running_code(inputs.family), current()).code,
        code_version=codes.code_version(inputs.family),
        environment=environment_lock(inputs.family),
        url=url,
        parameters=parameters,
        hyperparameters=trained.hyperparameters,
    )


def write_trained(trained: TrainingResult[Any], folder: Path) -> None:
    """Write a training's result into `folder`: the model, and in hits/ a table of its hits for each split."""
    trained.model.save(folder)
    (folder / "hits").mkdir()
    for split, hits in trained.hits.items():
        hits.write_parquet(folder / "hits" / f"{split}.parquet")
    if trained.reach is not None:
        (folder / inputs.REACH).write_text(json.dumps(sorted(trained.reach), ensure_ascii=False), encoding="utf-8")


def root_run_id(context: OpExecutionContext) -> str:
    """The id of the run that this one is a retry of, else this run's own: a retry continues the first run's work.

    A run that a person executes again is no retry, and makes a release of its own.
    """
    tags = context.run.tags
    return tags[ROOT_RUN] if RETRY_NUMBER in tags else context.run_id


def search_opener(load_model: Callable[[Path], Searcher]) -> Open:
    """The `Open` of a search family, given the `load` of its model."""
    return lambda folder, inputs: SearchAnswers(load_model(folder))


def rank_opener(load_model: Callable[[Path], HitsRanker]) -> Open:
    """The `Open` of a ranking family, given the `load` of its model.

    It orders the hits of the releases in the inputs, for the newest sessions' queries too.
    """

    def opened(folder: Path, inputs: Inputs) -> RankAnswers:
        by_family = {family: tables.hits_by_query(inputs.hits(family)) for family in inputs.releases}
        for search in inputs.asked():
            if search.fold == HELD_BACK:
                for family, hits in search.hits.items():
                    by_family[family][search.query_id] = hits
        return RankAnswers(load_model(folder), by_family)

    return opened


def evaluate_op(open_model: Open) -> OpDefinition:
    """The `evaluate` op of a family; `open_model` opens the candidate and the accepted release."""

    @op(name="evaluate")
    def evaluate(context: OpExecutionContext, deployment: DeploymentResource, candidate: Candidate) -> Challenger:
        """Measure the candidate on the judged queries, and the accepted release on the same ones."""
        _check_code(context, candidate)
        snapshot = load(candidate.inputs.snapshot)
        feedback = judging_feedback(candidate.inputs.feedback, snapshot, deployment)
        judged = JudgedQueries.of(snapshot, feedback)
        test_hits = inputs.release_hits(candidate.url, "test").join(judged.test, on="query_id", how="semi")
        with ExitStack() as opened:
            folder = opened.enter_context(storage.local_folder(candidate.url))
            answers = {"challenger": open_model(folder, candidate.inputs)}
            hits = {"challenger": pl.concat([test_hits, answers["challenger"].many(judged.asked_newest)])}
            champion = _champion(context, deployment, candidate, judged.asked, open_model, opened)
            if champion:
                answers["champion"], hits["champion"] = champion.answers, champion.hits
            took = medians(answers, judged.asked if len(judged.asked) else _titles(snapshot))
        measured = {name: judged.measure(frame) for name, frame in hits.items()}
        for name, frame in measured.items():
            tables.write(_evaluation_url(candidate, name), frame)
        tables.write(_evaluation_url(candidate, "hits"), hits["challenger"])
        metrics = means(measured["challenger"], judged.slices)
        context.add_output_metadata({"metrics": MetadataValue.md(table(metrics)), **plot_metadata(metrics)})
        return Challenger(
            candidate=candidate,
            metrics=metrics,
            feedback=feedback,
            champion=champion.version if champion else None,
            challenger_ms=took["challenger"],
            champion_ms=took.get("champion"),
        )

    return evaluate


def _check_code(context: OpExecutionContext, candidate: Candidate) -> None:
    """Check that this process runs the code that trained the candidate: a step that is executed again may run another.

    Raises:
        ReleaseError: when it runs another: the gate would measure code that nobody gets. The trigger trains anew.
    """
    running = codes.digest(codes.running_code(candidate.family)), environment_lock(candidate.family)
    if (candidate.code, candidate.environment) != running:
        reason = (
            f"{candidate.family} was trained by this run with other code or packages than are here now, which would be "
            f"measured in their place. Train it anew: make train REPO={candidate.family}."
        )
        context.instance.add_run_tags(context.run_id, {AGAIN: reason[:250]})
        raise ReleaseError(reason)


def _check_champion(
    context: OpExecutionContext, deployment: DeploymentResource, challenger: Challenger, version: str
) -> None:
    """Check that the challenger was compared with what is accepted now: a rollback may have changed that meanwhile.

    Where the challenger itself is accepted, as `version`, this step had come to that before it is executed again.

    Raises:
        ReleaseError: when it was compared with another release. The trigger trains anew.
    """
    family, champion = challenger.candidate.family, challenger.champion
    champions = _champions(family, deployment)
    if champion and not {champion, version} & set(champions):
        reason = (
            f"{family} was compared with {champion}, and {' or '.join(champions) or 'no release'} is accepted by now, "
            f"as after a rollback. Train it anew: make train REPO={family}."
        )
        context.instance.add_run_tags(context.run_id, {AGAIN: reason[:250]})
        raise ReleaseError(reason)


def judging_feedback(
    learned: FeedbackRef | None, snapshot: Snapshot, deployment: DeploymentResource
) -> FeedbackRef | None:
    """The feedback whose newest sessions judge: that learned from; else, where no test query is judged, the latest."""
    if learned or len(snapshot.qrels("test")):
        return learned
    return deployment.input_feedback.latest()


@dataclass(frozen=True)
class _Champion:
    """The release that a challenger is compared with, opened, and its hits."""

    version: str
    answers: Answers
    hits: pl.DataFrame


def _champion(
    context: OpExecutionContext,
    deployment: DeploymentResource,
    candidate: Candidate,
    queries: pl.DataFrame,
    open_model: Open,
    opened: ExitStack,
) -> _Champion | None:
    """The accepted release with its hits for `queries`, kept open in `opened`; None without one, or where it abstains.

    A release that is damaged, or does not answer in its own code, cannot be served either. The challenger is then
    compared with the live release, so that a release that can never reach people does not hold up one that can.

    Raises:
        AnsweringError, ReleaseError, CodeError, RuntimeMissingError: when the live release does not answer, or the
            accepted one where nothing else is live.
    """
    versions = _champions(candidate.family, deployment)
    for version in versions:
        try:
            if inputs.reach(deployment.staging.checked_url(candidate.family, version)) == []:
                return None
            data = _champion_inputs(version, candidate.inputs, deployment)
            answers = opened.enter_context(answering(deployment.staging, data, version, open_model))
            return _Champion(version, answers, answers.many(queries))
        except (AnsweringError, ReleaseError, codes.CodeError, runtimes.RuntimeMissingError) as error:
            if version == versions[-1]:
                raise
            context.log.warning(f"{error} So the challenger is compared with the live release, {versions[-1]}.")
    return None


def _champions(family: str, deployment: DeploymentResource) -> list[str]:
    """The releases to compare a challenger with, in the order in which they are tried: the accepted one, the live one.

    There are none before a release is accepted.
    """
    accepted, live = deployment.staging.accepted(family), deployment.live_sets.live()
    if accepted is None:
        return []
    return list(dict.fromkeys([accepted, live.releases.get(family, accepted) if live else accepted]))


def _champion_inputs(champion: str, data: Inputs, deployment: DeploymentResource) -> Inputs:
    """The inputs with which the champion answers: a ranker orders the hits of those families that it learned from.

    `data` is what the candidate learned from. Where that holds a family's release, the hits of this release are taken.
    """
    learned_from = deployment.staging.manifest(data.family, champion).learned_from
    releases = {family: data.releases.get(family, version) for family, version in learned_from.items()}
    return data.model_copy(update={"releases": releases})


def _titles(snapshot: Snapshot) -> pl.DataFrame:
    """The documents' titles, to be asked where there is no query: columns query_id, text."""
    return snapshot.documents().select(query_id="doc_id", text="title")


class GateConfig(Config):
    """The bounds of the gate (shared_ops.judge.gating.GatePolicy); unset fields keep its defaults."""

    floor: float | None = Field(
        default=None,
        description="a first release must reach this share of the way from chance to the best order of as many hits, "
        "and this share of the best that it could find",
    )
    margin: float | None = Field(
        default=None, description="the loss in nDCG@10 that must be ruled out; unset takes SEARCHLOOP_GATE_MARGIN"
    )
    alpha: float | None = Field(default=None, description="chance at which such a loss is let through")
    slice_bound: float | None = Field(default=None, description="the mean loss at which a slice rejects")
    max_slowdown: float | None = Field(default=None, description="how many times the champion's time it may take")

    def policy(self) -> gating.GatePolicy:
        """The policy with the bounds that are set here; without a margin, the stack's setting counts."""
        stated = {name: value for name, value in self.model_dump().items() if value is not None}
        return gating.GatePolicy(**{"margin": current().gate_margin, **stated})


@op
def gate(
    context: OpExecutionContext, config: GateConfig, deployment: DeploymentResource, challenger: Challenger
) -> GateResult:
    """Judge the challenger against the accepted release on the same queries; the verdict is logged either way."""
    candidate = challenger.candidate
    judged = JudgedQueries.of(load(candidate.inputs.snapshot), challenger.feedback)
    ours = tables.read(_evaluation_url(candidate, "challenger"))
    theirs = tables.read(_evaluation_url(candidate, "champion")) if challenger.champion else None
    verdict = _verdict(challenger, judged, ours, theirs, config.policy())
    log_verdict(context, deployment, candidate.family, verdict)
    page = report(ours, theirs, judged.members, judged.texts, verdict)
    context.add_output_metadata({"report": MetadataValue.md(page)})
    return GateResult(challenger=challenger, verdict=verdict)


def _verdict(
    challenger: Challenger,
    judged: JudgedQueries,
    ours: pl.DataFrame,
    theirs: pl.DataFrame | None,
    policy: gating.GatePolicy,
) -> gating.Verdict:
    candidate = challenger.candidate
    reach = inputs.reach(candidate.url)
    evidence: dict[str, Any] = {
        "hits": tables.read(_evaluation_url(candidate, "hits")),
        "latency": gating.Latency(challenger_ms=challenger.challenger_ms, champion_ms=challenger.champion_ms),
    }
    if reach == [] and theirs is None:
        return gating.verdict_without_judgements(gating.ABSTAINS, policy, **evidence)
    if all_alike(judged.snapshot):
        return gating.verdict_without_judgements(gating.ALL_ALIKE, policy, **evidence)
    if theirs is None or challenger.champion is None:
        attainable = judged.attainable(reach, evidence["hits"])
        return gating.judge_first(ours, policy, members=judged.members, attainable=attainable, **evidence)
    return gating.judge(ours, theirs, judged.members, policy, challenger.champion, **evidence)


def _evaluation_url(candidate: Candidate, name: str) -> str:
    """The file in a candidate's folder with its hits (`hits`), or the measures of `challenger` or `champion`."""
    return storage.join(candidate.url, "evaluation", f"{name}.parquet")


def log_verdict(
    context: OpExecutionContext, deployment: DeploymentResource, family: str, verdict: gating.Verdict
) -> None:
    """Tell Dagster the verdict on a challenger, with its numbers; a rejection is notified too."""
    tell_verdict(context, verdict, verdict.sentence)
    checks.log_check(
        context,
        challenger_key(deployment.deployment, family),
        checks.GATE,
        passed=verdict.accepted,
        description=verdict.sentence,
        metadata=numbers(verdict.model_dump(mode="json")),
    )
    if not verdict.accepted:
        notify(f"{family} was rejected in {deployment.deployment}", verdict.sentence, level="warning")


def tell_verdict(context: OpExecutionContext, verdict: gating.Verdict, sentence: str) -> None:
    """Write a verdict into the run's log and tags: a run that succeeds may have made a rejected challenger."""
    (context.log.info if verdict.accepted else context.log.warning)(sentence)
    verdict_tag = "accepted" if verdict.accepted else "rejected"
    context.instance.add_run_tags(context.run_id, {VERDICT: verdict_tag, REASON: sentence[:250]})


@op
def stage(context: OpExecutionContext, deployment: DeploymentResource, judged: GateResult) -> ReleaseRef:
    """Publish the release with its manifest; accept it if the gate said so and the family is not pinned."""
    challenger, candidate = judged.challenger, judged.challenger.candidate
    _check_code(context, candidate)
    # Once more: since the training it may have been tidied away.
    runtimes.keep(candidate.family, codes.running_code(candidate.family), current())
    # The start of the first run and not the present time, so that a repeated step publishes the same release once.
    record = context.instance.get_run_record_by_id(root_run_id(context))
    assert record is not None, "a run that executes is recorded"
    created = record.create_timestamp.astimezone(UTC)
    version = f"{created:%Y%m%d-%H%M%S}{created.microsecond // 1000:03}-{root_run_id(context)[:8]}"  # sorts by time
    _check_champion(context, deployment, challenger, version)
    with storage.local_folder(candidate.url) as folder:
        manifest = ReleaseManifest(
            family=candidate.family,
            version=version,
            created_at=created,
            snapshot=candidate.inputs.snapshot,
            feedback=candidate.inputs.feedback,
            learned_from=candidate.inputs.releases,
            key=candidate.key,
            parameters=candidate.parameters,
            hyperparameters=candidate.hyperparameters,
            metrics=challenger.metrics,
            gate=judged.verdict.model_dump(mode="json"),
            environment=candidate.environment,
            code=candidate.code,
            code_version=candidate.code_version,
            deployment=deployment.deployment,
            run_id=context.run_id,
        )
        manifest = deployment.staging.publish(folder, manifest)
    accepted = manifest.accepted
    if accepted and (held := accept(manifest, deployment.staging, deployment.live_sets)):
        accepted = False
        context.log.warning(held)
        context.instance.add_run_tags(context.run_id, {HELD: held[:250]})
    context.log.info(f"Staged {manifest.family}/{manifest.version}, accepted: {accepted}")
    return ReleaseRef(family=manifest.family, version=manifest.version, accepted=accepted)


@op
def materialize(context: OpExecutionContext, deployment: DeploymentResource, release: ReleaseRef) -> ReleaseRef:
    """Tell Dagster of a challenger: where it lies, its manifest and its metrics; an accepted one is the release too."""
    staging = deployment.staging
    manifest = staging.manifest(release.family, release.version)
    url = staging.release_url(release.family, release.version)
    metadata: dict[str, Any] = {
        "path": MetadataValue.path(str(storage.local_path(url) or url)),
        "version": manifest.version,
        "accepted": release.accepted,
        "run": MetadataValue.dagster_run(manifest.run_id),
        "snapshot": manifest.snapshot.id,
        "feedback": manifest.feedback.id if manifest.feedback else "none",
        "hyperparameters": MetadataValue.json(manifest.hyperparameters),
        "parameters": MetadataValue.json(manifest.parameters),
        "learned from": MetadataValue.json(manifest.learned_from),
        "metrics": MetadataValue.md(table(manifest.metrics)),
        "gate": " ".join([*manifest.gate["reasons"], *manifest.gate.get("notes", [])]) or "accepted",
        "manifest": MetadataValue.json(manifest.model_dump(mode="json")),
        "size in bytes": sum(entry.size for entry in manifest.files),
        "files": len(manifest.files),
        **plot_metadata(manifest.metrics),
    }
    key = challenger_key(deployment.deployment, release.family)
    context.log_event(AssetMaterialization(asset_key=key, metadata=metadata))
    if release.accepted:
        key = release_key(deployment.deployment, release.family)
        context.log_event(AssetMaterialization(asset_key=key, metadata=metadata))
        _log_integrity(context, deployment, release)
    context.add_output_metadata(metadata)
    storage.remove(staging.candidate_url(release.family, root_run_id(context)))
    return release


def _log_integrity(context: OpExecutionContext, deployment: DeploymentResource, release: ReleaseRef) -> None:
    """Tell Dagster, as the result of the release's check, whether its files are as they were published."""
    damage = checks.damage(deployment.staging, release.family, release.version)
    checks.log_check(
        context,
        release_key(deployment.deployment, release.family),
        checks.INTEGRITY,
        passed=damage is None,
        description=damage,
        metadata={"version": release.version},
    )


def plot_metadata(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metrics as numeric metadata, so that Dagit plots them: each measure of all queries, and each slice's PRIMARY.

    Dagit orders plots by their names: what concerns all queries comes first. The table beside them holds the rest.
    """
    of_all = {f"all: {measure}": float(value) for measure, value in metrics.get("all", {}).items()}
    slices = {name: values for name, values in metrics.items() if name != "all"}
    return of_all | {f"slice {name}: {PRIMARY}": float(values[PRIMARY]) for name, values in slices.items()}


def numbers(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict's fields that hold something, nested ones as JSON."""
    return {
        name: MetadataValue.json(value) if isinstance(value, dict | list) else value
        for name, value in verdict.items()
        if value is not None
    }
