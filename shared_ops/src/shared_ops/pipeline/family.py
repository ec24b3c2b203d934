"""A model family's part of Dagster: its graph, its jobs and what its code server loads.

    load_inputs → validate → train → evaluate → gate → stage → materialize
    predict, in a job of its own (shared_ops.pipeline.predict)

All are made from three things in the family's `ops.py`: `TrainConfig`, `fit` and `opened`. The family's kept code is
called by these names too (`shared_ops.answering`, `shared_ops.reproduce`), so they may never change.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from dagster import (
    AssetChecksDefinition,
    Config,
    Definitions,
    GraphDefinition,
    In,
    OpDefinition,
    OpExecutionContext,
    Out,
    graph,
    op,
)

from shared_ops.judge.training import Open, TrainingResult
from shared_ops.pipeline.checks import release_checks
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.lineage import release_key, release_specs
from shared_ops.pipeline.ops import evaluate_op, gate, load_inputs_op, materialize, save_candidate, stage, validate
from shared_ops.pipeline.predict import predict_job, predictions_spec
from shared_ops.pipeline.references import Candidate
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.triggers import daily_schedule, retrain_sensor
from shared_ops.pipeline.types import ValidCandidate, ValidInputs
from shared_ops.release.inputs import Inputs
from shared_ops.settings import repositories, repository_of, search_families

Fit = Callable[[Inputs, Any, Callable[[str], None]], TrainingResult[Any]]
SEARCH_HOURS, RANK_HOURS = 1, 2
"""How long after the night begins a family trains: a ranker after the families whose hits it learns from."""
DESCRIPTION = (
    "From the newest data to a release in the staging area. A part of it is launched from its start on, as an op "
    "takes what the one before has made: `*train` runs all up to train; `train, evaluate` alone would lack their input."
)
"""What Dagit says of the graph, and so of the jobs that the launchpad launches."""


class FamilyOps(Protocol):
    """The module `repos.<family>.ops`."""

    @property
    def TrainConfig(self) -> type[Config]:  # noqa: N802
        """The parameters of the training, which can be edited in the launchpad."""

    @property
    def fit(self) -> Fit:
        """Trains, with the same result for the same inputs and parameters; Dagit shows its docstring for `train`."""

    @property
    def opened(self) -> Open:
        """Opens a saved model, to answer queries."""


def family_definitions(
    module: str,
    ops: FamilyOps,
    *,
    beside: OpDefinition | None = None,
    asset_checks: Sequence[AssetChecksDefinition] = (),
) -> Definitions:
    """What the code server of a family loads.

    Args:
        module: the calling module's name, `repos.<family>.definitions`.
        ops: the family's `ops.py`.
        beside: an op of the family's own that looks at the inputs beside its training.
        asset_checks: checks of the family's own, beside those that every family has.
    """
    family = repository_of(module)
    dev, prod = family_jobs(family_graph(family, ops, beside))
    repository = repositories()[family]
    ranks = repository.role == "rank"
    return Definitions(
        jobs=[dev, prod, predict_job(family, ops.opened)],
        assets=[
            *release_specs(family, kinds=[repository.kind], deps=search_families() if ranks else ()),
            predictions_spec(family, release_key("prod", family)),
        ],
        asset_checks=[*release_checks(family), *asset_checks],
        sensors=[retrain_sensor(family, prod)],
        schedules=[daily_schedule(family, prod, hours=RANK_HOURS if ranks else SEARCH_HOURS)],
    )


def family_graph(family: str, ops: FamilyOps, beside: OpDefinition | None = None) -> GraphDefinition:
    """The graph of a family: from the newest data to a release in the staging area."""
    load_inputs, train, evaluate = load_inputs_op(family), train_op(family, ops), evaluate_op(ops.opened)

    @graph(name=family, description=DESCRIPTION)
    def training() -> None:
        inputs = validate(load_inputs())
        if beside:
            beside(inputs)
        materialize(stage(gate(evaluate(train(inputs)))))

    return training


def train_op(family: str, ops: FamilyOps) -> OpDefinition:
    """The `train` op of a family: runs its `fit`, and saves the result in the run's candidate folder; one at a time."""
    config_type = ops.TrainConfig

    @op(
        name="train",
        description=inspect.getdoc(ops.fit),
        out=Out(ValidCandidate),
        ins={"inputs": In(ValidInputs)},
        pool=family,
    )
    def train(
        context: OpExecutionContext,
        config: config_type,  # type: ignore[valid-type] # Dagster reads the annotation when the op is made
        deployment: DeploymentResource,
        inputs: Inputs,
    ) -> Candidate:
        trained = ops.fit(inputs, config, context.log.info)
        return save_candidate(context, deployment, inputs, trained, config.model_dump())  # type: ignore[attr-defined]

    return train
