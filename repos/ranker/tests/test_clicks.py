"""What may be learned from clicks, how they are graded, and what they weigh."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from repos.ranker.clicks import ClickLists, clicked_lists
from repos.ranker.features import FeatureSpace
from repos.ranker.model import Parameters
from repos.ranker.tests.conftest import Collection
from shared_ops.data import tables
from shared_ops.data.text import normalise
from shared_ops.release.inputs import Asked

HITS = {"keyword": [("sort-array", 3.0), ("plot-array", 2.0), ("group-table", 1.0)]}

Learn = Callable[..., ClickLists]


@pytest.fixture(scope="module")
def space(collection: Collection) -> FeatureSpace:
    return FeatureSpace.build(collection.documents, {"keyword": 1.0})


@pytest.fixture
def learn(space: FeatureSpace) -> Learn:
    """learn(rows, ...) gives the lists of rows (text, doc_id, relevance, examinations), or with a fold at the end."""

    def lists(
        *rows: tuple[Any, ...],
        hits: dict[str, tables.Hits] = HITS,
        unknown: Sequence[str] = (),
        held_out: Iterable[str] = (),
        **parameters: Any,
    ) -> ClickLists:
        folded = [(*row, 0)[:5] for row in rows]
        judged = tables.make("judged", [
            {"query_id": f"{text}!", "text": text, "doc_id": doc_id, "fold": fold, "relevance": relevance,
             "examinations": looks}
            for text, doc_id, relevance, looks, fold in folded
        ])  # fmt: skip
        pages = {(text, fold) for text, *_, fold in folded if text not in unknown}
        asked = [Asked(f"{text}!", fold, text, hits) for text, fold in pages]
        return clicked_lists(judged, asked, space, set(held_out), Parameters(**parameters))

    return lists


def page(
    text: str, clicked: float = 0.9, looks: float = 10.0, fold: int = 0
) -> list[tuple[str, str, float, float, int]]:
    """A query's page whose second document was clicked."""
    relevances = {"sort-array": 0.1, "plot-array": clicked, "group-table": 0.1}
    return [(text, doc_id, relevance, looks, fold) for doc_id, relevance in relevances.items()]


def test_a_page_becomes_a_list_with_the_features_of_what_was_found(learn: Learn, space: FeatureSpace) -> None:
    clicked = learn(*page("Sort it!"))
    assert clicked.lists.query_ids == ["sort it"]
    assert clicked.lists.doc_ids == [["plot-array", "sort-array", "group-table"]]  # what was clicked stands first
    grades = clicked.lists.grades[0].tolist()
    assert grades[0] > 0.5 and grades[1:] == [0.0, 0.0]
    candidates = space.candidates("Sort it!", HITS)
    computed = dict(zip(candidates.doc_ids, candidates.features.tolist(), strict=True))
    assert clicked.lists.features[0].tolist() == [computed[doc_id] for doc_id in clicked.lists.doc_ids[0]]
    assert clicked.notes() == {
        "clicked/lists": 1,
        "clicked/documents": 3,
        "clicked/examinations": 30.0,
        "clicked/left out: of dev or test": 0,
        "clicked/left out: of unknown hits": 0,
        "clicked/left out: of no clear click": 0,
        "clicked/left out: of too little evidence": 0,
    }


def test_what_was_not_shown_is_not_in_the_list_and_counts_in_its_features(learn: Learn, space: FeatureSpace) -> None:
    more = {"keyword": [*HITS["keyword"], ("merge-graph", 0.0)]}
    (features,) = learn(*page("sort"), hits=more).lists.features
    assert len(features) == 3
    assert not np.array_equal(features, learn(*page("sort")).lists.features[0], equal_nan=True)


def test_each_fold_of_the_sessions_makes_a_list_of_its_own(learn: Learn) -> None:
    clicked = learn(*page("Sort it", fold=0), *page("Sort it", looks=50.0, fold=3))
    assert clicked.lists.query_ids == ["sort it", "sort it"]
    assert clicked.examinations.tolist() == [150.0, 30.0]


def test_what_is_clicked_no_more_than_anything_is_no_answer(learn: Learn) -> None:
    noise = learn(*page("one", clicked=0.9), *page("two", clicked=0.3))
    assert noise.lists.query_ids == ["one"]
    assert noise.left_out["of no clear click"] == 1


def test_a_page_of_which_everything_was_clicked_says_nothing_of_its_order(learn: Learn) -> None:
    everything = [("all", doc_id, 0.9, 10.0) for doc_id in ("sort-array", "plot-array", "group-table")]
    assert learn(*everything, *page("one"), *page("two")).lists.query_ids == ["one", "two"]


def test_held_out_queries_are_known_by_their_words_and_left_out(learn: Learn) -> None:
    clicked = learn(*page("Sort, the ARRAY"), *page("other"), held_out={normalise("sort the array?")})
    assert clicked.lists.query_ids == ["other"]
    assert clicked.left_out["of dev or test"] == 1


def test_queries_whose_hits_are_not_known_are_left_out(learn: Learn) -> None:
    clicked = learn(*page("one"), *page("two"), unknown=["one"])
    assert clicked.lists.query_ids == ["two"]
    assert clicked.left_out["of unknown hits"] == 1


def test_more_evidence_weighs_more_and_never_more_than_a_judgement(learn: Learn) -> None:
    clicked = learn(*page("a", looks=1.0), *page("b", looks=10.0), *page("c", looks=10_000.0), click_evidence=30.0)
    by_query = dict(zip(clicked.lists.query_ids, clicked.weights(100, Parameters(click_evidence=30.0)), strict=True))
    assert by_query["b"] == 0.5
    assert 0 < by_query["a"] < by_query["b"] < by_query["c"] < 1
    half = clicked.weights(100, Parameters(click_evidence=30.0, click_weight=0.5))
    np.testing.assert_allclose(half, clicked.weights(100, Parameters(click_evidence=30.0)) / 2, rtol=1e-6)


def test_however_much_is_clicked_judgements_keep_their_weight(learn: Learn) -> None:
    clicked = learn(*(row for n in range(40) for row in page(f"query {n}")))
    assert clicked.weights(10, Parameters()).sum() == pytest.approx(10.0)
    assert clicked.weights(10_000, Parameters()).sum() < 40


def test_the_lists_of_most_evidence_are_kept(learn: Learn) -> None:
    clicked = learn(*(row for n in range(9) for row in page(f"query {n}", looks=n + 1.0)), click_lists=2)
    assert clicked.lists.query_ids == ["query 8", "query 7"]
    assert clicked.left_out["of too little evidence"] == 7


def test_no_weight_and_no_feedback_are_nothing_to_learn(learn: Learn) -> None:
    assert learn(*page("one"), click_weight=0.0).lists.query_ids == []
    assert learn().weights(10, Parameters()).tolist() == []
