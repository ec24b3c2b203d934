"""What the pipeline needs of ranker: its parameters, its training, and how a saved model of it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from dagster import Config, In, OpExecutionContext, op

from repos.ranker import model
from repos.ranker.checks import FEATURES_CHECK, comparison
from repos.ranker.train import train as train_model
from shared_ops.data.feedback import HELD_BACK
from shared_ops.data.snapshots import load
from shared_ops.data.tables import Hits, hits_by_query, hits_table
from shared_ops.judge.evaluation import DEPTH
from shared_ops.judge.training import TrainingResult
from shared_ops.pipeline.checks import log_check
from shared_ops.pipeline.lineage import release_key
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


@dataclass(frozen=True)
class RankerAnswers:
    """A saved ranker and the hits that it orders: `shared_ops.judge.training.Answers`."""

    ranker: model.Ranker
    hits: dict[str, dict[str, Hits]]
    """Family to query id to hits."""

    def one(self, query_id: str, text: str) -> Hits:
        """The order of the union of the query's hits."""
        return self.ranker.rank(text, {family: hits.get(query_id, []) for family, hits in self.hits.items()})

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The best DEPTH of the order of each query."""
        rows = queries.sort("query_id").select("query_id", "text").rows()
        return hits_table([query_id for query_id, _ in rows], [self.one(*query)[:DEPTH] for query in rows])

    def rank(self, queries: pl.DataFrame, hits: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """The best DEPTH of the order of each query, of the hits given here."""
        found = {family: hits_by_query(frame) for family, frame in hits.items()}
        return RankerAnswers(self.ranker, found).many(queries)


def opened(folder: Path, inputs: Inputs) -> RankerAnswers:
    """A saved ranker with the hits that it orders: those of the releases in `inputs`, also for the newest sessions."""
    by_family = {family: hits_by_query(inputs.hits(family)) for family in inputs.releases}
    for search in inputs.asked():
        if search.fold == HELD_BACK:
            for family, hits in search.hits.items():
                by_family[family][search.query_id] = hits
    return RankerAnswers(model.load(folder), by_family)
