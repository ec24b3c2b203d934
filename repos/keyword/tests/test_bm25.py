"""What BM25 computes: the published formula, and the same ranking as bm25s."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from repos.keyword.bm25 import TermCounts, TermIndex, WordCounts
from repos.keyword.model import KeywordModel, Parameters
from repos.keyword.tests.docstrings import collection
from repos.keyword.words import Tokenizer, words
from shared_ops.judge.training import answer
from shared_ops.settings import ROOT

COLLECTIONS = ROOT.parent / "shared" / "collections"
PLAIN = Tokenizer(stem=False, stop_words=False, identifiers=False)


def counted(titles: list[str], texts: list[str], tokenizer: Tokenizer = PLAIN) -> TermCounts:
    return TermCounts.of(WordCounts.of(titles, texts), tokenizer)


def score_of(index: TermIndex, counts: TermCounts, query: str) -> dict[int, float]:
    column = {term: place for place, term in enumerate(counts.terms)}
    documents, scores = index.search([[column[term] for term in query.split()]], index.size)
    return {int(row): float(score) for row, score in zip(documents[0], scores[0], strict=True) if row >= 0}


def test_a_score_is_the_published_formula() -> None:
    counts = counted(["red", "blue", "green"], ["red red car", "blue car boat", "sea"])
    scores = score_of(TermIndex.of(counts, k1=1.5, b=0.6, title_weight=2.0), counts, "red car")
    frequency, length, average = {"red": 2.0 * 1 + 2, "car": 1.0}, 2.0 * 1 + 3, (5 + 5 + 3) / 3
    idf = {"red": np.log(1 + (3 - 1 + 0.5) / 1.5), "car": np.log(1 + (3 - 2 + 0.5) / 2.5)}
    half = 1.5 * (1 - 0.6 + 0.6 * length / average)
    expected = sum(idf[term] * frequency[term] / (frequency[term] + half) for term in ("red", "car"))
    assert scores[0] == pytest.approx(expected, rel=1e-6)
    assert set(scores) == {0, 1}


def test_a_term_of_the_query_counts_as_often_as_it_stands_there() -> None:
    counts = counted(["", ""], ["red car", "blue boat"])
    index = TermIndex.of(counts, k1=1.2, b=0.75, title_weight=1.0)
    assert score_of(index, counts, "red red")[0] == pytest.approx(2 * score_of(index, counts, "red")[0])


def test_stop_words_count_for_no_length_but_can_be_found() -> None:
    tokenizer = Tokenizer(stem=False)
    counts = counted(["", ""], ["where the car is", "boat"], tokenizer)
    assert counts.text_length.tolist() == [1.0, 1.0]
    assert [term for term, stop in zip(counts.terms, counts.stopped, strict=True) if stop] == ["is", "the", "where"]
    assert set(score_of(TermIndex.of(counts, 1.2, 0.75, 1.0), counts, "where")) == {0}


def test_equal_scores_keep_the_order_of_the_documents_at_every_depth() -> None:
    counts = counted([""] * 9, ["red car"] * 5 + ["red"] * 4)
    index = TermIndex.of(counts, k1=1.2, b=0.75, title_weight=1.0)
    column = [counts.terms.index("red")]
    every = index.search([column], 9)[0][0].tolist()
    assert every == [5, 6, 7, 8, 0, 1, 2, 3, 4]
    for depth in range(1, 9):
        assert index.search([column], depth)[0][0].tolist() == every[:depth]


def test_many_threads_find_what_one_finds() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"term{number}" for number in range(50)]
    texts = [" ".join(rng.choice(vocabulary, 20)) for _ in range(300)]
    counts = counted([""] * 300, texts)
    index = TermIndex.of(counts, k1=1.2, b=0.75, title_weight=1.0)
    queries = [rng.integers(0, len(counts.terms), 5).tolist() for _ in range(500)]
    one, many = (index.search(queries, 20, threads=threads) for threads in (1, 4))
    assert np.array_equal(one[0], many[0]) and np.array_equal(one[1], many[1])


def test_the_best_are_those_of_the_dense_product() -> None:
    rng = np.random.default_rng(1)
    vocabulary = [f"term{number}" for number in range(40)]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(1, 30))) for _ in range(200)]
    counts = counted([""] * 200, texts)
    index = TermIndex.of(counts, k1=0.9, b=0.4, title_weight=1.0)
    dense = np.zeros((200, len(counts.terms)), np.float32)
    for term in range(len(counts.terms)):
        part = slice(index.starts[term], index.starts[term + 1])
        dense[index.documents[part], term] = index.scores[part]
    for query in ([0], [3, 5], [1, 1, 7, 12, 30]):
        totals = dense[:, sorted(query)].sum(axis=1)
        documents, scores = index.search([query], 15)
        assert np.allclose(scores[0], np.sort(totals)[::-1][:15], rtol=1e-6)
        assert np.allclose(totals[documents[0]], scores[0], rtol=1e-6)


def test_documents_without_words_are_refused() -> None:
    for nothing in ("", "!!! ---", "___"):
        with pytest.raises(ValueError, match="No document holds a word"):
            counted([""], [nothing])


def bm25s_hits(
    documents: pl.DataFrame, queries: pl.DataFrame, tokenizer: Tokenizer, k1: float, b: float
) -> dict[str, Any]:
    """The run of bm25s on title and text as one text, cut into the same terms."""
    import bm25s

    def cut(text: str) -> list[str]:
        return [term for word in words(text) for term in tokenizer.terms(word) if term not in tokenizer.stopped]

    engine = bm25s.BM25(k1=k1, b=b, method="lucene")
    texts = documents.select(pl.concat_str("title", "text", separator=" ")).to_series().to_list()
    engine.index([cut(text) for text in texts], show_progress=False)
    doc_ids, scores = engine.retrieve(
        [cut(text) for text in queries["text"]], corpus=documents["doc_id"].to_numpy(), k=100, show_progress=False
    )
    return {
        query: {doc_id: float(score) for doc_id, score in zip(*row, strict=True) if score > 0}
        for query, *row in zip(queries["query_id"], doc_ids, scores, strict=True)
    }


def compare(documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, parameters: Parameters) -> None:
    import ir_measures

    choice = parameters.choice()
    documents = documents.sort("doc_id")
    counts = WordCounts.of(documents["title"].to_list(), documents["text"].to_list())
    model = KeywordModel.build(documents["doc_id"].to_list(), counts, choice)
    ours: dict[str, dict[str, float]] = {}
    for query, doc_id, score in answer(model, queries).select("query_id", "doc_id", "score").iter_rows():
        ours.setdefault(query, {})[doc_id] = score
    theirs = bm25s_hits(documents, queries, choice.tokenizer, choice.k1, choice.b)
    judged: dict[str, dict[str, int]] = {}
    for query, doc_id, grade in qrels.filter(pl.col("query_id").is_in(queries["query_id"].to_list())).iter_rows():
        judged.setdefault(query, {})[doc_id] = grade
    ours_measured, theirs_measured = (
        ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.R @ 100], judged, run)[ir_measures.nDCG @ 10]
        for run in (ours, theirs)
    )
    assert theirs_measured > 0.3  # the comparison is of something that works
    assert ours_measured == pytest.approx(theirs_measured, abs=0.0005)


@pytest.mark.parametrize(
    "parameters",
    [
        Parameters(),
        Parameters(stem=False, stop_words=False, identifiers=False, k1=0.9, b=0.4),
        Parameters(stop_words=False, k1=2.0, b=0.9),
    ],
    ids=["default", "plain", "long"],
)
def test_ranking_is_as_good_as_bm25s(parameters: Parameters) -> None:
    compare(*collection("numpy.lib"), parameters)


@pytest.mark.parametrize("name", ["cranfield", "cisi"])
def test_ranking_is_as_good_as_bm25s_on_public_collections(name: str) -> None:
    folder = COLLECTIONS / name
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    corpus = pl.read_ndjson(folder / "corpus.jsonl", schema={"_id": pl.String, "title": pl.String, "text": pl.String})
    all_queries = pl.read_ndjson(folder / "queries.jsonl", schema={"_id": pl.String, "text": pl.String})
    qrels = pl.read_csv(
        folder / "qrels" / "test.tsv", separator="\t", schema_overrides=[pl.String, pl.String, pl.Int64]
    )
    qrels = qrels.rename({"query-id": "query_id", "corpus-id": "doc_id", "score": "grade"}).filter(pl.col("grade") > 0)
    queries = all_queries.rename({"_id": "query_id"}).filter(pl.col("query_id").is_in(qrels["query_id"].to_list()))
    compare(corpus.rename({"_id": "doc_id"}), queries, qrels, Parameters())
