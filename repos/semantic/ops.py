"""The ops of semantic: `train.train` under @op, beside those that every family shares."""

from dagster import Config, In, OpExecutionContext, Out, op

from repos.semantic import model
from repos.semantic.train import train as train_model
from shared_ops.ops import evaluate_op, save_candidate, searching
from shared_ops.references import Candidate
from shared_ops.resources import DeploymentResource
from shared_ops.settings import Settings
from shared_ops.snapshots import SnapshotRef, load
from shared_ops.types import ValidCandidate, ValidSnapshot


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


@op(out=Out(ValidCandidate), ins={"snapshot": In(ValidSnapshot)}, pool="semantic")
def train(
    context: OpExecutionContext, config: TrainConfig, deployment: DeploymentResource, snapshot: SnapshotRef
) -> Candidate:
    """Encode the snapshot's documents, those whose text is new; learn a head on its train queries."""
    content = load(snapshot)
    trained = train_model(
        content.documents(),
        content.queries(),
        content.qrels(),
        config,
        cache=Settings().home / "cache" / "semantic",
        log=context.log.info,
    )
    return save_candidate(context, deployment, "semantic", snapshot, trained, config.model_dump())


evaluate = evaluate_op(searching(model.load))
