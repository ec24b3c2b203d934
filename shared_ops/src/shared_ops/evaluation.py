"""How good an order is: the measures per query, and their means overall and per slice.

Knows no Dagster. The measures are ir-measures', which are trec_eval's.
"""

from collections.abc import Iterable

import polars as pl

from shared_ops.releases import Metrics
from shared_ops.snapshots import Snapshot

MEASURES = ("nDCG@10", "R@100", "RR@10")
PRIMARY = "nDCG@10"
DEPTH = 100
"""How many hits per query are kept and evaluated."""


def per_query(hits: pl.DataFrame, qrels: pl.DataFrame) -> pl.DataFrame:
    """Each judged query's measures: columns query_id and MEASURES, in the order of query ids.

    A query without hits counts, with zeros. The order is the hits' rank: ties in the scores do not reorder them.
    """
    import ir_measures

    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    judged = [ir_measures.Qrel(*row) for row in qrels.select("query_id", "doc_id", "grade").iter_rows()]
    ranked = hits.select("query_id", "doc_id", -pl.col("rank").cast(pl.Float64))
    run = [ir_measures.ScoredDoc(*row) for row in ranked.iter_rows()]
    values = [(str(m.query_id), str(m.measure), float(m.value)) for m in ir_measures.iter_calc(measures, judged, run)]
    long = pl.DataFrame(values, schema=["query_id", "measure", "value"], orient="row")
    wide = long.pivot(on="measure", index="query_id", values="value")
    # A run without any judged query's hits gives no values at all, not even the measures' names.
    missing = [pl.lit(0.0).alias(name) for name in MEASURES if name not in wide.columns]
    return (
        qrels.select("query_id")
        .unique()
        .join(wide.with_columns(missing), on="query_id", how="left")
        .with_columns(pl.col(MEASURES).fill_null(0.0))
        .select("query_id", *MEASURES)
        .sort("query_id")
    )


def slice_members(snapshot: Snapshot) -> pl.DataFrame:
    """Which queries each slice holds: columns query_id, slice. Sources are slices; `all` is every query."""
    queries = snapshot.queries()
    return pl.concat(
        [
            queries.select("query_id", pl.lit("all").alias("slice")),
            queries.select("query_id", pl.concat_str(pl.lit("source:"), "source").alias("slice")),
            snapshot.slices().select("query_id", "slice"),
        ]
    )


def means(measured: pl.DataFrame, members: pl.DataFrame) -> Metrics:
    """The mean of every measure in every slice, with the number of queries: {slice: {measure: mean}}."""
    grouped = (
        measured.join(members, on="query_id")
        .group_by("slice")
        .agg(pl.len().cast(pl.Float64).alias("queries"), pl.col(MEASURES).mean())
        .sort("slice")
    )
    return {row.pop("slice"): row for row in grouped.to_dicts()}


def evaluate(hits: pl.DataFrame, snapshot: Snapshot, split: str) -> tuple[pl.DataFrame, Metrics]:
    """The measures per query of a split, and their means per slice."""
    measured = per_query(hits, snapshot.qrels(split))
    return measured, means(measured, slice_members(snapshot))


def table(metrics: Metrics, measures: Iterable[str] = ("queries", *MEASURES)) -> str:
    """The metrics as a Markdown table, for the UI."""
    names = list(measures)
    lines = [f"| slice | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for name, values in metrics.items():
        cells = [f"{values[each]:.0f}" if each == "queries" else f"{values[each]:.4f}" for each in names]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
