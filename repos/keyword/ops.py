"""The ops of keyword: `model.train` under @op, beside those that every family shares."""

from collections.abc import Callable

from dagster import Config, In, OpExecutionContext, Out, op

from repos.keyword import model
from shared_ops.data.snapshots import load
from shared_ops.judge.training import Trained
from shared_ops.pipeline.ops import evaluate_op, load_inputs_op, save_candidate, searching
from shared_ops.pipeline.references import Candidate
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidCandidate, ValidInputs
from shared_ops.release.inputs import Inputs


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


def fit(inputs: Inputs, parameters: TrainConfig, log: Callable[[str], None]) -> Trained[model.KeywordModel]:
    """What these inputs and parameters make: the same on every call."""
    content = load(inputs.snapshot)
    return model.train(content.documents(), content.queries(), content.qrels(), parameters, log=log)


@op(out=Out(ValidCandidate), ins={"inputs": In(ValidInputs)}, pool="keyword")
def train(
    context: OpExecutionContext, config: TrainConfig, deployment: DeploymentResource, inputs: Inputs
) -> Candidate:
    """Index the snapshot's documents; choose tokenizer and parameters on its dev queries."""
    return save_candidate(context, deployment, inputs, fit(inputs, config, context.log.info), config.model_dump())


load_inputs = load_inputs_op("keyword")
opened = searching(model.load)
evaluate = evaluate_op(opened)
