import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from repos.ranker.features import FeatureSpace, stems
from repos.ranker.tests.conftest import Collection, unions
from shared_ops.data.tables import Hits
from shared_ops.judge.fusion import min_max_fusion

FAMILIES = {"behavior": 0.1, "keyword": 0.5, "semantic": 0.4}
HITS = {
    "keyword": [("sort-array", 30.0), ("plot-array", 20.0), ("sort-table", 10.0)],
    "semantic": [("plot-array", 0.9), ("group-table", 0.5)],
    "behavior": [],
}


@pytest.fixture(scope="module")
def space(collection: Collection) -> FeatureSpace:
    return FeatureSpace.build(collection.documents, FAMILIES)


def column(space: FeatureSpace, text: str, hits: Mapping[str, Hits], name: str) -> dict[str, float]:
    candidates = space.candidates(text, hits)
    return dict(zip(candidates.doc_ids, candidates.features[:, space.names.index(name)].tolist(), strict=True))


def test_every_column_has_a_name(space: FeatureSpace, hits: dict[str, pl.DataFrame], collection: Collection) -> None:
    candidates = space.candidates("sort an array", unions(hits, collection.ids("test")[:1])[0])
    assert candidates.features.shape == (len(candidates.doc_ids), len(space.names))
    assert candidates.features.dtype == np.float32
    assert len(set(space.names)) == len(space.names)
    assert np.isfinite(candidates.features).all()


def test_the_first_columns_add_up_to_min_max_fusion(space: FeatureSpace) -> None:
    candidates = space.candidates("", HITS)
    fused = dict(zip(candidates.doc_ids, candidates.features[:, : len(FAMILIES)].sum(axis=1), strict=True))
    assert fused == pytest.approx(dict(min_max_fusion(HITS)))


def test_what_is_like_the_best_of_what_was_found_stands_out(space: FeatureSpace, collection: Collection) -> None:
    found = {"keyword": [("sort-array", 5.0), ("sort-matrix", 4.9), ("plot-graph", 1.0), ("sort-graph", 1.0)]}
    alike = column(space, "", found, "like the best")
    assert min(alike.values()) == 0.0 and max(alike.values()) == 1.0
    assert alike["sort-graph"] > alike["plot-graph"], "it shares a word with the two best"
    alone = column(space, "", {"keyword": [("sort-array", 5.0)]}, "like the best")
    assert alone == {"sort-array": 0.0}, "nothing is like itself"
    assert column(space, "", {"keyword": [("sort-array", 5.0), ("new", 4.0)]}, "like the best")["new"] == 0.0


def test_what_is_like_the_best_is_the_cosine_of_idf_weighted_terms(space: FeatureSpace, collection: Collection) -> None:
    found = [("sort-array", 3.0), ("sort-table", 2.0), ("plot-graph", 1.0)]
    weights = {"sort-array": 0.5, "sort-table": 0.25, "plot-graph": 0.0}  # scaled scores by trust in keyword
    idf = dict(zip(space.vocabulary, space.arrays["idf"].tolist(), strict=True))
    terms = {
        doc_id: {("title", stem) for stem in stems(title, 99)} | {("text", stem) for stem in stems(text, 99)}
        for doc_id, title, text in collection.documents.select("doc_id", "title", "text").iter_rows()
    }

    def cosine(one: str, other: str) -> float:
        common, *lengths = (
            sum(float(idf[stem]) ** 2 for _, stem in each)
            for each in (terms[one] & terms[other], terms[one], terms[other])
        )
        return common / math.sqrt(lengths[0] * lengths[1])

    raw = {one: sum(weights[other] * cosine(one, other) for other in weights if other != one) for one in weights}
    low, high = min(raw.values()), max(raw.values())
    assert column(space, "", {"keyword": found}, "like the best") == pytest.approx(
        {doc_id: (value - low) / (high - low) for doc_id, value in raw.items()}, abs=1e-5
    )


def test_ranks_and_presence(space: FeatureSpace) -> None:
    assert column(space, "", HITS, "reciprocal: keyword") == pytest.approx(
        {"sort-array": 1.0, "plot-array": 1 / 2, "sort-table": 1 / 3, "group-table": 0.0}
    )
    assert column(space, "", HITS, "found: semantic") == {
        "sort-array": 0.0, "plot-array": 1.0, "sort-table": 0.0, "group-table": 1.0,
    }  # fmt: skip


def test_agreement_is_how_many_models_found_it_and_how_near_the_ranks(space: FeatureSpace) -> None:
    assert column(space, "", HITS, "share found")["plot-array"] == pytest.approx(2 / 3)
    near = {"keyword": [("a", 2.0), ("b", 1.0)], "semantic": [("a", 2.0), ("b", 1.0)]}
    far = {"keyword": [("a", 2.0), ("b", 1.0)], "semantic": [("b", 2.0), ("a", 1.0)]}
    apart = "ranks apart: keyword and semantic"
    assert column(space, "", near, apart)["a"] == 0 < column(space, "", far, apart)["a"]


def test_a_family_that_is_down_is_one_that_found_nothing(space: FeatureSpace) -> None:
    down = {family: hits for family, hits in HITS.items() if family != "behavior"}
    np.testing.assert_array_equal(space.candidates("sort", down).features, space.candidates("sort", HITS).features)


def test_terms_meet_by_stem_in_title_and_text(space: FeatureSpace) -> None:
    covers = column(space, "sorting arrays", HITS, "title covers")
    assert covers["sort-array"] == pytest.approx(1.0)
    assert 0 < covers["sort-table"] < 1
    assert covers["group-table"] == 0
    assert column(space, "leaves the old one", HITS, "bigrams in text")["sort-array"] == pytest.approx(1.0)


def test_a_rare_term_weighs_more_than_a_common_one(space: FeatureSpace) -> None:
    covers = column(space, "function array", HITS, "text covers")
    assert covers["plot-array"] > 0.5 > covers["group-table"] > 0


def test_what_no_document_holds_covers_nothing(space: FeatureSpace) -> None:
    assert max(column(space, "zyzzyva", HITS, "text covers").values()) == 0
    assert set(column(space, "zyzzyva", HITS, "query unknown share").values()) == {1.0}


def test_identifiers_are_taken_apart_and_counted() -> None:
    assert stems("DataFrame.groupby_rows", 9) == ["data", "frame", "groupbi", "row"]


@pytest.mark.parametrize(
    ("text", "share"), [("numpy.linalg", 1.0), ("read_csv fast", 0.5), ("KMeans", 1.0), ("Sort it.", 0.0), ("", 0.0)]
)
def test_what_looks_like_an_identifier(space: FeatureSpace, text: str, share: float) -> None:
    assert set(column(space, text, HITS, "query identifier share").values()) == {share}


def test_a_document_newer_than_the_release_has_hits_but_no_document_features(space: FeatureSpace) -> None:
    candidates = space.candidates("sort an array", {"keyword": [("sort-array", 2.0), ("new", 1.0)]})
    known, new = candidates.features
    assert np.isfinite(known).all()
    missing = {name for name, value in zip(space.names, new, strict=True) if np.isnan(value)}
    assert {"title covers", "log text length", "source: library-0"} <= missing
    assert not any(name.endswith(tuple(FAMILIES)) or name.startswith("query") for name in missing)


def test_no_hits_are_no_rows(space: FeatureSpace) -> None:
    assert space.candidates("sort", {}).doc_ids == []


@pytest.mark.parametrize(
    "text",
    ["", " ", "sort " * 20_000, "x" * 100_000, "数组排序 مصفوفة массив", "\x00\x01\x1b[31m", "<b>sort</b>", "🙂"],
    ids=["empty", "blank", "100 kB", "one word of 100 kB", "non-Latin", "control", "markup", "emoji"],
)
def test_any_text_is_legal(space: FeatureSpace, text: str) -> None:
    assert np.isfinite(space.candidates(text, HITS).features).all()


def test_hits_of_a_family_it_does_not_know_are_refused(space: FeatureSpace) -> None:
    with pytest.raises(ValueError, match="clairvoyant: expected hits of behavior, keyword, semantic"):
        space.candidates("sort", {"clairvoyant": [("sort-array", 1.0)]})


def test_a_score_that_is_no_number_is_refused(space: FeatureSpace) -> None:
    with pytest.raises(ValueError, match="finite"):
        space.candidates("sort", {"keyword": [("sort-array", float("nan"))]})


def test_saved_and_loaded_it_computes_the_same(
    space: FeatureSpace, tmp_path: Path, hits: dict[str, pl.DataFrame], collection: Collection
) -> None:
    space.save(tmp_path)
    loaded = FeatureSpace.load(tmp_path)
    union = unions(hits, collection.ids("test")[:1])[0]
    assert loaded.names == space.names
    before, after = (each.candidates("sort an array", union) for each in (space, loaded))
    np.testing.assert_array_equal(before.features, after.features)
    assert before.doc_ids == after.doc_ids


def test_the_order_of_the_documents_table_changes_nothing(space: FeatureSpace, collection: Collection) -> None:
    shuffled = FeatureSpace.build(collection.documents.sample(fraction=1, shuffle=True, seed=3), FAMILIES)
    np.testing.assert_array_equal(shuffled.candidates("sort", HITS).features, space.candidates("sort", HITS).features)
    assert isinstance(collection.documents, pl.DataFrame)
