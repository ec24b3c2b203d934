"""What the pipeline needs of keyword: its parameters, its training, and how a saved model of it answers."""

from collections.abc import Callable

from dagster import Config

from repos.keyword import model
from shared_ops.data.snapshots import load
from shared_ops.judge.training import TrainingResult
from shared_ops.pipeline.ops import search_opener
from shared_ops.release.inputs import Inputs


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""


def fit(inputs: Inputs, parameters: TrainConfig, log: Callable[[str], None]) -> TrainingResult[model.KeywordModel]:
    """Index the snapshot's documents; choose tokenizer and parameters on its dev queries.

    Equal inputs and parameters give equal weights.
    """
    content = load(inputs.snapshot)
    return model.train(content.documents(), content.queries(), content.qrels(), parameters, log=log)


opened = search_opener(model.load)
