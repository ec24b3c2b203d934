import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from repos.behavior.clicks import learnable
from repos.behavior.model import BehaviorModel, Corpus, Parameters, load
from repos.behavior.tests.conftest import click
from shared_ops.data import tables

CLICKS = [
    click("q-sort", "order the values of an array", "d-sort", 9),
    click("q-sort", "order the values of an array", "d-argsort", 5),
    click("q-inverse", "invert a matrix", "d-inv", 9),
    click("q-cluster", "group similar points", "d-kmeans", 9),
    click("q-cluster", "group similar points", "d-plot", 0),
]


def fit(documents: pl.DataFrame, queries: pl.DataFrame, rows: list[dict[str, Any]], **parameters: Any) -> BehaviorModel:
    chosen = Parameters(**parameters)
    usable = learnable({"feedback": tables.make("clicks", rows)}, queries, documents, chosen.half_life)
    return BehaviorModel.fit(Corpus.of(documents), usable.clicks, chosen)


@pytest.fixture
def model(documents: pl.DataFrame, queries: pl.DataFrame) -> BehaviorModel:
    return fit(documents, queries, CLICKS)


def found(model: BehaviorModel, text: str) -> list[str]:
    return [doc_id for doc_id, _ in model.search([text], 10)[0]]


def test_a_query_gets_what_was_clicked_for_similar_ones_the_surest_first(model: BehaviorModel) -> None:
    assert found(model, "values of an array in order") == ["d-sort", "d-argsort", "d-inv"]


def test_what_was_shown_and_never_clicked_is_not_an_answer(model: BehaviorModel) -> None:
    assert "d-plot" not in found(model, "group points")


def test_misspelt_queries_find_their_neighbours(model: BehaviorModel) -> None:
    assert found(model, "inevrt a matirx")[0] == "d-inv"


def test_the_clicked_documents_words_bridge_queries_that_share_none(
    documents: pl.DataFrame, queries: pl.DataFrame
) -> None:
    assert found(fit(documents, queries, CLICKS, clicked_text=0.8), "clusters around centroids")[0] == "d-kmeans"
    assert "d-kmeans" not in found(fit(documents, queries, CLICKS, clicked_text=0.0, characters=0.0), "clusters")


def test_a_query_asked_often_has_no_louder_vote(documents: pl.DataFrame, queries: pl.DataFrame) -> None:
    rows = [
        click("a", "matrix methods of old", "d-solve", clicks=90, impressions=100),
        click("b", "matrix methods of new", "d-inv", clicks=9000, impressions=10000),
    ]
    (first, second) = fit(documents, queries, rows, clicked_text=0.0).search(["matrix methods"], 10)[0]
    assert first[1] < 1.5 * second[1]


def test_a_query_asked_again_is_answered_by_its_own_clicks_first_whatever_words_were_clicked(
    documents: pl.DataFrame, queries: pl.DataFrame
) -> None:
    rows = [
        click("v", "invert a square matrix", "d-plot"),  # a document that holds none of these words
        *(click(f"n{n}", f"inverse of the square matrix {n}", "d-inv") for n in range(20)),
    ]
    model = fit(documents, queries, rows)
    assert found(model, "Invert a  square MATRIX")[0] == "d-plot"
    assert found(model, "invert square matrices")[0] == "d-inv"


def test_ties_are_ordered_by_doc_id(documents: pl.DataFrame, queries: pl.DataFrame) -> None:
    rows = [click("q", "find the thing in the library", doc_id) for doc_id in ("d-sort", "d-fft", "d-plot")]
    (hits,) = fit(documents, queries, rows).search(["find the thing in the library"], 10)
    assert [doc_id for doc_id, _ in hits] == ["d-fft", "d-plot", "d-sort"]
    assert len({score for _, score in hits}) == 1


def test_at_most_k_documents_and_k_is_at_least_one(model: BehaviorModel) -> None:
    assert len(model.search(["values of an array in order"], 1)[0]) == 1
    with pytest.raises(ValueError, match="at least 1, got 0"):
        model.search(["array"], 0)


def test_a_query_is_answered_alike_alone_and_among_others(model: BehaviorModel) -> None:
    texts = [text for row in CLICKS for text in (row["text"], row["text"][:9], "nothing alike: zzz")] * 40
    assert model.search(texts, 5) == [model.search([text], 5)[0] for text in texts]
    assert model.search([], 5) == []


@pytest.mark.parametrize(
    "text",
    ["", " ", "\x00\x07\x1b[31m", "矩阵求逆", "עברית", "🙂", "<script>alert(1)</script>", "\ud800", "%s {} \\", "_"],
)
def test_any_text_is_legal(model: BehaviorModel, text: str) -> None:
    (hits,) = model.search([text], 10)
    assert all(score > 0 for _, score in hits)


def test_what_has_nothing_alike_finds_nothing(model: BehaviorModel) -> None:
    assert model.search(["", "矩阵求逆", "qqqq zzzz"], 10) == [[], [], []]


def test_a_pasted_file_is_read_in_part(model: BehaviorModel) -> None:
    assert found(model, "invert a matrix " * 7000)[0] == "d-inv"
    assert found(model, "qqqq " * 20_000 + "invert a matrix") == []


def test_a_saved_model_answers_the_same_and_two_trainings_write_the_same_bytes(
    model: BehaviorModel, documents: pl.DataFrame, queries: pl.DataFrame, tmp_path: Path
) -> None:
    again = fit(documents.reverse(), queries.reverse(), CLICKS[::-1])
    folders = [tmp_path / name for name in ("first", "second", "third")]
    for folder, each in zip(folders, (model, again), strict=False):
        folder.mkdir()
        each.save(folder)
    loaded = load(folders[0])
    folders[2].mkdir()
    loaded.save(folders[2])
    files = {path.name: path.read_bytes() for path in folders[0].iterdir()}
    assert {path.name: path.read_bytes() for path in folders[1].iterdir()} == files
    assert {path.name: path.read_bytes() for path in folders[2].iterdir()} == files
    texts = [*(row["text"] for row in CLICKS), "values in order", "pionts"]
    assert loaded.search(texts, 10) == model.search(texts, 10)
    assert loaded.parameters == model.parameters


def test_a_release_holds_numbers_and_json_and_no_one_elses_query(model: BehaviorModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert not any(b"group similar points" in path.read_bytes() for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "model.json").read_text())["parameters"]["neighbours"] == 50


def test_a_model_that_learned_no_click_answers_nothing_and_can_be_kept(
    documents: pl.DataFrame, queries: pl.DataFrame, tmp_path: Path
) -> None:
    empty = fit(documents, queries, [])
    empty.save(tmp_path)
    for each in (empty, load(tmp_path)):
        assert each.search(["invert a matrix", ""], 10) == [[], []]
        assert each.past_queries == 0


def test_documents_without_a_word_are_refused(documents: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="hold no word"):
        Corpus.of(documents.with_columns(title=pl.lit("!"), text=pl.lit("...")))
