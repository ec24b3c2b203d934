"""What the pipeline needs of ranker: its parameters, its training, and how a saved model of it answers."""

from collections.abc import Callable

from dagster import Config, In, OpExecutionContext, op

from repos.ranker import model
from repos.ranker.checks import FEATURES_CHECK, comparison
from repos.ranker.train import train as train_model
from shared_ops.data.snapshots import load
from shared_ops.judge.training import TrainingResult
from shared_ops.pipeline.checks import log_check
from shared_ops.pipeline.lineage import release_key
from shared_ops.pipeline.ops import rank_opener
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidInputs
from shared_ops.release.inputs import Inputs


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


def fit(inputs: Inputs, parameters: TrainConfig, log: Callable[[str], None]) -> TrainingResult[model.Ranker]:
    """Learn to order the union of the search models' hits, from judgements and from clicks.

    Equal inputs and parameters give equal weights.
    """
    content, feedback = load(inputs.snapshot), inputs.clicked()
    return train_model(
        content.documents(),
        content.queries(),
        content.qrels(),
        {family: inputs.hits(family) for family in inputs.releases},
        parameters,
        log,
        judged=feedback.judged() if feedback else None,
        asked=inputs.asked(),
    )


@op(ins={"inputs": In(ValidInputs)})
def check_features(context: OpExecutionContext, deployment: DeploymentResource, inputs: Inputs) -> None:
    """Compare the features that were served with what training computes for the same requests; they must be equal."""
    feedback = inputs.clicked()
    if feedback is None:
        context.log.info("There is no feedback yet, so no served features to compare with.")
        return
    passed, description, metadata = comparison(feedback.requests(), inputs.staging)
    (context.log.info if passed else context.log.error)(description)
    log_check(
        context,
        release_key(deployment.deployment, inputs.family),
        FEATURES_CHECK,
        passed=passed,
        description=description,
        metadata=metadata,
    )


opened = rank_opener(model.load)
