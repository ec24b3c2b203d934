"""The ops that every family's graph is made of, beside its own `train`.

    load_snapshot → validate → train → evaluate → gate → stage → materialize

They hand on references (`shared_ops.references`), never data.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetMaterialization,
    Config,
    MetadataValue,
    OpDefinition,
    OpExecutionContext,
    Out,
    op,
)
from pydantic import Field

from shared_ops import gating, storage, tables
from shared_ops.evaluation import evaluate as measure
from shared_ops.evaluation import per_query, slice_members, table
from shared_ops.lineage import release_key
from shared_ops.references import Candidate, Evaluated, Judged, Staged
from shared_ops.releases import ReleaseManifest, code_version, environment_lock
from shared_ops.resources import DeploymentResource
from shared_ops.snapshots import Snapshot, SnapshotError, SnapshotRef, load, sample
from shared_ops.tables import SPLITS
from shared_ops.training import Searcher, Trained
from shared_ops.training import answer as answer_queries
from shared_ops.types import ValidSnapshot


class LoadSnapshotConfig(Config):
    """Which snapshot to train on."""

    snapshot_id: str = Field(default="", description="a snapshot's id; empty takes the latest")
    sample_documents: int | None = Field(default=None, description="0 takes all; unset takes the deployment's sample")
    sample_seed: int = 0


@op
def load_snapshot(
    context: OpExecutionContext, config: LoadSnapshotConfig, deployment: DeploymentResource
) -> SnapshotRef:
    """Find the snapshot to train on, and cut the deployment's sample from it where it has one."""
    source = deployment.input_snapshots
    if config.snapshot_id:
        found: SnapshotRef | None = SnapshotRef(id=config.snapshot_id, url=storage.join(source.url, config.snapshot_id))
    else:
        found = source.latest()
    if found is None:
        raise SnapshotError(f"There is no snapshot in {source.url} yet. Build one with `make train REPO=corpus`.")
    size = deployment.sample_documents if config.sample_documents is None else config.sample_documents
    if size:
        cut = sample(load(found), size, config.sample_seed)
        sources = [{"sample_of": found.id, "documents": size, "seed": config.sample_seed}]
        found = deployment.snapshots.publish(cut, sources)
    context.log.info(f"Snapshot {found.id} at {found.url}")
    return found


@op(out=Out(ValidSnapshot))
def validate(snapshot: SnapshotRef) -> SnapshotRef:
    """Read the snapshot's tables; the output's type is the check, and its findings show in the UI."""
    return snapshot


def save_candidate(
    context: OpExecutionContext,
    deployment: DeploymentResource,
    family: str,
    snapshot: SnapshotRef,
    trained: Trained[Any],
    parameters: dict[str, Any],
    learned_from: dict[str, str] | None = None,
    inputs: dict[str, Any] | None = None,
) -> Candidate:
    """Write a trained model and its hits into the run's candidate folder; the last step of every family's `train`."""
    url = deployment.staging.candidate_url(family, context.run_id)
    with storage.written_folder(url) as folder:
        trained.model.save(folder)
        (folder / "hits").mkdir()
        for split in SPLITS:
            trained.hits[split].write_parquet(folder / "hits" / f"{split}.parquet")
    context.log.info(f"Chose {trained.hyperparameters}")
    return Candidate(
        family=family,
        url=url,
        snapshot=snapshot,
        parameters=parameters,
        hyperparameters=trained.hyperparameters,
        learned_from=learned_from or {},
        inputs=inputs or {},
    )


Answer = Callable[[Path, Snapshot, Candidate, DeploymentResource], pl.DataFrame]
"""A family's saved model (in a folder) answers the snapshot's test queries as the candidate's did: a `hits` table."""


def searching(load_model: Callable[[Path], Searcher]) -> Answer:
    """The `Answer` of a search family, given the `load` of its model."""
    return lambda folder, snapshot, candidate, deployment: answer_queries(load_model(folder), snapshot.queries("test"))


def evaluate_op(answer: Answer) -> OpDefinition:
    """The `evaluate` op of a family; `answer` makes the accepted release answer the same test queries."""

    @op(name="evaluate")
    def evaluate(context: OpExecutionContext, deployment: DeploymentResource, candidate: Candidate) -> Evaluated:
        """Measure the candidate on the test queries, and the accepted release on the same ones."""
        snapshot = load(candidate.snapshot)
        hits = tables.read(storage.join(candidate.url, "hits", "test.parquet"))
        measured, metrics = measure(hits, snapshot, "test")
        tables.write(storage.join(candidate.url, "evaluation", "challenger.parquet"), measured)
        champion = deployment.staging.accepted(candidate.family)
        if champion:
            release = deployment.staging.fetch(candidate.family, champion)
            theirs = per_query(answer(release, snapshot, candidate, deployment), snapshot.qrels("test"))
            tables.write(storage.join(candidate.url, "evaluation", "champion.parquet"), theirs)
        context.add_output_metadata({"metrics": MetadataValue.md(table(metrics)), **plotted(metrics)})
        return Evaluated(candidate=candidate, metrics=metrics, champion=champion)

    return evaluate


class GateConfig(Config):
    """The bounds of the gate (shared_ops.gating.GatePolicy); unset fields keep its defaults."""

    floor: float | None = Field(default=None, description="mean nDCG@10 that a first release must reach")
    margin: float | None = Field(default=None, description="the loss in nDCG@10 that must be ruled out")
    alpha: float | None = Field(default=None, description="chance at which such a loss is let through")
    slice_bound: float | None = Field(default=None, description="the mean loss at which a slice rejects")


@op
def gate(
    context: OpExecutionContext, config: GateConfig, deployment: DeploymentResource, evaluated: Evaluated
) -> Judged:
    """Judge the challenger against the accepted release on the same queries; the verdict is logged either way."""
    candidate = evaluated.candidate
    policy = gating.GatePolicy(**{name: value for name, value in config.model_dump().items() if value is not None})
    challenger = tables.read(storage.join(candidate.url, "evaluation", "challenger.parquet"))
    if evaluated.champion is None:
        verdict = gating.judge_first(challenger, policy)
    else:
        champion = tables.read(storage.join(candidate.url, "evaluation", "champion.parquet"))
        members = slice_members(load(candidate.snapshot))
        verdict = gating.judge(challenger, champion, members, policy, evaluated.champion)
    context.log.info(verdict.sentence)
    context.log_event(
        AssetCheckEvaluation(  # type: ignore[arg-type] # the annotation lags behind what is accepted
            asset_key=release_key(deployment.deployment, candidate.family),
            check_name="gate",
            passed=verdict.accepted,
            severity=AssetCheckSeverity.ERROR,
            description=verdict.sentence,
            metadata=_numbers(verdict.model_dump(mode="json")),
        )
    )
    return Judged(evaluated=evaluated, verdict=verdict)


@op
def stage(context: OpExecutionContext, deployment: DeploymentResource, judged: Judged) -> Staged:
    """Publish the release with its manifest; point to it as accepted if the gate said so."""
    evaluated, candidate = judged.evaluated, judged.evaluated.candidate
    # The run's own time, not the clock's: a step that is repeated publishes the same release once.
    record = context.instance.get_run_record_by_id(context.run_id)
    assert record is not None, "a run that executes is recorded"
    created = record.create_timestamp.astimezone(UTC)
    with storage.local_folder(candidate.url) as folder:
        manifest = ReleaseManifest(
            family=candidate.family,
            version=_version(created, context.run_id),
            created_at=created,
            snapshot=candidate.snapshot,
            parameters=candidate.parameters,
            hyperparameters=candidate.hyperparameters,
            metrics=evaluated.metrics,
            gate=judged.verdict.model_dump(mode="json"),
            learned_from=candidate.learned_from,
            inputs=candidate.inputs,
            environment=environment_lock(candidate.family),
            code_version=code_version(candidate.family),
            deployment=deployment.deployment,
            run_id=context.run_id,
        )
        manifest = deployment.staging.publish(folder, manifest)
    if manifest.accepted:
        deployment.staging.accept(manifest)
    context.log.info(f"Staged {manifest.family}/{manifest.version}, accepted: {manifest.accepted}")
    return Staged(family=manifest.family, version=manifest.version, accepted=manifest.accepted)


def _version(created: datetime, run_id: str) -> str:
    """Sorts by time, and names the run."""
    return f"{created:%Y%m%d-%H%M%S}-{run_id[:8]}"


@op
def materialize(context: OpExecutionContext, deployment: DeploymentResource, staged: Staged) -> Staged:
    """Tell Dagster of an accepted release: where it is, what it is, how good. A rejected one materializes nothing."""
    manifest = deployment.staging.manifest(staged.family, staged.version)
    url = deployment.staging.release_url(staged.family, staged.version)
    described: dict[str, Any] = {
        "path": MetadataValue.path(str(storage.local_path(url) or url)),
        "version": manifest.version,
        "accepted": manifest.accepted,
        "run": MetadataValue.dagster_run(manifest.run_id),
        "snapshot": manifest.snapshot.id,
        "hyperparameters": MetadataValue.json(manifest.hyperparameters),
        "parameters": MetadataValue.json(manifest.parameters),
        "learned from": MetadataValue.json(manifest.learned_from),
        "inputs": MetadataValue.json(manifest.inputs),
        "metrics": MetadataValue.md(table(manifest.metrics)),
        "gate": " ".join(manifest.gate["reasons"]) or "accepted",
        "manifest": MetadataValue.json(manifest.model_dump(mode="json")),
        "size in bytes": sum(entry.size for entry in manifest.files),
        "files": len(manifest.files),
        **plotted(manifest.metrics),
    }
    if staged.accepted:
        key = release_key(deployment.deployment, staged.family)
        context.log_event(AssetMaterialization(asset_key=key, metadata=described))
    context.add_output_metadata(described)
    storage.remove(deployment.staging.candidate_url(staged.family, manifest.run_id))
    return staged


def plotted(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metrics as numeric metadata, one entry a measure and slice, so that Dagit plots them over time."""
    return {
        measure if name == "all" else f"{measure} {name}": float(value)
        for name, values in metrics.items()
        for measure, value in values.items()
    }


def _numbers(verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict's fields that hold something, nested ones as JSON."""
    return {
        name: MetadataValue.json(value) if isinstance(value, dict | list) else value
        for name, value in verdict.items()
        if value is not None
    }
