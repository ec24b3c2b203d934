"""The ops of semantic: `train.train` under @op, beside those that every family shares."""

from collections.abc import Callable

from dagster import Config, In, OpExecutionContext, Out, op

from repos.semantic import model
from repos.semantic.train import train as train_model
from shared_ops.data.snapshots import load
from shared_ops.judge.training import Trained
from shared_ops.pipeline.ops import evaluate_op, load_inputs_op, save_candidate, searching
from shared_ops.pipeline.references import Candidate
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidCandidate, ValidInputs
from shared_ops.release.inputs import Inputs
from shared_ops.settings import current


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


def fit(inputs: Inputs, parameters: TrainConfig, log: Callable[[str], None]) -> Trained[model.SemanticModel]:
    """What these inputs and parameters make: the same on every call."""
    content = load(inputs.snapshot)
    cache = current().home / "cache" / "semantic"
    return train_model(content.documents(), content.queries(), content.qrels(), parameters, cache=cache, log=log)


@op(out=Out(ValidCandidate), ins={"inputs": In(ValidInputs)}, pool="semantic")
def train(
    context: OpExecutionContext, config: TrainConfig, deployment: DeploymentResource, inputs: Inputs
) -> Candidate:
    """Encode the snapshot's documents, those whose text is new; learn a head on its train queries."""
    return save_candidate(context, deployment, inputs, fit(inputs, config, context.log.info), config.model_dump())


load_inputs = load_inputs_op("semantic")
opened = searching(model.load)
evaluate = evaluate_op(opened)
