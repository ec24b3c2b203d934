"""The ops of behavior: `train.train` under @op, beside those that every family shares."""

from collections.abc import Callable

import polars as pl
from dagster import Config, In, OpExecutionContext, Out, op
from pydantic import Field

from repos.behavior import model, simulation
from repos.behavior.train import train as train_model
from shared_ops.data.snapshots import load
from shared_ops.judge.training import Trained
from shared_ops.pipeline.ops import evaluate_op, load_inputs_op, save_candidate, searching
from shared_ops.pipeline.references import Candidate
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidCandidate, ValidInputs
from shared_ops.release.inputs import Inputs

BOOTSTRAP = "bootstrap (simulated)"
"""What the clicks are called that were made up for want of people's."""


class BootstrapConfig(simulation.SimulationParameters, Config):
    """The simulated users, as they can be edited in the launchpad."""


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""

    with_bootstrap: bool = Field(default=True, description="learn simulated clicks too, over the training judgements")
    bootstrap: BootstrapConfig = BootstrapConfig()


def fit(inputs: Inputs, parameters: TrainConfig, log: Callable[[str], None]) -> Trained[model.BehaviorModel]:
    """What these inputs and parameters make: the same on every call."""
    content = load(inputs.snapshot)
    documents, queries, qrels = content.documents(), content.queries(), content.qrels()
    clicks: dict[str, pl.DataFrame] = {}
    if parameters.with_bootstrap:
        clicks[BOOTSTRAP] = simulation.simulate_clicks(documents, queries, qrels, parameters.bootstrap)
    if feedback := inputs.clicked():
        clicks["feedback"] = feedback.clicks()
        applications = feedback.manifest().applications
        log(f"Feedback {feedback.ref.id}: " + ", ".join(f"{n.clicks} clicks of {a}" for a, n in applications.items()))
    for name, frame in clicks.items():
        log(f"{name}: {frame['clicks'].sum()} clicks in {frame['impressions'].sum()} impressions")
    asked = feedback.asked() if feedback else None
    return train_model(documents, queries, qrels, clicks, parameters, log, asked=asked)


@op(out=Out(ValidCandidate), ins={"inputs": In(ValidInputs)}, pool="behavior")
def train(
    context: OpExecutionContext, config: TrainConfig, deployment: DeploymentResource, inputs: Inputs
) -> Candidate:
    """Learn which documents were clicked for which queries; choose parameters on the dev queries."""
    return save_candidate(context, deployment, inputs, fit(inputs, config, context.log.info), config.model_dump())


load_inputs = load_inputs_op("behavior")
opened = searching(model.load)
evaluate = evaluate_op(opened)
