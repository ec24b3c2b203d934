import time

import numpy as np
import pytest

from repos.semantic.head import Head
from repos.semantic.model import Parameters, SemanticModel, load
from repos.semantic.tests.conftest import Tables
from repos.semantic.train import train


@pytest.fixture(scope="module")
def model(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> SemanticModel:
    folder = tmp_path_factory.mktemp("release")
    train(*tables, Parameters(adapt="none")).model.save(folder)
    return load(folder)


def test_finds_by_meaning(model: SemanticModel) -> None:
    ((best, score), *_) = model.search(["what weekday is it"], 3)[0]
    assert best == "dates-2"
    assert 0 < score <= 1


def test_many_texts_are_answered_as_each_alone(model: SemanticModel) -> None:
    texts = ["sort values", "", "find clusters", "invert a matrix " * 30]
    together = model.search(texts, 5)
    alone = [model.search([text], 5)[0] for text in texts]
    assert [[doc for doc, _ in hits] for hits in together] == [[doc for doc, _ in hits] for hits in alone]
    for left, right in zip(together, alone, strict=True):
        assert [score for _, score in left] == pytest.approx([score for _, score in right], abs=1e-6)


@pytest.mark.parametrize("learned", [False, True])
def test_embedded_texts_are_the_vectors_that_search_compares(model: SemanticModel, learned: bool) -> None:
    width = len(model.head.query)
    query = np.random.default_rng(0).normal(0, 0.05, (width, width)).astype(np.float32) * learned
    model = SemanticModel(model.encoder, Head(query, model.head.document), model.index, model.doc_ids, model.origin)
    texts = ["sort values", "", "find clusters", "invert a matrix " * 30]
    vectors = model.embed(texts)
    assert vectors.shape == (4, width)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 1, 1], abs=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert model.embed([text])[0] == pytest.approx(vector, abs=1e-6)
        _, scores = model.index.search(vector[None], 3)
        expected = [score for _, score in model.search([text], 3)[0]]
        assert scores[0].tolist()[: len(expected)] == pytest.approx(expected, abs=1e-6)
    assert model.embed([]).shape == (0, width)


@pytest.mark.parametrize("text", ["", "   ", "\x00\x01\x02", "\N{GRINNING FACE}" * 3, "x" * 100_000])
def test_a_text_without_a_known_word_gives_nothing(model: SemanticModel, text: str) -> None:
    assert model.search([text], 5) == [[]]


@pytest.mark.parametrize("text", ["Привет мир", "数学", "<script>alert('x')</script>", "sort\x00values", "a " * 50_000])
def test_any_other_text_is_answered(model: SemanticModel, text: str) -> None:
    assert len(model.search([text], 5)[0]) == 5


def test_a_very_long_text_costs_no_more_than_the_encoder_reads(model: SemanticModel) -> None:
    model.search(["word " * 255], 5)
    start = time.process_time()
    long = model.search([" " * 50_000 + "sort values " * 100_000], 5)
    assert time.process_time() - start < 4
    assert long == model.search(["sort values " * 200], 5)


def test_at_most_k_and_at_least_one(model: SemanticModel) -> None:
    assert len(model.search(["sort"], 1)[0]) == 1
    assert len(model.search(["sort"], 1000)[0]) == 18
    with pytest.raises(ValueError, match="at least 1"):
        model.search(["sort"], 0)
