"""Measures are the field's, every judged query counts, ties do not reorder hits."""

import numpy as np
import polars as pl
import pytest

from shared_ops.data import tables
from shared_ops.data.snapshots import SnapshotRef, Snapshots, load
from shared_ops.judge.evaluation import attainable, evaluate, per_query
from shared_ops.judge.judging import JudgedQueries
from shared_ops.pipeline.types import check_snapshot
from shared_ops.release.inputs import kept_hits


def test_measures_of_a_known_order(content: dict[str, pl.DataFrame]) -> None:
    hits = tables.hits_table(["q5"], [[("numpy.unique", 3.0), ("numpy.sort", 2.0), ("numpy.argsort", 1.0)]])
    row = per_query(hits, content["qrels"]).row(by_predicate=pl.col("query_id") == "q5", named=True)
    # Gains 1 and 2 at ranks 2 and 3, against 2 and 1 at ranks 1 and 2 (Järvelin and Kekäläinen 2002, linear gain).
    assert row["nDCG@10"] == pytest.approx((1 / 1.5849625 + 2 / 2) / (2 / 1 + 1 / 1.5849625), abs=1e-6)
    assert row["RR@10"] == pytest.approx(0.5) and row["R@100"] == 1.0


def test_a_query_without_hits_counts_as_zero(content: dict[str, pl.DataFrame]) -> None:
    measured = per_query(tables.empty("hits"), content["qrels"])
    assert len(measured) == 6 and measured["nDCG@10"].sum() == 0


def test_equal_scores_keep_their_ranks(content: dict[str, pl.DataFrame]) -> None:
    hits = tables.hits_table(["q4"], [[("numpy.median", 1.0), ("numpy.unique", 1.0), ("numpy.sort", 1.0)]])
    assert per_query(hits, content["qrels"].filter(query_id="q4"))["RR@10"].to_list() == [1.0]


def test_slices_hold_their_own_means(snapshot: SnapshotRef) -> None:
    hits = tables.hits_table(["q4"], [[("numpy.median", 1.0)]])
    _, metrics = evaluate(hits, load(snapshot), "test")
    assert metrics["all"]["queries"] == 3 and metrics["all"]["RR@10"] == pytest.approx(1 / 3)
    assert metrics["verbatim"] == {"queries": 1.0, "nDCG@10": 1.0, "R@100": 1.0, "RR@10": 1.0}
    assert set(metrics) == {"all", "verbatim", "source:numpy"}


def test_without_a_judgement_there_is_a_table_without_rows() -> None:
    measured = per_query(tables.empty("hits"), tables.empty("qrels"))
    assert measured.columns == ["query_id", "nDCG@10", "R@100", "RR@10"] and measured.is_empty()
    assert measured.schema["query_id"] == pl.String


def judged(*query_ids: str, **grades: int) -> pl.DataFrame:
    rows = [
        {"query_id": query_id, "doc_id": doc_id, "grade": grade}
        for query_id in query_ids or ("q",)
        for doc_id, grade in grades.items()
    ]
    return tables.make("qrels", rows)


def test_chance_is_what_random_orders_reach() -> None:
    random, ids = np.random.default_rng(0), [f"q{number}" for number in range(2000)]
    orders = [random.permutation(25)[:10] for _ in ids]
    hits = tables.hits_table(
        ids, [[(f"d{place}", -float(rank)) for rank, place in enumerate(order)] for order in orders]
    )
    values = per_query(hits, judged(*ids, d0=1, d1=3))["nDCG@10"]
    (chance,) = attainable(judged(d0=1, d1=3), 25)["chance"]
    assert chance == pytest.approx(values.mean(), abs=3 * values.std() / len(ids) ** 0.5)


def hits_of(order: list[str]) -> pl.DataFrame:
    return tables.hits_table(["q"], [[(doc_id, -float(rank)) for rank, doc_id in enumerate(order)]])


def test_the_best_is_the_best_order_of_what_can_be_found() -> None:
    qrels = judged(d0=1, d1=3)
    assert attainable(qrels, 25)["best"].to_list() == [1.0]
    reached = per_query(hits_of(["d0"]), qrels)["nDCG@10"].item()
    assert attainable(qrels, 25, ["d0", "d9"])["best"].to_list() == [pytest.approx(reached)]
    assert attainable(qrels, 25, [])[["chance", "best", "most"]].row(0) == (0.0, 0.0, 0.0)


def test_of_one_document_chance_is_perfect() -> None:
    assert attainable(judged(d0=2), 1)[["chance", "best", "most"]].row(0) == (1.0, 1.0, 1.0)


def test_chance_and_the_best_are_those_of_as_many_hits_as_were_given() -> None:
    qrels = judged(d0=1, d1=3)
    chance, best, most = attainable(qrels, 25, hits=hits_of(["d7"]))[["chance", "best", "most"]].row(0)
    one = [per_query(hits_of([doc_id]), qrels)["nDCG@10"].item() for doc_id in ("d0", "d1")]
    assert chance == pytest.approx(sum(one) / 25) and best == pytest.approx(one[1]) and most == 1.0
    assert attainable(qrels, 25, hits=hits_of([]))[["chance", "best", "most"]].row(0) == (0.0, 0.0, 1.0)


def test_a_query_s_own_document_is_no_hit_for_it_in_any_measure_or_training(
    snapshots: Snapshots, content: dict[str, pl.DataFrame]
) -> None:
    itself = pl.when(query_id="q4").then(pl.lit("numpy.std")).otherwise(None)
    ref = snapshots.publish({**content, "queries": content["queries"].with_columns(own_doc_id=itself)})
    assert ref.id != snapshots.publish(content).id
    assert check_snapshot(ref).success
    pairs = [("numpy.std", 3.0), ("numpy.median", 2.0)]
    hits = tables.hits_table(["q4", "q5"], [pairs, pairs])
    measured, _ = evaluate(hits, load(ref), "test")
    for each in (measured, JudgedQueries.of(load(ref), None).measure(hits)):
        assert each.filter(query_id="q4")["RR@10"].item() == 1.0
    training_hits = kept_hits(hits, load(ref).queries(), load(ref).documents())
    assert tables.hits_by_query(training_hits) == {"q4": pairs[1:], "q5": pairs}
    assert training_hits["rank"].to_list() == [1, 1, 2]
