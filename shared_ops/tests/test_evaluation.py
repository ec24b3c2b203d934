"""Measures are the field's, every judged query counts, ties do not reorder hits."""

import pytest

from shared_ops import tables
from shared_ops.evaluation import evaluate, per_query
from shared_ops.snapshots import load


def test_measures_of_a_known_order(content):
    hits = tables.hits_table(["q5"], [[("numpy.unique", 3.0), ("numpy.sort", 2.0), ("numpy.argsort", 1.0)]])
    row = per_query(hits, content["qrels"]).row(by_predicate=__import__("polars").col("query_id") == "q5", named=True)
    # Gains 1 and 2 at ranks 2 and 3, against 2 and 1 at ranks 1 and 2 (Järvelin and Kekäläinen 2002, linear gain).
    assert row["nDCG@10"] == pytest.approx((1 / 1.5849625 + 2 / 2) / (2 / 1 + 1 / 1.5849625), abs=1e-6)
    assert row["RR@10"] == pytest.approx(0.5) and row["R@100"] == 1.0


def test_a_query_without_hits_counts_as_zero(content):
    measured = per_query(tables.empty("hits"), content["qrels"])
    assert len(measured) == 6 and measured["nDCG@10"].sum() == 0


def test_equal_scores_keep_their_ranks(content):
    hits = tables.hits_table(["q4"], [[("numpy.median", 1.0), ("numpy.unique", 1.0), ("numpy.sort", 1.0)]])
    assert per_query(hits, content["qrels"].filter(query_id="q4"))["RR@10"].to_list() == [1.0]


def test_slices_hold_their_own_means(snapshot):
    hits = tables.hits_table(["q4"], [[("numpy.median", 1.0)]])
    _, metrics = evaluate(hits, load(snapshot), "test")
    assert metrics["all"]["queries"] == 3 and metrics["all"]["RR@10"] == pytest.approx(1 / 3)
    assert metrics["verbatim"] == {"queries": 1.0, "nDCG@10": 1.0, "R@100": 1.0, "RR@10": 1.0}
    assert set(metrics) == {"all", "verbatim", "source:numpy"}
