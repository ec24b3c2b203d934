"""From counted clicks to how surely each document answered each past query.

Knows the `clicks` table and nothing of text similarity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from shared_ops.data import tables
from shared_ops.data.text import held_back, normalise


@dataclass(frozen=True)
class Learnable:
    """What may be learned from clicks, a row for each past query's text and document, and how much was left out."""

    clicks: pl.DataFrame
    """Columns text (normalised), doc_id, and the sums of clicks and examinations; sorted."""
    learned: dict[str, dict[str, int]]
    """Origin to the clicks, impressions and queries that went into `clicks`, before their age was discounted."""
    held_out_rows: int
    """Rows of dev or test queries, whoever asked them and however they were spelt."""
    unknown_document_rows: int
    """Rows of documents that the corpus no longer holds."""


def learnable(
    clicks: Mapping[str, pl.DataFrame], queries: pl.DataFrame, documents: pl.DataFrame, half_life: float
) -> Learnable:
    """The sums of all that a model may learn from `clicks`: `clicks` tables by their origin.

    A query is its normalised text: rows of equal normalised texts are counted together. Where the `queries` table holds
    a row's query id, the text there replaces the row's own.

    A row that is `half_life` days older than the newest row of its query counts half, at twice that age a third, and so
    on: recent clicks outweigh older ones, and a query without recent clicks forgets nothing. No clock is read: the same
    tables give the same sums.
    """
    rows = _with_known_texts(clicks, queries)
    free = rows.filter(~pl.col("text").is_in(held_back(queries)))
    usable = free.join(documents.select("doc_id"), on="doc_id", how="semi")
    days = (pl.col("last_seen").max().over("text") - pl.col("last_seen")).dt.total_seconds(fractional=True) / 86_400
    weight = 1 / (1 + days / half_life)
    # Floats are added up in one order, whatever the order of the tables: equal clicks give equal bytes.
    summed = (
        usable.with_columns(clicks=pl.col("clicks") * weight, examinations=pl.col("examinations") * weight)
        .sort("text", "doc_id", "examinations", "clicks")
        .group_by("text", "doc_id", maintain_order=True)
        .agg(pl.col("clicks", "examinations").sum())
    )
    return Learnable(summed, _counts(clicks, usable), len(rows) - len(free), len(free) - len(usable))


def _with_known_texts(clicks: Mapping[str, pl.DataFrame], queries: pl.DataFrame) -> pl.DataFrame:
    """The rows of all tables, with their `origin` and the normalised text of their query."""
    rows = pl.concat(
        [
            tables.empty("clicks").with_columns(origin=pl.lit("")),
            *(table.with_columns(origin=pl.lit(origin)) for origin, table in clicks.items()),
        ]
    )
    known_texts = queries.select("query_id", known_text="text")
    text = pl.coalesce("known_text", "text").map_elements(normalise, return_dtype=pl.String)
    return rows.join(known_texts, on="query_id", how="left").with_columns(text=text)


def _counts(clicks: Mapping[str, pl.DataFrame], rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    counts = {}
    for origin in clicks:
        of_origin = rows.filter(pl.col("origin") == origin)
        counts[origin] = {
            "clicks": int(of_origin["clicks"].sum()),
            "impressions": int(of_origin["impressions"].sum()),
            "queries": of_origin["text"].n_unique(),
        }
    return counts


def sureness(clicks: pl.DataFrame, confidence: float, prior: float) -> np.ndarray:
    """For each row, a lower bound of its document's clicks over those expected; 0 without a click.

    Expected are the row's examinations times the clicks per examination of all rows (clicks over expected clicks: Zhang
    and Jones 2007, "Comparing Click Logs and Editorial Labels for Training Query Rewriting"). Examinations are
    corrected for positions already. Few examinations make the ratio unsure, so its lower bound counts: the (1 -
    `confidence`) quantile of a gamma-Poisson posterior whose prior, of mean 1, weighs `prior` expected clicks
    (DuMouchel 1999, "Bayesian Data Mining in Large Frequency Tables", there called EB05 for 0.95).
    """
    from scipy.special import gammaincinv

    clicked = clicks["clicks"].to_numpy().astype(np.float64)
    if clicked.sum() == 0:
        return np.zeros(len(clicks))
    examinations = clicks["examinations"].to_numpy()
    expected = examinations * clicked.sum() / examinations.sum()
    bound = gammaincinv(prior + clicked, 1.0 - confidence) / (prior + expected)
    return np.where(clicked > 0, bound, 0.0)
