"""From counted clicks to how surely each document answered each past query.

Knows the `clicks` table and nothing of text similarity.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl

from repos.behavior.features import query_text


@dataclass(frozen=True)
class Learnable:
    """Click rows that may be learned from, one per past query's text and document, and what was left out."""

    clicks: pl.DataFrame
    """Columns text (as `features.query_text` reads it), doc_id, clicks, impressions, mean_position; sorted."""
    held_out_rows: int
    """Rows of dev or test queries, by query id or by equal text."""
    unknown_document_rows: int
    """Rows of documents that the corpus no longer holds."""


def learnable(clicks: pl.DataFrame, queries: pl.DataFrame, documents: pl.DataFrame) -> Learnable:
    """The rows of `clicks` that a model may learn from.

    A query is its text as `features.query_text` reads it: rows of queries that differ in less are counted together.
    Where the `queries` table knows a row's query id, its text stands for the row's own.
    """
    known = queries.select("query_id", "split", known_text="text")
    rows = (
        clicks.join(known, on="query_id", how="left")
        .with_columns(text=pl.coalesce("known_text", "text").map_elements(query_text, return_dtype=pl.String))
        .select("text", "doc_id", "clicks", "impressions", "mean_position", "split")
    )
    held_out_texts = [query_text(text) for text in queries.filter(pl.col("split") != "train")["text"]]
    held_out = (pl.col("split").fill_null("train") != "train") | pl.col("text").is_in(held_out_texts)
    free = rows.filter(~held_out)
    kept = free.join(documents.select("doc_id"), on="doc_id", how="semi")
    merged = (
        kept.group_by("text", "doc_id")
        .agg(
            pl.col("clicks").sum(),
            mean_position=(pl.col("mean_position") * pl.col("impressions")).sum() / pl.col("impressions").sum(),
            impressions=pl.col("impressions").sum(),
        )
        .select("text", "doc_id", "clicks", "impressions", "mean_position")
        .sort("text", "doc_id")
    )
    return Learnable(merged, len(rows) - len(free), len(free) - len(kept))


def fold_of(text: str, folds: int) -> int:
    """The fold, 0 to `folds` - 1, of a query text as `features.query_text` reads it: equal texts, equal folds."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % folds


def sureness(clicks: pl.DataFrame, confidence: float, prior: float) -> np.ndarray:
    """For each row, how many times more often than expected its document was clicked, at least; 0 without a click.

    Expected is what documents at the row's mean position got: the click-through rate as a falling function of position,
    by isotonic regression, times the impressions (clicks over expected clicks: Zhang and Jones 2007, "Comparing Click
    Logs and Editorial Labels for Training Query Rewriting"). Few impressions make a ratio unsure, so its lower bound
    counts: the (1 - `confidence`) quantile of a gamma-Poisson posterior whose prior, of mean 1, weighs `prior` expected
    clicks (DuMouchel 1999, "Bayesian Data Mining in Large Frequency Tables", there called EB05 for 0.95).
    """
    from scipy.special import gammaincinv
    from sklearn.isotonic import IsotonicRegression

    clicked = clicks["clicks"].to_numpy().astype(np.float64)
    impressions = clicks["impressions"].to_numpy().astype(np.float64)
    if clicked.sum() == 0:
        return np.zeros(len(clicks))
    position = clicks["mean_position"].to_numpy()
    curve = IsotonicRegression(increasing=False).fit(position, clicked / impressions, sample_weight=impressions)
    expected = impressions * curve.predict(position)
    bound = gammaincinv(prior + clicked, 1.0 - confidence) / (prior + expected)
    return np.where(clicked > 0, bound, 0.0)
