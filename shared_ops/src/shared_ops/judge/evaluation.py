"""How good an order is: the measures per query, and their means overall and per slice.

Knows no Dagster. The measures are ir-measures', which are trec_eval's.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import polars as pl

from shared_ops.data import markdown, tables
from shared_ops.data.snapshots import Snapshot
from shared_ops.release.releases import Metrics

MEASURES = ("nDCG@10", "R@100", "RR@10")
PRIMARY = "nDCG@10"
CUTOFF = 10
"""The rank at which PRIMARY is measured."""
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
    # Types are stated: a table without rows has none that could be inferred.
    long = pl.DataFrame(values, schema={"query_id": pl.String, "measure": pl.String, "value": pl.Float64}, orient="row")
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


def attainable(
    qrels: pl.DataFrame, documents: int, reach: Collection[str] | None = None, hits: pl.DataFrame | None = None
) -> pl.DataFrame:
    """What PRIMARY can be for each judged query, in the order of query ids: columns query_id, chance, best, most.

    Of as many hits as a model gave, `chance` is the expected value of documents drawn at random from those that it is
    able to find, and `best` that of the best ones; both are 0 where it gave none. `most` is the best of any number of
    hits. Gains are the grades and discounts log2(rank + 1), as trec_eval has them (Järvelin and Kekäläinen 2002).

    Args:
        qrels: the judgements.
        documents: how many documents the corpus holds.
        reach: the documents that the model is able to find; None: all.
        hits: the model's `hits` table; None: CUTOFF hits for every query.
    """
    given = {} if hits is None else dict(hits.group_by("query_id").len().iter_rows())
    size = documents if reach is None else len(reach)
    in_reach = pl.lit(True) if reach is None else pl.col("doc_id").is_in(list(reach))
    rows = []
    judged = qrels.with_columns(in_reach=in_reach).group_by("query_id").agg("grade", "in_reach").sort("query_id")
    for query_id, grades, reachable in judged.iter_rows():
        gains = [grade for grade, is_reachable in zip(grades, reachable, strict=True) if is_reachable]
        shown = min(size, CUTOFF if hits is None else given.get(query_id, 0))
        drawn = [sum(gains) / size] * shown if size else []
        values = (_dcg(drawn), _dcg(gains, shown), _dcg(gains))
        rows.append((query_id, *(value / _dcg(grades) for value in values)))
    schema = {"query_id": pl.String, "chance": pl.Float64, "best": pl.Float64, "most": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _dcg(gains: Sequence[float], depth: int = CUTOFF) -> float:
    """The discounted cumulated gain of the best order of these gains, to `depth` or CUTOFF."""
    best = np.sort(np.asarray(gains, np.float64))[::-1][: min(depth, CUTOFF)]
    return float(best @ (1 / np.log2(np.arange(2, len(best) + 2))))


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
    """The measures per query of a split, and their means per slice. A query's own document is no hit for it."""
    measured = per_query(tables.without_own(hits, snapshot.queries(split)), snapshot.qrels(split))
    return measured, means(measured, slice_members(snapshot))


def table(metrics: Metrics, measures: Iterable[str] = ("queries", *MEASURES)) -> str:
    """The metrics as a Markdown table, for the UI."""
    names = list(measures)
    rows = [
        [name, *(f"{values[each]:.0f}" if each == "queries" else f"{values[each]:.4f}" for each in names)]
        for name, values in metrics.items()
    ]
    return markdown.table(("slice", *names), rows, numbers_from=1)
