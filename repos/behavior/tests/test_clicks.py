import pytest

from repos.behavior.clicks import fold_of, learnable, sureness
from repos.behavior.tests.conftest import click
from shared_ops import tables


def test_clicks_of_dev_and_test_queries_are_left_out_and_counted(documents, queries):
    clicks = tables.make(
        "clicks",
        [
            click("q-inverse", "invert a matrix", "d-inv"),
            click("q-dev", "words that it never had", "d-sort"),
            click("visitor-1", "  Inverting a SQUARE\tmatrix ", "d-inv"),  # the test query's text
            click("visitor-2", "draw a figure", "d-plot"),
            click("visitor-2", "draw a figure", "d-gone"),
        ],
    )
    usable = learnable(clicks, queries, documents)
    assert usable.clicks["text"].to_list() == ["draw a figure", "invert a matrix"]
    assert (usable.held_out_rows, usable.unknown_document_rows) == (2, 1)


def test_one_text_is_one_query_whoever_asked_it(documents, queries):
    clicks = tables.make(
        "clicks",
        [
            click("visitor-1", "Draw a figure", "d-plot", clicks=1, impressions=1, position=1.0),
            click("visitor-2", "draw a  figure", "d-plot", clicks=2, impressions=3, position=5.0),
        ],
    )
    assert learnable(clicks, queries, documents).clicks.rows() == [("draw a figure", "d-plot", 3, 4, 4.0)]
    assert fold_of("draw a figure", 5) == fold_of("draw a figure", 5) < 5


def test_more_evidence_is_surer():
    once, often, never = sure([click("q", "t", "a", 1, 2), click("q", "t", "b", 50, 100), click("q", "t", "c", 0, 100)])
    assert 0 == never < once < often


def test_a_click_far_down_the_page_says_more():
    top = [click(f"q{n}", f"t{n}", "a", 50, 100, position=1.0) for n in range(5)]
    bottom = [click(f"q{n}", f"t{n}", "b", 5, 100, position=10.0) for n in range(5)]
    same = [click("q9", "t9", doc_id, 25, 100, position) for doc_id, position in (("a", 1.0), ("b", 10.0))]
    first, second = sure([*top, *bottom, *same])[-2:]
    assert second > first


def test_a_document_clicked_as_often_as_expected_is_surely_clicked_a_bit_less_than_that():
    bounds = sure([click("q", "t", f"d{n}", 30, 100) for n in range(10)])
    assert bounds == pytest.approx([bounds[0]] * 10)
    assert 0.6 < bounds[0] < 1.0


def test_without_any_click_nothing_is_sure():
    assert sure([click("q", "t", "a", 0, 10)]) == [0.0]
    assert sure([]) == []


def sure(rows):
    return sureness(tables.make("clicks", rows), confidence=0.9, prior=1.0).tolist()
