"""The Dagster type of published feedback: its check reads the tables, and says in the UI what they hold."""

from typing import Any

import polars as pl
from dagster import DagsterType, MetadataValue, TypeCheck, TypeCheckContext

from shared_ops import tables
from shared_ops.feedback import TABLES, Feedback, FeedbackError, FeedbackRef
from shared_ops.types import MAX_ROWS_SHOWN
from shared_ops.ubi import SIMULATION


def check_feedback(_: TypeCheckContext, ref: object) -> TypeCheck:
    """Whether the tables hold to their schemas and to each other, and the propensities are chances."""
    if not isinstance(ref, FeedbackRef):
        return TypeCheck(False, f"Expected a FeedbackRef, got {type(ref).__name__}.")
    feedback = Feedback(ref)
    try:
        manifest = feedback.manifest()
        content = {name: tables.check(name, getattr(feedback, name)()) for name in TABLES}
    except tables.TableError as error:
        return TypeCheck(False, str(error), metadata={"failing rows": _rows(error.failures)})
    except FeedbackError as error:
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
    strangers = content["judged"].join(content["clicks"], on=["query_id", "doc_id"], how="anti")
    if len(strangers):
        metadata["failing rows"] = _rows(strangers.drop("features"))
        return TypeCheck(False, f"{len(strangers)} judged documents are not among those shown.", metadata=metadata)
    if not all(0.0 < chance <= 1.0 for chance in manifest.propensities):
        return TypeCheck(False, f"Propensities {manifest.propensities} are not all in (0, 1].", metadata=metadata)
    return TypeCheck(True, "Every table holds to its schema.", metadata=metadata)


SIMULATED = "SIMULATED: nobody searched or clicked any of this"
"""What is said of made-up events wherever they are shown."""


def _rows(frame: pl.DataFrame) -> MetadataValue:
    return MetadataValue.json(frame.head(MAX_ROWS_SHOWN).to_dicts())


ValidFeedback = DagsterType(
    type_check_fn=check_feedback,
    name="ValidFeedback",
    description="Published feedback whose tables were read and hold to their schemas and to each other.",
    typing_type=FeedbackRef,
)
