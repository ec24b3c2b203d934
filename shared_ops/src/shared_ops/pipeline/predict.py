"""The jobs that answer queries in bulk: `<family>_predict` by one release, and that of the live set as people are.

A release answers as in an evaluation, in its own code and environment (`judge.bulk`). What answered what is told to
Dagit as the asset `predictions`. They read prod's releases, and write nothing but the folder that is asked for.
"""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetSpec,
    Config,
    GraphDefinition,
    JobDefinition,
    MetadataValue,
    OpDefinition,
    OpExecutionContext,
    in_process_executor,
    op,
)
from pydantic import Field

from shared_ops.data import questions, storage
from shared_ops.data.questions import Columns, Questions, QuestionsError
from shared_ops.judge import bulk
from shared_ops.judge.evaluation import DEPTH
from shared_ops.judge.training import Open
from shared_ops.pipeline.jobs import job_tags
from shared_ops.pipeline.lineage import made_by, owners, predictions_key
from shared_ops.pipeline.resources import PROD, DeploymentResource
from shared_ops.release.inputs import MissingInputError
from shared_ops.release.releases import ReleaseError, Staging

POOL = "predict"
"""The pool of these runs: one at a time, so that there is room for trainings and promotions."""
PATIENT = {"dagster/priority": "-10", "dagster/max_runtime": str(7 * 86_400)}
"""Trainings and promotions that wait go first; and millions of queries take hours."""


class PredictConfig(Config):
    """Which queries are answered, how deep, and where the answers go."""

    queries: str = Field(
        default="", description="fsspec URL of a table of queries, by its ending: .parquet, .csv, .tsv or .jsonl"
    )
    sql: str = Field(default="", description="in place of `queries`: a SQL statement that gives them")
    database: str = Field(
        default="",
        description="the database that `sql` asks, as a SQLAlchemy URL; {env: NAME} takes it from the environment, and "
        "no password stands in the run's configuration",
    )
    id_column: str = Field(default="query_id", description="the column with a query's id")
    text_column: str = Field(default="text", description="the column with its text")
    out: str = Field(description="fsspec URL of the folder for the answers: hits as Parquet, and a TREC run")
    k: int = Field(default=10, ge=1, le=DEPTH, description=f"hits a query, {DEPTH} at most: as deep as models search")
    part: int = Field(default=bulk.PART, ge=1, description="queries that are answered together: memory grows with it")

    def read(self, scratch: Path) -> Questions:
        """The queries, copied into the folder `scratch`.

        Raises:
            QuestionsError: when they cannot be read, or the configuration names none or two.
        """
        columns = Columns(self.id_column, self.text_column)
        if bool(self.queries) == bool(self.sql) or bool(self.sql) != bool(self.database):
            raise QuestionsError("Expected either `queries`, a file's URL, or `sql` with its `database`.")
        if self.sql:
            return questions.of_statement(self.database, self.sql, columns, scratch)
        return questions.of_file(self.queries, columns, scratch)


class PredictReleaseConfig(PredictConfig):
    """Which queries a release answers, how deep, and where the answers go."""

    version: str = Field(default="", description="the release; empty takes the live one, else the accepted one")


class PredictSetConfig(PredictConfig):
    """Which queries a set answers, how deep, and where the answers go."""

    set_number: int = Field(
        default=0, ge=0, description="the number of a set that is or was live; 0 takes the live one"
    )


@dataclass(frozen=True)
class _Asked:
    """What is to answer."""

    tag: str
    """Its name in the TREC run."""
    said: Mapping[str, Any]
    """What answers, as it is told."""
    opened: AbstractContextManager[bulk.Answering]


def predict_job(family: str, open_model: Open) -> JobDefinition:
    """The job `<family>_predict`; `open_model` opens a release of this code in the run's own process."""

    @op(name="predict", pool=POOL)
    def predict(context: OpExecutionContext, config: PredictReleaseConfig, deployment: DeploymentResource) -> None:
        """Answer a table of queries by one release, in parts: hits as Parquet, and a TREC run."""
        staging, version = _release(deployment, family, config.version)
        opened = bulk.opened(staging, family, version, upstream=deployment.input_staging, open_model=open_model)
        asked = _Asked(f"{family}-{version}", {"release": f"{family}/{version}"}, opened)
        _predict(context, config, deployment, family, asked)

    return _job(family, predict, f"Answers a table of queries by a release of {family}.")


def predict_set_job(repository: str) -> JobDefinition:
    """The job `<repository>_predict`, of the repository that moves the live set: answers as people get them."""

    @op(name="predict", pool=POOL)
    def predict(context: OpExecutionContext, config: PredictSetConfig, deployment: DeploymentResource) -> None:
        """Answer a table of queries by a whole set, as the search app does: hits as Parquet, and a TREC run."""
        sets = deployment.live_sets
        chosen = sets.past(config.set_number) if config.set_number else sets.live()
        if chosen is None:
            missing = f"set {config.set_number}" if config.set_number else "live set"
            raise MissingInputError(f"There is no {missing} in {sets.url}; those that are kept: {sets.numbers()}.")
        searches = {family: chosen.releases[family] for family in chosen.search_families}
        version = chosen.releases[chosen.ranker]
        opened = bulk.opened(deployment.staging, chosen.ranker, version, releases=searches, snapshot=chosen.snapshot)
        said = {"set": chosen.number, "releases": chosen.releases, "snapshot": chosen.snapshot.id}
        _predict(context, config, deployment, repository, _Asked(f"set-{chosen.number}", said, opened))

    return _job(repository, predict, "Answers a table of queries by a whole set, as people are answered.")


def predictions_spec(name: str, answering: AssetKey) -> AssetSpec:
    """The asset that `<name>_predict` makes, from the asset that answers: in prod alone, as the job."""
    return AssetSpec(
        predictions_key("prod", name),
        deps=[answering],
        description=f"The newest answers in bulk by {name}: which release or set answered which queries, and where.",
        owners=owners(name),
        group_name="prod",
        metadata=made_by(name, f"{name}_predict"),
    )


def _release(deployment: DeploymentResource, family: str, version: str) -> tuple[Staging, str]:
    """The area and the version of a family's release: the one that is named, else the live one, else the accepted one.

    The deployment's own come first, then those that it learns from.

    Raises:
        ReleaseError: when there is none.
    """
    live, areas = deployment.live_sets.live(), (deployment.staging, deployment.input_staging)
    wanted = version or (live.releases.get(family, "") if live else "")
    for area in areas:
        if wanted in area.versions(family) or (not wanted and area.accepted(family)):
            return area, wanted or str(area.accepted(family))
    if wanted:
        raise ReleaseError(
            f"Release {family}/{wanted} is not in {areas[0].url}: make lineage names those that are live."
        )
    raise ReleaseError(f"{family} has no accepted release yet. Train one: make train REPO={family}.")


def _predict(
    context: OpExecutionContext, config: PredictConfig, deployment: DeploymentResource, name: str, asked: _Asked
) -> None:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        found = config.read(Path(scratch))
        bulk.claim(config.out)
        answers = stack.enter_context(asked.opened)  # last: what takes minutes is done for what can be answered
        given = config.queries or config.sql
        context.log.info(f"{found.count:,} queries of {given}, answered by {asked.tag}")
        by = {"tag": asked.tag, **asked.said, "queries_from": given, "run": context.run_id}
        answered = bulk.answer(found, answers, config.out, config.k, by, context.log.info, config.part)
    path = storage.local_path(answered.url)
    metadata: dict[str, Any] = {
        "path": MetadataValue.path(str(path or answered.url)),
        "answered by": MetadataValue.json(dict(asked.said)),
        "queries from": given,
        "queries": answered.queries,
        "queries without hits": answered.without_hits,
        "hits": answered.hits,
        "k": config.k,
        "queries a second": round(answered.queries / answered.seconds, 1),
    }
    key = predictions_key(deployment.deployment, name)
    context.log_event(AssetMaterialization(asset_key=key, metadata=metadata))
    context.log.info(f"{answered.hits:,} hits of {answered.queries:,} queries in {path or answered.url}")


def _job(repository: str, predict: OpDefinition, description: str) -> JobDefinition:
    graph = GraphDefinition(name=f"{repository}_predict", node_defs=[predict])
    return graph.to_job(
        name=graph.name,
        description=description,
        resource_defs={"deployment": PROD},
        executor_def=in_process_executor,
        tags={**job_tags(repository, "prod"), **PATIENT},
    )
