"""How often the gate errs: the share of challengers of a known true difference that it lets through.

    envs/platform/.venv/bin/python -m bench.gate [--trials 2000] [--measure]

Per-query differences in nDCG@10 are drawn from real ones: pairs of BM25 settings (SQLite's FTS5) on the docstrings of
installed packages, where a query is a docstring's first line. They lie in bench/_differences.json; `--measure`
makes that file again, in some minutes. A true difference is set by drawing queries with weights that grow
exponentially with their difference: zeros stay zeros, and tails stay heavy. So the pairs are real, the challengers are
simulated.
"""
# environment: platform

import argparse
import json
import platform
import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from bench._challengers import FILE, challengers, frames, pairs
from shared_ops.judge.evaluation import PRIMARY, per_query
from shared_ops.judge.gating import GatePolicy, judge, loss_p_value
from shared_ops.judge.significance import randomisation

PACKAGES = ("numpy", "scipy", "polars", "sqlalchemy", "dagster")
SETTINGS = {
    "champion": ("porter unicode61", 1.0),
    "title counts 1.5": ("porter unicode61", 1.5),
    "title counts 3": ("porter unicode61", 3.0),
    "no stemming": ("unicode61", 1.0),
}
"""Tokenizer and weight of the title; all but the first challenge it."""
DIFFERENCES = (-0.02, -0.01, 0.0, 0.01, 0.02)
QUERIES = (200, 1_000)
SLICES = 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2_000)
    parser.add_argument("--measure", action="store_true", help="make the real differences again")
    options = parser.parse_args()
    if options.measure:
        FILE.write_text(json.dumps(_measured(), separators=(",", ":")) + "\n")
        return
    policy = GatePolicy(resamples=1_000)
    print(f"{datetime.now(UTC):%Y-%m-%d}  {_processor()}, Python {platform.python_version()}, numpy {np.__version__}")
    print(
        f"margin {policy.margin}, alpha {policy.alpha}, {options.trials} challengers a figure, {policy.resamples} flips"
    )
    print("\nShare of challengers for whom a loss of the margin is ruled out, by their true difference in nDCG@10:\n")
    print("| pair | changed | SD | queries | " + " | ".join(f"{each:+.2f}" for each in DIFFERENCES) + " |")
    print("|---|---|---|---|" + "---|" * len(DIFFERENCES))
    for name, pair in pairs().items():
        for queries in QUERIES:
            rates = [_rate(pair, true, queries, options.trials, policy) for true in DIFFERENCES]
            cells = " | ".join(f"{rate:.3f}" for rate in rates)
            print(f"| {name} | {(pair != 0).mean():.0%} | {pair.std():.3f} | {queries:,} | {cells} |", flush=True)
    plain = [_rate(pair, -policy.margin, QUERIES[0], options.trials, policy, plain=True) for pair in pairs().values()]
    listed = ", ".join(f"{rate:.3f}" for rate in plain)
    print(f"\nWithout the pessimistic query, {-policy.margin:+.2f} on {QUERIES[0]} queries: {listed}")
    print(f"\nThe whole gate, no true difference, {SLICES} slices of a tenth each: accepted, and rejected by a slice\n")
    print("| pair | queries | accepted | rejected by a slice |\n|---|---|---|---|")
    for name, pair in pairs().items():
        for queries in QUERIES:
            accepted, by_slice = _sliced(pair, queries, options.trials // 4, policy)
            print(f"| {name} | {queries:,} | {accepted:.3f} | {by_slice:.3f} |", flush=True)


def _rate(
    pair: np.ndarray, true: float, queries: int, trials: int, policy: GatePolicy, *, plain: bool = False
) -> float:
    """The share of challengers that pass; `plain` leaves out the query that the gate adds."""
    passed = 0
    for seed, row in enumerate(challengers(pair, true, queries, trials, seed=0)):
        seeded = policy.model_copy(update={"seed": seed})
        p_value = (
            randomisation(row[:, None] + policy.margin, seeded.resamples, seeded.seed)[0]
            if plain
            else loss_p_value(row, seeded)
        )
        passed += p_value <= policy.alpha
    return passed / trials


def _sliced(pair: np.ndarray, queries: int, trials: int, policy: GatePolicy) -> tuple[float, float]:
    """The share of challengers that the whole gate accepts, and the share that it rejects for a slice.

    None of them truly differs from its champion.
    """
    verdicts = [
        judge(*frames(row, SLICES), policy.model_copy(update={"seed": seed}), "v1")
        for seed, row in enumerate(challengers(pair, 0.0, queries, trials, seed=1))
    ]
    by_slice = [any(reason.startswith("Slice") for reason in verdict.reasons) for verdict in verdicts]
    return float(np.mean([verdict.accepted for verdict in verdicts])), float(np.mean(by_slice))


def _measured() -> dict[str, dict[str, object]]:
    """Each pair's number of queries, and the differences of those that changed."""
    from repos.keyword.tests.docstrings import collection

    documents, queries, qrels = collection(*PACKAGES)
    queries = queries.gather_every(max(1, len(queries) // 1_200))
    judged = qrels.join(queries, on="query_id", how="semi")
    values = {
        name: per_query(_search(documents, queries, *setting), judged)[PRIMARY].to_numpy()
        for name, setting in SETTINGS.items()
    }
    champion = values.pop("champion")
    return {
        name: {"queries": len(champion), "changed": np.round((ours - champion)[ours != champion], 4).tolist()}
        for name, ours in values.items()
    }


def _search(documents: pl.DataFrame, queries: pl.DataFrame, tokenizer: str, title: float) -> pl.DataFrame:
    """The best ten documents of every query by FTS5's BM25."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE docs USING fts5(doc_id UNINDEXED, title, text, tokenize='{tokenizer}')")
    connection.executemany("INSERT INTO docs VALUES (?, ?, ?)", documents.select("doc_id", "title", "text").iter_rows())
    best = f"SELECT doc_id, -bm25(docs, 0, {title}, 1) score FROM docs WHERE docs MATCH ? ORDER BY 2 DESC, 1 LIMIT 10"
    rows = []
    for query_id, text in queries.select("query_id", "text").iter_rows():
        terms = dict.fromkeys(re.findall(r"\w+", text))
        if terms:
            hits = connection.execute(best, (" OR ".join(f'"{term}"' for term in terms),))
            rows += [(query_id, doc_id, score, rank) for rank, (doc_id, score) in enumerate(hits, start=1)]
    return pl.DataFrame(rows, schema=["query_id", "doc_id", "score", "rank"], orient="row")


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
