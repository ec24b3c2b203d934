"""What the pipeline needs of behavior: its parameters, its training, and how a saved model of it answers."""

from collections.abc import Callable

import polars as pl
from dagster import Config
from pydantic import Field

from repos.behavior import model, simulation
from repos.behavior.train import train as train_model
from shared_ops.data.snapshots import load
from shared_ops.judge.training import TrainingResult
from shared_ops.pipeline.ops import search_opener
from shared_ops.release.inputs import Inputs

BOOTSTRAP = "bootstrap (simulated)"
"""The origin of simulated clicks, which stand in for people's."""


class BootstrapConfig(simulation.SimulationParameters, Config):
    """The simulated users, as they can be edited in the launchpad."""


class TrainConfig(model.Parameters, Config):
    """The parameters of the model, as they can be edited in the launchpad."""

    with_bootstrap: bool = Field(default=True, description="learn simulated clicks too, over the training judgements")
    bootstrap: BootstrapConfig = BootstrapConfig()


def fit(inputs: Inputs, parameters: TrainConfig, log: Callable[[str], None]) -> TrainingResult[model.BehaviorModel]:
    """Learn which documents were clicked for which queries; choose parameters on the dev queries.

    Equal inputs and parameters give equal weights.
    """
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


opened = search_opener(model.load)
