from typing import Any

import polars as pl
import pytest

from repos.behavior.clicks import Learnable, learnable, sureness
from repos.behavior.tests.conftest import click
from shared_ops.data import tables

HALF_LIFE = 90.0


def learned(documents: pl.DataFrame, queries: pl.DataFrame, **rows: list[dict[str, Any]]) -> Learnable:
    clicks = {origin: tables.make("clicks", listed) for origin, listed in rows.items()}
    return learnable(clicks, queries, documents, HALF_LIFE)


def test_clicks_of_dev_and_test_queries_are_left_out_and_counted(
    documents: pl.DataFrame, queries: pl.DataFrame
) -> None:
    usable = learned(
        documents,
        queries,
        feedback=[
            click("q-inverse", "invert a matrix", "d-inv"),
            click("q-dev", "words that it never had", "d-sort"),
            click("visitor-1", "  Inverting a SQUARE\tmatrix ", "d-inv"),  # the test query's text
            click("visitor-2", "draw a figure", "d-plot"),
            click("visitor-2", "draw a figure", "d-gone"),
        ],
    )
    assert usable.clicks["text"].to_list() == ["draw a figure", "invert a matrix"]
    assert (usable.held_out_rows, usable.unknown_document_rows) == (2, 1)


@pytest.mark.parametrize(
    "spelt", ["inverting a square matrix?", "Inverting a square-matrix", "inverting_a_square_matrix."]
)
def test_no_spelling_of_a_held_back_query_teaches(documents: pl.DataFrame, queries: pl.DataFrame, spelt: str) -> None:
    usable = learned(documents, queries, feedback=[click("visitor", spelt, "d-inv"), click("v", "a figure", "d-plot")])
    assert usable.clicks["text"].to_list() == ["a figure"] and usable.held_out_rows == 1


def test_one_text_is_one_query_whoever_asked_it_and_wherever_the_clicks_come_from(
    documents: pl.DataFrame, queries: pl.DataFrame
) -> None:
    usable = learned(
        documents,
        queries,
        bootstrap=[click("visitor-1", "Draw a figure", "d-plot", clicks=1, impressions=1)],
        feedback=[click("visitor-2", "draw a  figure.", "d-plot", clicks=2, impressions=3, looked_at=1.5)],
    )
    assert usable.clicks.rows() == [("draw a figure", "d-plot", 3.0, 2.5)]


def test_it_says_how_much_came_from_where(documents: pl.DataFrame, queries: pl.DataFrame) -> None:
    usable = learned(
        documents,
        queries,
        bootstrap=[click("q-fft", "spectrum of a signal", "d-fft", 4, 9), click("q-dev", "held out", "d-fft", 9, 9)],
        feedback=[
            click("v", "spectrum of a signal", "d-fft", 1, 5, days_ago=HALF_LIFE),
            click("w", "draw a figure", "d-plot", 0, 3),
        ],
        nobody=[],
    )
    assert usable.learned == {
        "bootstrap": {"clicks": 4, "impressions": 9, "queries": 1},
        "feedback": {"clicks": 1, "impressions": 8, "queries": 2},
        "nobody": {"clicks": 0, "impressions": 0, "queries": 0},
    }


def test_old_clicks_count_less_where_the_same_query_has_newer_ones_and_only_there(
    documents: pl.DataFrame, queries: pl.DataFrame
) -> None:
    usable = learned(
        documents,
        queries,
        bootstrap=[
            click("q-sort", "order the values of an array", "d-sort", 40, 50, looked_at=45.0, days_ago=HALF_LIFE),
            click("q-fft", "spectrum of a signal", "d-fft", 40, 50, looked_at=45.0, days_ago=HALF_LIFE),
        ],
        feedback=[click("v", "order the values of an array", "d-argsort", 8, 8)],
    )
    assert usable.clicks.select("doc_id", "clicks", "examinations").rows() == [
        ("d-argsort", 8.0, 8.0),
        ("d-sort", 20.0, 22.5),
        ("d-fft", 40.0, 45.0),
    ]


def test_the_order_of_the_rows_changes_no_bit(documents: pl.DataFrame, queries: pl.DataFrame) -> None:
    rows = [
        click(f"v{n}", ("draw a figure", "invert a matrix")[n % 2], "d-plot", 3, 9, looked_at=n / 7, days_ago=n / 3)
        for n in range(1, 200)
    ]
    first, second = (learned(documents, queries, feedback=each).clicks for each in (rows, rows[::-1]))
    assert first.equals(second)


def test_without_any_table_there_is_nothing_to_learn(documents: pl.DataFrame, queries: pl.DataFrame) -> None:
    assert learned(documents, queries).clicks.is_empty()


def test_more_evidence_is_surer() -> None:
    once, often, never = sure([click("q", "t", "a", 1, 2), click("q", "t", "b", 50, 100), click("q", "t", "c", 0, 100)])
    assert 0 == never < once < often


def test_a_click_where_few_look_says_more() -> None:
    top, bottom = sure([click("q", "t", "a", 25, 100), click("q", "t", "b", 25, 100, position=10.0, looked_at=40.0)])
    assert bottom > top


def test_a_document_clicked_as_often_as_expected_is_surely_clicked_a_bit_less_than_that() -> None:
    bounds = sure([click("q", "t", f"d{n}", 30, 100) for n in range(10)])
    assert bounds == pytest.approx([bounds[0]] * 10)
    assert 0.6 < bounds[0] < 1.0


def test_without_any_click_nothing_is_sure() -> None:
    assert sure([click("q", "t", "a", 0, 10)]) == [0.0]
    assert sure([]) == []


def sure(rows: list[dict[str, Any]]) -> list[float]:
    bounds: list[float] = sureness(tables.make("clicks", rows), confidence=0.9, prior=1.0).tolist()
    return bounds
