"""The columns of the tables that repositories exchange, as Pandera's schemas: it reports every failing row.

Imported inside functions: Pandera takes a code server half a second to import, and two where it finds pandas.
"""

from collections.abc import Mapping, Sequence

import pandera.polars as pa  # noqa: TID253 (the module that holds it)
import polars as pl

from shared_ops.data.text import SPLITS

NO_SESSION = -1
"""The fold of clicks that come from no session: they are made up where people's clicks are missing."""


def _text() -> pa.Column:
    """A column of text that is never empty: an id, a name, a document's words."""
    return pa.Column(pl.String, pa.Check.str_length(min_value=1))


def _fold() -> pa.Column:
    """A column of the fold of the sessions that a row comes from: 0, 1, ...; -1 where it comes from no session."""
    return pa.Column(pl.Int64, pa.Check.ge(NO_SESSION))


def _schema(columns: Mapping[str, pa.Column], unique: Sequence[str]) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(dict(columns), unique=list(unique), strict=True, ordered=True)


SCHEMAS: dict[str, pa.DataFrameSchema] = {
    "documents": _schema(
        {
            "doc_id": _text(),
            "source": _text(),
            "title": pa.Column(pl.String, nullable=False),
            "text": _text(),
            "url": pa.Column(pl.String, nullable=True),
            "metadata": pa.Column(pl.String, nullable=False),
        },
        unique=["doc_id"],
    ),
    "queries": _schema(
        {
            "query_id": _text(),
            "text": _text(),
            "split": pa.Column(pl.String, pa.Check.isin(SPLITS)),
            "source": _text(),
            # The document that is the query itself: it is no hit for it. The column exists where some query has one.
            "own_doc_id": pa.Column(pl.String, nullable=True, required=False),
        },
        unique=["query_id"],
    ),
    "qrels": _schema(
        {
            "query_id": _text(),
            "doc_id": _text(),
            "grade": pa.Column(pl.Int64, pa.Check.ge(1)),
        },
        unique=["query_id", "doc_id"],
    ),
    # A query may stand in several slices (verbatim, paraphrase, ...); metrics are reported for each.
    "slices": _schema(
        {"query_id": _text(), "slice": _text()},
        unique=["query_id", "slice"],
    ),
    "clicks": _schema(
        {
            "query_id": _text(),
            "text": _text(),
            "doc_id": _text(),
            "clicks": pa.Column(pl.Int64, pa.Check.ge(0)),
            "impressions": pa.Column(pl.Int64, pa.Check.ge(1)),
            "mean_position": pa.Column(pl.Float64, pa.Check.ge(1.0)),
            # Impressions, each weighted by the chance that somebody looked at its position (inverse propensity).
            "examinations": pa.Column(pl.Float64, pa.Check.gt(0.0)),
            "last_seen": pa.Column(pl.Datetime("us", "UTC")),
            "fold": _fold(),
        },
        unique=["query_id", "doc_id", "fold"],
    ),
    # What the ranker learns from clicks: how relevant each document shown for a query was to the sessions of a fold.
    "judged": _schema(
        {
            "query_id": _text(),
            "text": _text(),
            "doc_id": _text(),
            "fold": _fold(),
            "relevance": pa.Column(pl.Float64, pa.Check.in_range(0.0, 1.0)),
            "examinations": pa.Column(pl.Float64, pa.Check.gt(0.0)),
        },
        unique=["query_id", "doc_id", "fold"],
    ),
    # The newest search of each query in each fold, with the hits that the ranker was given (`served_hits`).
    "asked": _schema(
        {"query_id": _text(), "text": _text(), "fold": _fold(), "hits": _text()},
        unique=["query_id", "fold"],
    ),
    # What the newest sessions clicked: held back from learning, to measure by.
    "newest": _schema(
        {"query_id": _text(), "text": _text(), "doc_id": _text(), "grade": pa.Column(pl.Int64, pa.Check.ge(1))},
        unique=["query_id", "doc_id"],
    ),
    # Searches whose features can be computed again, with the hits that the ranker was given (`served_hits`).
    "requests": _schema(
        {
            "query_id": _text(),
            "text": _text(),
            "ranker": _text(),
            "doc_ids": pa.Column(pl.List(pl.String)),
            "features": pa.Column(pl.List(pl.List(pl.Float32))),
            "hits": _text(),
        },
        unique=["query_id"],
    ),
    "hits": _schema(
        {
            "query_id": _text(),
            "doc_id": _text(),
            # A score that is no finite number cannot be ordered.
            "score": pa.Column(pl.Float64, pa.Check(lambda data: data.lazyframe.select(pl.col(data.key).is_finite()))),
            "rank": pa.Column(pl.Int64, pa.Check.ge(1)),
        },
        unique=["query_id", "doc_id"],
    ),
}
