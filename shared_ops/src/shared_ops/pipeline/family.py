"""A model family's part of Dagster: its graph, its jobs and what its code server loads, made of what its folder names.

    load_inputs → validate → train → evaluate → gate → stage → materialize

A family's `ops.py` names three things: `TrainConfig`, `fit` and `opened`. They are also what its kept code is asked by
(`shared_ops.answering`, `shared_ops.reproduce`), so their names may never change.
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

from shared_ops.judge.training import Open, Trained
from shared_ops.pipeline.checks import release_checks
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.lineage import release_specs
from shared_ops.pipeline.ops import evaluate_op, gate, load_inputs_op, materialize, save_candidate, stage, validate
from shared_ops.pipeline.references import Candidate
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.triggers import daily_schedule, retrain_sensor
from shared_ops.pipeline.types import ValidCandidate, ValidInputs
from shared_ops.release.inputs import Inputs
from shared_ops.settings import repositories, repository_of, search_families

Fit = Callable[[Inputs, Any, Callable[[str], None]], Trained[Any]]
SEARCH_HOUR, RANK_HOUR = 3, 4
"""Of the nightly training, UTC: a ranker's is later than those of the families whose hits it learns from."""


class FamilyOps(Protocol):
    """The module `repos.<family>.ops`."""

    @property
    def TrainConfig(self) -> type[Config]:  # noqa: N802
        """The parameters of the model, as they can be edited in the launchpad."""

    @property
    def fit(self) -> Fit:
        """What inputs and parameters make, the same on every call; its docstring is what Dagit says of `train`."""

    @property
    def opened(self) -> Open:
        """Makes a saved model answer."""


def family_definitions(
    module: str,
    ops: FamilyOps,
    kinds: Sequence[str],
    *,
    beside: OpDefinition | None = None,
    asset_checks: Sequence[AssetChecksDefinition] = (),
) -> Definitions:
    """What the code server of a family loads. `module` is the calling module's name, `repos.<family>.definitions`.

    `beside` is an op of the family's own that looks at the inputs beside its training.
    """
    family = repository_of(module)
    dev, prod = family_jobs(family_graph(family, ops, beside))
    ranks = repositories()[family].role == "rank"
    return Definitions(
        jobs=[dev, prod],
        assets=release_specs(family, kinds=kinds, deps=search_families() if ranks else ()),
        asset_checks=[*release_checks(family), *asset_checks],
        sensors=[retrain_sensor(family, prod)],
        schedules=[daily_schedule(family, prod, hour=RANK_HOUR if ranks else SEARCH_HOUR)],
    )


def family_graph(family: str, ops: FamilyOps, beside: OpDefinition | None = None) -> GraphDefinition:
    """The graph of a family: from the newest data to a release in the staging area."""
    load_inputs, train, evaluate = load_inputs_op(family), train_op(family, ops), evaluate_op(ops.opened)

    @graph(name=family, description="From the newest data to a release in the staging area.")
    def training() -> None:
        inputs = validate(load_inputs())
        if beside:
            beside(inputs)
        materialize(stage(gate(evaluate(train(inputs)))))

    return training


def train_op(family: str, ops: FamilyOps) -> OpDefinition:
    """The `train` op of a family: its `fit`, and what that made in the run's candidate folder. One at a time trains."""
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
