"""The bounds that ranking is compared with: the best fixed weights in hindsight, and the perfect order."""

import numpy as np
import polars as pl
import pytest

from shared_ops.data import tables
from shared_ops.data.tables import Hits, hits_table
from shared_ops.judge import bounds
from shared_ops.judge.bounds import hindsight_weights, perfect_order
from shared_ops.judge.evaluation import PRIMARY, per_query
from shared_ops.judge.fusion import min_max_fusion

MODELS = ("a", "b", "c")
Found = list[dict[str, Hits]]


def searches(queries: int, seed: int) -> tuple[Found, list[dict[str, int]]]:
    """Made-up hits of three models and judgements: the first model is worth the most, the last nothing."""
    random = np.random.default_rng(seed)
    hits, grades = [], []
    for _ in range(queries):
        relevance = np.where(random.random(40) < 0.1, random.integers(1, 4, 40), 0)
        noise = dict(zip(MODELS, (1.0, 2.0, 50.0), strict=True))
        scores = {model: relevance + noise[model] * random.normal(size=40) for model in MODELS}
        hits.append(
            {model: [(f"d{n:02}", float(each[n])) for n in np.argsort(-each)[:15]] for model, each in scores.items()}
        )
        grades.append({f"d{n:02}": int(grade) for n, grade in enumerate(relevance) if grade})
    return hits, grades


def ndcg(hits: list[Hits], grades: list[dict[str, int]]) -> float:
    """The mean by the field's own tool."""
    rows = [
        {"query_id": f"q{number:03}", "doc_id": doc_id, "grade": grade}
        for number, judged in enumerate(grades)
        for doc_id, grade in judged.items()
    ]
    run = hits_table([f"q{number:03}" for number in range(len(hits))], hits)
    return float(np.mean(per_query(run, tables.make("qrels", rows))[PRIMARY].to_numpy()))


def test_no_fixed_weights_of_the_grid_are_better() -> None:
    hits, grades = searches(30, seed=0)
    best = hindsight_weights(hits, grades)
    assert sum(best.values()) == pytest.approx(1) and best["a"] > best["b"] > best["c"]
    reached = ndcg([min_max_fusion(each, best) for each in hits], grades)
    others = [
        {"a": a, "b": b, "c": round(1 - a - b, 2)}
        for a in np.arange(0, 1.01, 0.25)
        for b in np.arange(0, 1.01 - a, 0.25)
    ]
    assert all(ndcg([min_max_fusion(each, w) for each in hits], grades) <= reached + 1e-9 for w in others)
    assert reached >= ndcg([min_max_fusion(each) for each in hits], grades)


def test_equal_weights_are_taken_where_all_are_as_good() -> None:
    hits: Found = [{model: [("d1", 1.0)] for model in MODELS[:2]}]
    assert hindsight_weights(hits, [{"d1": 1}]) == {"a": 0.5, "b": 0.5}


def test_no_order_of_what_was_found_is_better_than_the_perfect_one() -> None:
    hits, grades = searches(20, seed=1)
    perfect = ndcg([perfect_order(*each) for each in zip(hits, grades, strict=True)], grades)
    assert perfect > ndcg([min_max_fusion(each, hindsight_weights(hits, grades)) for each in hits], grades)
    order = [
        doc_id for doc_id, _ in perfect_order({"a": [("x", 9.0), ("y", 1.0)], "b": [("z", 0.5)]}, {"z": 1, "y": 2})
    ]
    assert order == ["y", "z", "x"], "what nobody found is not in it, what is not judged comes last"


@pytest.mark.parametrize("models", range(1, 12))
def test_the_grid_is_bounded_for_any_number_of_models(models: int) -> None:
    grid = list(bounds._grid(models))
    assert 1 <= len(grid) <= bounds.MOST_WEIGHTS
    assert all(sum(weights) == pytest.approx(1) and len(weights) == models for weights in grid)


def test_queries_without_a_judgement_or_a_hit_count_nothing() -> None:
    hits: Found = [{"a": [("d1", 1.0)], "b": []}, {"a": [], "b": []}, {"a": [("d0", 1.0)], "b": [("d1", 1.0)]}]
    assert hindsight_weights(hits, [{}, {"d1": 1}, {"d1": 1}])["b"] > 0.5
    assert pl.Series(perfect_order({"a": [], "b": []}, {"d1": 1})).is_empty()
