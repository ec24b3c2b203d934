"""BM25 over a weighted title and text: counting, weighting, and finding the best documents of many queries at once.

Scores are computed when the index is built (eager scoring, as in BM25S: Lù 2024, arXiv 2407.03618), so a query only
adds up numbers. Knows no files, no tuning, and nothing of how a tokenizer works.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repos.keyword.words import Tokenizer, words

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_CHUNK = 64  # for fewer queries than this, another thread costs more than it saves

NO_WORD = "No document holds a word: expected documents with words in title or text. Look at the sources."


@dataclass(frozen=True)
class WordCounts:
    """How often each word stands in each document's title and text, before any tokenizer: counted once."""

    words: list[str]
    title: Any
    """scipy CSR matrix, documents by words."""
    text: Any

    @classmethod
    def of(cls, titles: Sequence[str], texts: Sequence[str]) -> "WordCounts":
        """Count the words of documents, given as their titles and, in the same order, their texts.

        Raises:
            ValueError: when no document holds a word.
        """
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(analyzer=words, dtype=np.float32)
        try:
            counts = counter.fit_transform([*titles, *texts])
        except ValueError as error:
            raise ValueError(NO_WORD) from error
        return cls(counter.get_feature_names_out().tolist(), counts[: len(titles)], counts[len(titles) :])


@dataclass(frozen=True)
class TermCounts:
    """How often each term of one tokenizer stands in each document's title and text."""

    terms: list[str]
    """Sorted; a term's place is its column."""
    stopped: NDArray[np.bool_]
    """Per term: whether it is a stop word. Stop words do not count towards a document's length."""
    title: Any
    """scipy CSC matrix, documents by terms."""
    text: Any
    title_length: NDArray[np.float32]
    """Terms per document."""
    text_length: NDArray[np.float32]
    frequency: NDArray[np.int64]
    """Per term: the number of documents that hold it."""

    @classmethod
    def of(cls, counts: WordCounts, tokenizer: Tokenizer) -> "TermCounts":
        """The counts of a tokenizer's terms: the word counts times a matrix of which terms each word stands for.

        Raises:
            ValueError: when no word stands for a term.
        """
        from scipy.sparse import csr_matrix

        terms_of = [tokenizer.terms(word) for word in counts.words]
        terms = sorted({term for word_terms in terms_of for term in word_terms})
        if not terms:
            raise ValueError(NO_WORD)
        column = {term: place for place, term in enumerate(terms)}
        columns = [column[term] for word_terms in terms_of for term in word_terms]
        bounds = np.cumsum([0, *map(len, terms_of)])
        ones = np.ones(len(columns), np.float32)
        stands_for = csr_matrix((ones, columns, bounds), shape=(len(terms_of), len(terms)))
        title, text = (counts.title @ stands_for).tocsc(), (counts.text @ stands_for).tocsc()
        stopped = np.array([term in tokenizer.stopped for term in terms], bool)
        telling = (~stopped).astype(np.float32)
        frequency = np.diff((title + text).indptr).astype(np.int64)
        return cls(terms, stopped, title, text, title @ telling, text @ telling, frequency)

    def only(self, columns: NDArray[np.int64]) -> "TermCounts":
        """The counts of the terms in these columns, with the whole documents' lengths: enough to score those terms."""
        terms = [self.terms[column] for column in columns]
        title, text, frequency = self.title[:, columns], self.text[:, columns], self.frequency[columns]
        return TermCounts(terms, self.stopped[columns], title, text, self.title_length, self.text_length, frequency)


@dataclass(frozen=True)
class TermIndex:
    """What each term adds to each document's score: a sparse matrix by columns (CSC), as its three arrays."""

    starts: NDArray[np.int64]
    """Where each term's documents start in `documents`; one more than there are terms."""
    documents: NDArray[np.uint32]
    scores: NDArray[np.float32]
    size: int
    """The number of documents."""

    @classmethod
    def of(cls, counts: TermCounts, k1: float, b: float, title_weight: float) -> "TermIndex":
        """BM25 with weighted fields and Lucene's idf.

        Frequencies and lengths are summed over the fields by weight, then saturated once (Robertson, Zaragoza and
        Taylor 2004; Robertson and Zaragoza 2009, section 3.6). With a title weight of 1 this is BM25 of title and text
        read as one text, as computed by Lucene (Kamphuis et al. 2020).
        """
        size = counts.text.shape[0]
        frequency = (counts.title * np.float32(title_weight) + counts.text).tocsc()
        frequency.sort_indices()
        length = counts.title_length * np.float32(title_weight) + counts.text_length
        relative = length / max(float(length.mean()), 1e-9)
        half = k1 * (1 - b + b * relative)
        idf = np.log1p((size - counts.frequency + 0.5) / (counts.frequency + 0.5))
        saturated = frequency.data / (frequency.data + half[frequency.indices])
        scores = (saturated * np.repeat(idf, np.diff(frequency.indptr))).astype(np.float32)
        return cls(frequency.indptr.astype(np.int64), frequency.indices.astype(np.uint32), scores, size)

    def search(
        self, queries: Sequence[Sequence[int]], k: int, threads: int = THREADS
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best documents of each query: two arrays of len(queries) by k, best first.

        A query is a list of columns, one for each time that a term stands in it. Equal scores keep the documents'
        order. Where fewer than k documents hold a term of the query, the rest is -1 with score 0. The result does not
        depend on `threads`.
        """
        bounds = np.zeros(len(queries) + 1, np.int64)
        np.cumsum([len(query) for query in queries], out=bounds[1:])
        terms = np.fromiter((term for query in queries for term in sorted(query)), np.int64, int(bounds[-1]))
        keys = np.zeros((len(queries), k), np.uint64)

        def part(first: int, last: int) -> None:
            _kernel()(
                self.starts, self.documents, self.scores, self.size, terms, bounds[first : last + 1], keys[first:last]
            )

        step = max(_CHUNK, -(-len(queries) // max(threads, 1)))
        parts = [(first, min(first + step, len(queries))) for first in range(0, len(queries), step)]
        if len(parts) == 1:
            part(*parts[0])
        elif parts:
            with ThreadPoolExecutor(len(parts)) as pool:
                list(pool.map(part, *zip(*parts, strict=True)))
        documents = np.where(keys > 0, 0xFFFFFFFF - (keys & np.uint64(0xFFFFFFFF)).astype(np.int64), -1)
        return documents, (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)


def _best(
    starts: NDArray[np.int64],
    documents: NDArray[np.uint32],
    scores: NDArray[np.float32],
    size: int,
    terms: NDArray[np.int64],
    bounds: NDArray[np.int64],
    keys: NDArray[np.uint64],
) -> None:
    """Fill `keys` (queries by k) with each query's best documents, best first, as score bits << 32 | ~document.

    A positive float's bits order as the float does, so one integer holds score and tie-break, and a heap of integers
    keeps the best k.
    """
    k = keys.shape[1]
    sums = np.empty(size, np.float32)
    bits = sums.view(np.uint32)
    for query in range(len(bounds) - 1):
        sums[:] = 0
        for term in terms[bounds[query] : bounds[query + 1]]:
            for at in range(starts[term], starts[term + 1]):
                sums[documents[at]] += scores[at]
        heap = keys[query]
        floor = np.uint32(0)
        for document in range(size):
            if bits[document] > floor:
                key = (np.uint64(bits[document]) << np.uint64(32)) | np.uint64(0xFFFFFFFF - document)
                place = 0
                child = 1
                while child < k:
                    if child + 1 < k and heap[child + 1] < heap[child]:
                        child += 1
                    if heap[child] >= key:
                        break
                    heap[place] = heap[child]
                    place = child
                    child = 2 * place + 1
                heap[place] = key
                floor = np.uint32(heap[0] >> np.uint64(32))
        heap[:] = np.sort(heap)[::-1]


@cache
def _kernel() -> Any:
    """`_best`, compiled by numba and cached on disk; it runs without the interpreter's lock."""
    from numba import njit

    return njit(cache=True, nogil=True)(_best)
