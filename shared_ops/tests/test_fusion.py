from collections.abc import Callable, Mapping

import pytest

from shared_ops.data.tables import Hits
from shared_ops.judge.fusion import min_max_fusion, reciprocal_rank_fusion

HITS = {
    "keyword": [("a", 30.0), ("b", 20.0), ("c", 10.0)],
    "semantic": [("b", 0.9), ("d", 0.5)],
    "behavior": [],
}


def test_rrf_adds_the_reciprocal_of_each_rank_plus_60() -> None:
    fused = dict(reciprocal_rank_fusion(HITS))
    assert fused["b"] == pytest.approx(1 / 62 + 1 / 61)
    assert fused["a"] == pytest.approx(1 / 61)
    assert fused["d"] == pytest.approx(1 / 62)


def test_rrf_puts_the_document_that_two_models_found_first() -> None:
    assert [doc for doc, _ in reciprocal_rank_fusion(HITS)] == ["b", "a", "d", "c"]


def test_rrf_looks_at_ranks_alone() -> None:
    scaled = {family: [(doc, score * 1000 - 7) for doc, score in hits] for family, hits in HITS.items()}
    assert reciprocal_rank_fusion(scaled) == reciprocal_rank_fusion(HITS)


def test_a_smaller_k_weighs_the_first_rank_more() -> None:
    hits = {"x": [("top", 1.0), ("both", 0.5)], "y": [("other", 1.0), ("z", 0.7), ("both", 0.5)]}
    assert reciprocal_rank_fusion(hits, k=60)[0][0] == "both"
    assert reciprocal_rank_fusion(hits, k=0)[0][0] in {"top", "other"}
    with pytest.raises(ValueError, match="k >= 0"):
        reciprocal_rank_fusion(hits, k=-1)


def test_min_max_scales_each_list_to_0_1_before_adding() -> None:
    assert dict(min_max_fusion(HITS)) == pytest.approx({"a": 1.0, "b": 0.5 + 1.0, "c": 0.0, "d": 0.0})


def test_min_max_does_not_depend_on_a_models_scale() -> None:
    scaled = {family: [(doc, score * 1000 - 7) for doc, score in hits] for family, hits in HITS.items()}
    assert dict(min_max_fusion(scaled)) == pytest.approx(dict(min_max_fusion(HITS)))


def test_equal_scores_count_one_each() -> None:
    assert min_max_fusion({"keyword": [("b", 3.0), ("a", 3.0)]}) == [("a", 1.0), ("b", 1.0)]


def test_ties_are_broken_by_doc_id() -> None:
    assert [doc for doc, _ in reciprocal_rank_fusion({"x": [("b", 1.0)], "y": [("a", 1.0)]})] == ["a", "b"]


@pytest.mark.parametrize("fuse", [reciprocal_rank_fusion, min_max_fusion])
def test_no_hits_fuse_to_no_hits(fuse: Callable[[Mapping[str, Hits]], Hits]) -> None:
    assert fuse({}) == []
    assert fuse({"keyword": []}) == []
