"""The ops of behavior: its clicks, and `train.train` under @op, beside those that every family shares."""

from dagster import Config, In, OpExecutionContext, Out, op

from repos.behavior import model, simulation
from repos.behavior.train import train as train_model
from shared_ops.clicks import ClicksRef, publish
from shared_ops.ops import evaluate_op, save_candidate, searching
from shared_ops.references import Candidate
from shared_ops.resources import DeploymentResource
from shared_ops.snapshots import SnapshotRef, load
from shared_ops.types import ValidCandidate, ValidClicks, ValidSnapshot


class SimulateConfig(simulation.SimulationParameters, Config):
    """The simulated users, as they can be edited in the launchpad."""


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


@op(out=Out(ValidClicks), ins={"snapshot": In(ValidSnapshot)})
def load_clicks(
    context: OpExecutionContext, config: SimulateConfig, deployment: DeploymentResource, snapshot: SnapshotRef
) -> ClicksRef:
    """The clicks to learn from: simulated over the training queries' judgements, and marked so."""
    content = load(snapshot)
    frame = simulation.simulate_clicks(content.documents(), content.queries(), content.qrels(), config)
    clicks = publish(deployment.clicks_url, frame, simulation.APPLICATION)
    context.log.info(f"Clicks {clicks.id}: {len(frame)} rows, SIMULATED")
    return clicks


@op(out=Out(ValidCandidate), ins={"snapshot": In(ValidSnapshot), "clicks": In(ValidClicks)}, pool="behavior")
def train(
    context: OpExecutionContext,
    config: TrainConfig,
    deployment: DeploymentResource,
    snapshot: SnapshotRef,
    clicks: ClicksRef,
) -> Candidate:
    """Learn which documents were clicked for which queries; choose parameters on the dev queries."""
    content = load(snapshot)
    trained = train_model(
        content.documents(),
        content.queries(),
        content.qrels(),
        clicks.read(),
        config,
        clicks_application=clicks.application,
        log=context.log.info,
    )
    inputs = {"clicks": clicks.model_dump()}
    return save_candidate(context, deployment, "behavior", snapshot, trained, config.model_dump(), inputs=inputs)


evaluate = evaluate_op(searching(model.load))
