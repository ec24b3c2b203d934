"""What the pipeline needs of semantic: its parameters, its training, and how a saved model of it answers."""

from collections.abc import Callable

from dagster import Config

from repos.semantic import model
from repos.semantic.train import train as train_model
from shared_ops.data.snapshots import load
from shared_ops.judge.training import TrainingResult
from shared_ops.pipeline.ops import search_opener
from shared_ops.release.inputs import Inputs
from shared_ops.settings import current


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


def fit(inputs: Inputs, parameters: TrainConfig, log: Callable[[str], None]) -> TrainingResult[model.SemanticModel]:
    """Encode those of the snapshot's documents that are not in the cache; learn from its train queries.

    Equal inputs and parameters give equal weights.
    """
    content = load(inputs.snapshot)
    cache = current().home / "cache" / inputs.family
    return train_model(content.documents(), content.queries(), content.qrels(), parameters, cache=cache, log=log)


opened = search_opener(model.load)
