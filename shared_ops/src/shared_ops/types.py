"""Dagster types whose checks read the data: a bad input stops the run before any training.

A check reports what it found, counts and failing rows, to the UI.
"""

from collections.abc import Callable
from typing import Any

import polars as pl
from dagster import DagsterType, MetadataValue, TypeCheck, TypeCheckContext

from shared_ops import storage, tables
from shared_ops.references import Candidate
from shared_ops.snapshots import TABLES, SnapshotError, SnapshotRef, load
from shared_ops.tables import SPLITS, TableError

MAX_ROWS_SHOWN = 20


def check_snapshot(ref: SnapshotRef) -> TypeCheck:
    """Whether the tables hold to their schemas and refer to each other's rows."""
    try:
        snapshot = load(ref)
        content = {name: getattr(snapshot, name)() for name in TABLES}
        for name, frame in content.items():
            tables.check(name, frame)
    except TableError as error:
        return TypeCheck(False, str(error), metadata={"failing rows": _rows(error.failures)})
    except SnapshotError as error:
        return TypeCheck(False, str(error))
    problems, failing = _dangling(content)
    counts = {f"{split} queries": len(snapshot.queries(split)) for split in SPLITS}
    metadata: dict[str, Any] = {
        "snapshot": ref.id,
        **{name: len(frame) for name, frame in content.items()},
        **counts,
        "sources": MetadataValue.json(snapshot.manifest().sources),
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
    snapshot = load(candidate.snapshot)
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
    test = tables.read(storage.join(candidate.url, "hits", "test.parquet"))
    if _constant(test):
        return TypeCheck(False, "Every hit of every test query has the same score: this model tells nothing apart.")
    return TypeCheck(True, "Scores are finite, documents and queries are known.", metadata=metadata)


def _constant(hits: pl.DataFrame) -> bool:
    return len(hits) > 1 and hits["query_id"].n_unique() < len(hits) and hits["score"].n_unique() == 1


def _rows(frame: pl.DataFrame) -> MetadataValue:
    return MetadataValue.json(frame.head(MAX_ROWS_SHOWN).to_dicts())


def _reference(name: str, of: type, check: Callable[..., TypeCheck], description: str) -> DagsterType:
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
