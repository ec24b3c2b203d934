"""The ops of ranker: the hits to learn from, and `train.train` under @op, beside those that every family shares."""

from pathlib import Path

import polars as pl
from dagster import Config, In, OpExecutionContext, Out, op
from pydantic import Field

from repos.ranker import model
from repos.ranker.train import train as train_model
from shared_ops.evaluation import DEPTH
from shared_ops.ops import evaluate_op, save_candidate
from shared_ops.references import Candidate, Upstream
from shared_ops.releases import ReleaseError
from shared_ops.resources import DeploymentResource
from shared_ops.settings import search_families
from shared_ops.snapshots import Snapshot, SnapshotRef, load
from shared_ops.tables import hits_by_query, hits_table
from shared_ops.types import ValidCandidate, ValidSnapshot, ValidUpstream


class LoadHitsConfig(Config):
    """Which releases to learn from."""

    releases: dict[str, str] = Field(
        default={}, description="family to version; a family that is not named gives its accepted release"
    )


@op(out=Out(ValidUpstream), ins={"snapshot": In(ValidSnapshot)})
def load_hits(
    context: OpExecutionContext, config: LoadHitsConfig, deployment: DeploymentResource, snapshot: SnapshotRef
) -> Upstream:
    """Find the search models' releases; their hits for train queries are out of fold."""
    staging, releases = deployment.input_staging, {}
    for family in search_families():
        version = config.releases.get(family) or staging.accepted(family)
        if version is None:
            raise ReleaseError(f"{family} has no accepted release in {staging.url}. Run make train REPO={family}.")
        releases[family] = version
    context.log.info(f"Learning from {releases}")
    return Upstream(snapshot=snapshot, releases=releases, staging=staging.url)


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


@op(out=Out(ValidCandidate), ins={"upstream": In(ValidUpstream)}, pool="ranker")
def train(
    context: OpExecutionContext, config: TrainConfig, deployment: DeploymentResource, upstream: Upstream
) -> Candidate:
    """Learn to order the union of the search models' hits."""
    content = load(upstream.snapshot)
    hits = {family: upstream.hits(family) for family in upstream.releases}
    trained = train_model(content.documents(), content.queries(), content.qrels(), hits, config, log=context.log.info)
    return save_candidate(
        context,
        deployment,
        "ranker",
        upstream.snapshot,
        trained,
        config.model_dump(),
        learned_from=upstream.releases,
    )


def answer(folder: Path, snapshot: Snapshot, candidate: Candidate, deployment: DeploymentResource) -> pl.DataFrame:
    """The order that a saved ranker gives to the hits that the candidate was given: the test queries' `hits` table."""
    upstream = Upstream(snapshot=snapshot.ref, releases=candidate.learned_from, staging=deployment.input_staging.url)
    queries = snapshot.queries("test").sort("query_id")
    found = {family: hits_by_query(upstream.hits(family)) for family in upstream.releases}
    ids = queries["query_id"].to_list()
    unions = [{family: hits.get(query_id, []) for family, hits in found.items()} for query_id in ids]
    ordered = model.load(folder).rank_many(queries["text"].to_list(), unions)
    return hits_table(ids, [hits[:DEPTH] for hits in ordered])


evaluate = evaluate_op(answer)
