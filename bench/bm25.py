"""Throughput of the keyword model beside bm25s (Lù 2024), on the docstrings of installed packages.

    envs/keyword/.venv/bin/python -m bench.bm25 [--depth 100] [--queries 2000] [--rounds 5]

Both index the same terms with the same k1 and b. Two tasks, each with one thread and with all: `rank` starts from term
numbers, `search` from texts, each engine with its own tokenizer (lower case, Snowball). bm25s runs with both of its
backends. The engines take turns in every round, and the figures are medians, so that another process's load falls on
all of them alike; a ratio is the median of the rounds' own ratios.
"""
# environment: keyword

import argparse
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import TypeAlias

from bench._figures import tell
from repos.keyword.bm25 import THREADS, TermCounts, WordCounts
from repos.keyword.model import KeywordModel, Parameters
from repos.keyword.tests.docstrings import collection
from repos.keyword.words import words

PACKAGES = ("numpy", "scipy", "sklearn", "polars", "sqlalchemy", "optuna", "dagster")
K1, B = 1.2, 0.75
OURS, THEIRS = "searchloop", "bm25s numba"
TOLD = {
    ("rank", 1): "keyword over bm25s (numba): from term numbers, one thread",
    ("search", THREADS): "keyword over bm25s (numba): from texts",
}
"""The ratios that have a goal, by task and threads."""
Runs: TypeAlias = dict[str, Callable[[], object]]
"""The name of an engine to a function that runs all queries once."""


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--depth", type=int, default=100, help="documents per query")
    arguments.add_argument("--queries", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    documents, queries, _ = collection(*PACKAGES)
    queries = queries.gather_every(max(1, queries.height // options.queries))
    titles, bodies, texts = (documents["title"].to_list(), documents["text"].to_list(), queries["text"].to_list())
    choice = Parameters(k1=K1, b=B, stop_words=False).choice()
    counts = WordCounts.of(titles, bodies)
    model = KeywordModel.build(documents["doc_id"].to_list(), counts, choice)
    column = {term: place for place, term in enumerate(TermCounts.of(counts, choice.tokenizer).terms)}

    def tokenized(text: str) -> list[int]:
        return [column[term] for term in choice.tokenizer.query(words(text)) if term in column]

    corpus = [tokenized(f"{title} {body}") for title, body in zip(titles, bodies, strict=True)]
    query_terms = [terms for terms in map(tokenized, texts) if terms]
    print(f"{datetime.now(UTC):%Y-%m-%d}  {_processor()}, {THREADS} threads, Python {platform.python_version()}")
    print(", ".join(f"{name} {version(name)}" for name in ("bm25s", "numba", "numpy", "scikit-learn")))
    print(
        f"{len(corpus)} documents, {sum(map(len, corpus)) / len(corpus):.0f} terms each, {len(column)} distinct terms; "
        f"{len(query_terms)} queries, {sum(map(len, query_terms)) / len(query_terms):.1f} terms each; "
        f"the best {options.depth} documents"
    )
    for threads in sorted({1, THREADS}):
        runs = _ranking(corpus, len(column), query_terms, options.depth, threads)
        runs[OURS] = partial(model.index.search, query_terms, options.depth, threads)
        _report("rank", threads, runs, len(query_terms), options.rounds)
    runs = _searching(titles, bodies, model.doc_ids, texts, options.depth)
    runs[OURS] = partial(model.search, texts, options.depth)
    _report("search", THREADS, runs, len(texts), options.rounds)
    times = [1000 * _seconds(partial(model.search, [text], options.depth)) for text in texts]
    print(f"one query at a time, text to hits: p50 {median(times):.2f} ms, p95 {quantiles(times, n=20)[-1]:.2f} ms")


def _ranking(corpus: list[list[int]], terms: int, queries: list[list[int]], depth: int, threads: int) -> Runs:
    import bm25s

    runs: Runs = {}
    for backend in ("numba", "numpy"):
        engine = bm25s.BM25(k1=K1, b=B, method="lucene", backend=backend)
        engine.index((corpus, {str(term): term for term in range(terms)}), show_progress=False)
        n_threads = threads if threads > 1 else 0
        runs[f"bm25s {backend}"] = partial(engine.retrieve, queries, k=depth, n_threads=n_threads, show_progress=False)
    return runs


def _searching(titles: list[str], bodies: list[str], doc_ids: list[str], texts: list[str], depth: int) -> Runs:
    import bm25s
    import numpy as np
    from Stemmer import Stemmer

    ids = np.array(doc_ids)
    tokens = partial(bm25s.tokenize, stopwords=None, stemmer=Stemmer("english"), show_progress=False)
    corpus = tokens([f"{title} {body}" for title, body in zip(titles, bodies, strict=True)])
    runs: Runs = {}
    for backend in ("numba", "numpy"):
        engine = bm25s.BM25(k1=K1, b=B, method="lucene", backend=backend)
        engine.index(corpus, show_progress=False)
        retrieve = partial(engine.retrieve, corpus=ids, k=depth, n_threads=THREADS, show_progress=False)
        runs[f"bm25s {backend}"] = lambda retrieve=retrieve: retrieve(tokens(texts))  # type: ignore[misc]
    return runs


def _report(task: str, threads: int, runs: Runs, queries: int, rounds: int) -> None:
    for run in runs.values():
        run()  # compiles, fills caches
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(_seconds(run))
    for name, took in seconds.items():
        ratio = median(other / own for own, other in zip(seconds[OURS], took, strict=True))
        if (figure := TOLD.get((task, threads))) and name == THEIRS:
            tell(figure, ratio)
        print(
            f"{task:7} {threads} threads  {name:12} {queries / median(took):9.0f} queries/s  searchloop is {ratio:.2f}x"
        )


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
