"""How likely somebody looks at a position, estimated from clicks whose truth is known."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from repos.feedback.positions import PositionParameters, propensities

POSITIONS = 10
TRUE = 1.0 / np.arange(1, POSITIONS + 1) ** 0.6
"""Flatter than the prior, so that an estimate which just repeats it is wrong."""
PRIOR = 1.0 / np.arange(1, POSITIONS + 1)

Order = Callable[[np.random.Generator, np.ndarray], np.ndarray]


def simulated(queries: int, pages: int, order: Order, seed: int = 0) -> pl.DataFrame:
    """Clicks by a position-based model; `order(random, attractive)` gives the documents of one page."""
    random, rows = np.random.default_rng(seed), []
    for query in range(queries):
        attractive = random.beta(0.5, 2.5, 15)
        for _ in range(pages):
            page = order(random, attractive)[:POSITIONS]
            clicked = random.random(POSITIONS) < TRUE * attractive[page]
            rows += [(str(query), str(page[k]), k + 1, bool(clicked[k])) for k in range(POSITIONS)]
    frame = pl.DataFrame(rows, schema=["query_id", "doc_id", "position", "clicked"], orient="row")
    return frame.group_by("query_id", "doc_id", "position").agg(impressions=pl.len(), clicks=pl.sum("clicked"))


def shuffled(random: np.random.Generator, attractive: np.ndarray) -> np.ndarray:
    return random.permutation(len(attractive))


def best_first(random: np.random.Generator, attractive: np.ndarray) -> np.ndarray:
    return np.argsort(-attractive)


def best_first_with_neighbours_swapped(random: np.random.Generator, attractive: np.ndarray) -> np.ndarray:
    page = np.argsort(-attractive)
    swap = random.integers(0, POSITIONS - 1)
    page[[swap, swap + 1]] = page[[swap + 1, swap]]
    return page


def test_shuffled_pages_tell_the_propensities() -> None:
    estimate = propensities(simulated(100, 100, shuffled), POSITIONS, PositionParameters())
    assert estimate[0] == 1.0 and estimate == pytest.approx(TRUE, abs=0.05)


def test_few_impressions_of_each_document_are_enough() -> None:
    estimate = propensities(simulated(1000, 3, shuffled), POSITIONS, PositionParameters())
    assert estimate == pytest.approx(TRUE, abs=0.08)


def test_a_good_ranker_whose_neighbours_swap_at_times_is_enough() -> None:
    estimate = propensities(simulated(300, 40, best_first_with_neighbours_swapped), POSITIONS, PositionParameters())
    assert estimate[:5] == pytest.approx(TRUE[:5], abs=0.08)
    assert np.abs(estimate - TRUE).max() < np.abs(PRIOR - TRUE).max() / 2


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_where_no_position_varies_the_prior_carries(eta: float) -> None:
    by_position = simulated(200, 20, best_first)
    estimate = propensities(by_position, POSITIONS, PositionParameters(prior_eta=eta))
    assert estimate == pytest.approx(PRIOR**eta)


def test_without_any_click_or_page_the_prior_carries() -> None:
    by_position = simulated(10, 5, shuffled).with_columns(clicks=pl.lit(0))
    assert propensities(by_position, POSITIONS, PositionParameters()) == pytest.approx(PRIOR)
    assert propensities(by_position.clear(), POSITIONS, PositionParameters()) == pytest.approx(PRIOR)


def test_the_order_of_rows_changes_nothing() -> None:
    by_position = simulated(50, 5, shuffled)
    estimates = [
        propensities(by_position.sample(fraction=1, shuffle=True, seed=seed), POSITIONS, PositionParameters())
        for seed in (1, 2)
    ]
    assert estimates[0].tolist() == estimates[1].tolist()
