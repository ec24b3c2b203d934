from pathlib import Path

import numpy as np
import pytest

from repos.semantic.index import ApproximateIndex, ExactIndex, build, read_index

Corpus = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Vectors, where each document starts, and queries."""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """20,000 passages of 8,000 documents around 300 centres, and 50 queries near some of them."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(300, 48))
    vectors = centres[random.integers(0, 300, 20_000)] + 0.7 * random.normal(size=(20_000, 48))
    queries = vectors[random.integers(0, 20_000, 50)] + 0.3 * random.normal(size=(50, 48))
    starts = np.concatenate([[0], np.sort(random.choice(np.arange(1, 20_000), 7_999, replace=False))])
    return unit(vectors).astype(np.float16), starts.astype(np.int64), unit(queries).astype(np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def test_a_document_scores_as_its_best_passage() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float16)
    documents, scores = ExactIndex(vectors, np.array([0, 2])).search(np.array([[0, 1]], np.float32), 2)
    assert documents.tolist() == [[0, 1]]
    assert np.allclose(scores, [[1.0, 0.8]], atol=1e-3)


def test_equal_scores_stand_in_the_order_of_documents() -> None:
    index = ExactIndex(np.ones((6, 2), np.float16), np.arange(6))
    documents, _ = index.search(np.ones((1, 2), np.float32), 3)
    assert documents.tolist() == [[0, 1, 2]]


def test_exact_search_is_what_sorting_all_scores_gives(corpus: Corpus) -> None:
    vectors, starts, queries = corpus
    documents, scores = ExactIndex(vectors, starts).search(queries, 100)
    compared = np.maximum.reduceat(queries @ vectors.astype(np.float32).T, starts, axis=1)
    expected = np.argsort(-compared, axis=1, kind="stable")[:, :100]
    assert np.array_equal(documents, expected)
    assert np.allclose(scores, np.take_along_axis(compared, expected, axis=1))


def test_more_than_there_are_gives_all_there_are() -> None:
    documents, _ = ExactIndex(np.eye(3, dtype=np.float16), np.arange(3)).search(np.eye(3, dtype=np.float32), 10)
    assert documents.shape == (3, 3)


def test_faiss_takes_over_at_the_configured_size_and_agrees(corpus: Corpus) -> None:
    vectors, starts, queries = corpus
    exact, approximate = (build(vectors, starts, below, seed=0) for below in (20_001, 20_000))
    assert isinstance(exact, ExactIndex)
    assert isinstance(approximate, ApproximateIndex)
    theirs, their_scores = approximate.search(queries, 10)
    ours, our_scores = exact.search(queries, 10)
    overlaps = [len(set(left) & set(right)) / 10 for left, right in zip(ours.tolist(), theirs.tolist(), strict=True)]
    assert np.mean(overlaps) > 0.95
    assert np.allclose(their_scores[:, 0], our_scores[:, 0], atol=2e-3)
    assert all(len(set(row)) == 10 for row in theirs.tolist())


@pytest.mark.parametrize("below", [20_001, 20_000])
def test_an_index_is_read_back_and_its_bytes_are_always_the_same(corpus: Corpus, below: int, tmp_path: Path) -> None:
    vectors, starts, queries = corpus
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        build(vectors, starts, below, seed=0).write(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    read, made = read_index(tmp_path / "one"), build(vectors, starts, below, seed=0)
    assert np.array_equal(read.search(queries, 20)[0], made.search(queries, 20)[0])
