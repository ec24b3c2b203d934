"""Dagster types whose checks read the data: a bad input stops the run before any training.

A check reports what it found, counts and failing rows, to the UI.
"""

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl
from dagster import DagsterType, MetadataValue, TypeCheck, TypeCheckContext

from shared_ops.data import storage, tables
from shared_ops.data.feedback import TABLES as FEEDBACK_TABLES
from shared_ops.data.feedback import Feedback, FeedbackRef
from shared_ops.data.published import PublishedError, checked_once
from shared_ops.data.snapshots import TABLES, Snapshot, SnapshotRef, load
from shared_ops.data.tables import TableError
from shared_ops.data.text import SPLITS
from shared_ops.data.ubi import SIMULATED, SIMULATION
from shared_ops.pipeline.references import Candidate
from shared_ops.release.inputs import Inputs
from shared_ops.release.releases import Staging

MAX_ROWS_SHOWN = 20


@checked_once(lambda ref: [ref.url])
def check_snapshot(ref: SnapshotRef) -> TypeCheck:
    """Whether a snapshot is whole, and its tables hold to their schemas and refer to each other's rows."""
    snapshot = Snapshot(ref)
    try:
        manifest = snapshot.manifest()
        result = check_content(snapshot)
    except PublishedError as error:
        return TypeCheck(False, str(error))
    metadata: dict[str, Any] = {"snapshot": ref.id, **result.metadata, "sources": MetadataValue.json(manifest.sources)}
    return TypeCheck(result.success, result.description, metadata=metadata)


def check_content(snapshot: Snapshot) -> TypeCheck:
    """Whether the tables of a snapshot, or of the draft of one, hold to their schemas and to each other.

    Raises:
        PublishedError: when a table is missing.
    """
    try:
        content = {name: tables.check(name, getattr(snapshot, name)()) for name in TABLES}
    except TableError as error:
        return TypeCheck(False, str(error), metadata={"failing rows": _rows(error.failures)})
    problems, failing = _dangling(content)
    splits = content["queries"]["split"]
    metadata: dict[str, Any] = {
        **{name: len(frame) for name, frame in content.items()},
        **{f"{split} queries": (splits == split).sum() for split in SPLITS},
    }
    if not len(content["documents"]):
        problems.append("The snapshot holds no document; look at its sources.")
    if problems:
        metadata["failing rows"] = _rows(failing)
    return TypeCheck(not problems, " ".join(problems) or "Every table holds to its schema.", metadata=metadata)


def _dangling(content: dict[str, pl.DataFrame]) -> tuple[list[str], pl.DataFrame]:
    """Judgements whose query or document is not there."""
    qrels = content["qrels"]
    without_query = qrels.join(content["queries"], on="query_id", how="anti")
    without_document = qrels.join(content["documents"], on="doc_id", how="anti")
    problems = []
    if len(without_query):
        problems.append(f"{len(without_query)} judgements name a query that the snapshot does not hold.")
    if len(without_document):
        problems.append(f"{len(without_document)} judgements name a document that the snapshot does not hold.")
    return problems, pl.concat([without_query, without_document])


def check_candidate(candidate: Candidate) -> TypeCheck:
    """Whether a trained model's hits are an order of known documents for known queries."""
    snapshot = load(candidate.inputs.snapshot)
    documents, metadata = snapshot.documents().select("doc_id"), {}
    for split in SPLITS:
        try:
            hits = tables.check("hits", tables.read(storage.join(candidate.url, "hits", f"{split}.parquet")))
        except TableError as error:
            return TypeCheck(
                False, f"Hits of the {split} queries: {error}", metadata={"failing rows": _rows(error.failures)}
            )
        unknown = hits.join(documents, on="doc_id", how="anti")
        foreign = hits.join(snapshot.queries(split), on="query_id", how="anti")
        if len(unknown) or len(foreign):
            return TypeCheck(
                False,
                f"Hits of the {split} queries: {len(unknown)} name a document that the snapshot does not hold, "
                f"{len(foreign)} answer a query of another split.",
                metadata={"failing rows": _rows(pl.concat([unknown, foreign]))},
            )
        metadata[f"{split} queries answered"] = hits["query_id"].n_unique()
    return TypeCheck(True, "Scores are finite, documents and queries are known.", metadata=metadata)


@checked_once(lambda ref: [ref.url])
def check_feedback(ref: FeedbackRef) -> TypeCheck:
    """Whether the tables of feedback hold to their schemas and to each other, and the propensities are chances."""
    try:
        feedback = Feedback(ref)
        manifest = feedback.manifest()
        content = {name: tables.check(name, getattr(feedback, name)()) for name in FEEDBACK_TABLES}
    except TableError as error:
        return TypeCheck(False, str(error), metadata={"failing rows": _rows(error.failures)})
    except PublishedError as error:
        return TypeCheck(False, str(error))
    metadata: dict[str, Any] = {"feedback": ref.id, **{name: len(frame) for name, frame in content.items()}}
    for application in manifest.applications:
        metadata[f"{application} is {SIMULATED if application == SIMULATION else 'real'}"] = application == SIMULATION
    impossible = content["clicks"].filter(
        (pl.col("clicks") > pl.col("impressions")) | (pl.col("examinations") > pl.col("impressions") * (1 + 1e-9))
    )
    if len(impossible):
        metadata["failing rows"] = _rows(impossible.with_columns(pl.col("last_seen").cast(pl.String)))
        problem = f"{len(impossible)} rows have more clicks or examinations than impressions."
        return TypeCheck(False, problem, metadata=metadata)
    strangers = content["judged"].join(content["clicks"], on=["query_id", "doc_id", "fold"], how="anti")
    if len(strangers):
        metadata["failing rows"] = _rows(strangers)
        return TypeCheck(False, f"{len(strangers)} judged documents are not among those shown.", metadata=metadata)
    if not all(0.0 < chance <= 1.0 for chance in manifest.propensities):
        return TypeCheck(False, f"Propensities {manifest.propensities} are not all in (0, 1].", metadata=metadata)
    return TypeCheck(True, "Every table holds to its schema.", metadata=metadata)


MIN_COVERAGE = 0.95
"""Share of the snapshot's queries that each upstream release must have answered."""


def check_upstream(inputs: Inputs) -> TypeCheck:
    """Whether every upstream release answered (nearly) every query of the snapshot, with documents that it holds.

    A release of an older snapshot lacks the queries that came since; learning from it would teach the ranker that
    this model finds nothing.
    """
    problems: list[str] = []
    metadata: dict[str, Any] = {}
    staging, queries = Staging(inputs.staging), len(load(inputs.snapshot).queries())
    for family, version in inputs.releases.items():
        hits = inputs.hits(family)
        share = hits["query_id"].n_unique() / queries if queries else 1.0
        metadata |= {family: version, f"{family}: share of queries answered": share}
        learned = staging.manifest(family, version).snapshot
        if learned != inputs.snapshot and share < MIN_COVERAGE:
            problems.append(
                f"{family}/{version} was trained on snapshot {learned.id} and answered {share:.1%} of the queries of "
                f"{inputs.snapshot.id}, expected {MIN_COVERAGE:.0%}. Train it again: make train REPO={family}."
            )
    return TypeCheck(not problems, " ".join(problems) or "Every model answered the queries.", metadata=metadata)


def _folders(inputs: Inputs) -> Iterable[str]:
    """The folders that a training learns from."""
    staging = Staging(inputs.staging)
    yield inputs.snapshot.url
    if inputs.feedback:
        yield inputs.feedback.url
    for family, version in inputs.releases.items():
        yield staging.release_url(family, version)


@checked_once(_folders)
def check_inputs(inputs: Inputs) -> TypeCheck:
    """Whether everything that a training learns from holds together; stops at the first check that fails."""
    metadata: dict[str, Any] = {}
    checks: list[Callable[[], TypeCheck]] = [lambda: check_snapshot(inputs.snapshot)]
    if inputs.feedback:
        feedback = inputs.feedback
        checks.append(lambda: check_feedback(feedback))
    if inputs.releases:
        checks.append(lambda: check_upstream(inputs))
    for check in checks:
        result = check()
        metadata |= result.metadata
        if not result.success:
            return TypeCheck(False, result.description, metadata=metadata)
    return TypeCheck(True, "Every table holds to its schema.", metadata=metadata)


def _rows(frame: pl.DataFrame) -> MetadataValue:
    return MetadataValue.json(frame.head(MAX_ROWS_SHOWN).to_dicts())


def _reference(name: str, of: type, check: Callable[[Any], TypeCheck], description: str) -> DagsterType:
    """A Dagster type whose check reads the data that a reference names."""

    def run(_: TypeCheckContext, value: object) -> TypeCheck:
        if not isinstance(value, of):
            return TypeCheck(False, f"Expected a {of.__name__}, got {type(value).__name__}.")
        return check(value)

    return DagsterType(type_check_fn=run, name=name, description=description, typing_type=of)


ValidSnapshot = _reference(
    "ValidSnapshot", SnapshotRef, check_snapshot, "A snapshot whose tables were read and hold to their schemas."
)
ValidCandidate = _reference(
    "ValidCandidate", Candidate, check_candidate, "A trained model whose hits were read and are an order."
)
ValidFeedback = _reference(
    "ValidFeedback", FeedbackRef, check_feedback, "Feedback whose tables were read and hold together."
)
ValidInputs = _reference("ValidInputs", Inputs, check_inputs, "What to learn from: read, whole and of one piece.")
