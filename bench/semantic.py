"""Speed and quality of the semantic model on this machine.

    envs/semantic/.venv/bin/python -m bench.semantic [--tables <folder of documents, queries, qrels .parquet>]

Encoding beside keras-hub's BertBackbone, the latency of a query, exact search beside FAISS; and with the tables of a
snapshot (the latest one, if there is any) what reading more than a document's first passage gains. What is compared
takes turns in every round, so that another process's load falls on all alike.
"""
# environment: semantic

import argparse
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlparse

import numpy as np
import polars as pl

from bench._figures import tell
from repos.semantic.bert import padded
from repos.semantic.encoder import PACKAGED, Encoder, find, locate
from repos.semantic.head import Head
from repos.semantic.index import ApproximateIndex, ExactIndex, PassageIndex, build
from repos.semantic.model import Origin, Parameters, SemanticModel
from repos.semantic.train import train
from shared_ops.data.snapshots import Snapshots
from shared_ops.judge.evaluation import PRIMARY, per_query
from shared_ops.settings import Settings, repository_of

ROUNDS = 5
PASSAGES = 30_000
SHORT = 5
"""Words of a short query."""
QUERIES = 20
"""The queries that an index is timed by."""
BUDGETS = (0, 500_000, Parameters().token_budget)
"""Tokens encoded of the corpus; 0 is each document's first passage alone."""
CACHE = Settings().home / "cache" / repository_of(SemanticModel.__module__)
"""The family's own: what a training has encoded, this need not encode again."""


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=_live_tables())
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    encoding()
    latency()
    indexes()
    if arguments.tables is None:
        print("No snapshot here (make up) and no --tables: what passages gain is not measured.")
    else:
        passages(arguments.tables)


def _live_tables() -> Path | None:
    latest = Snapshots(Settings().snapshots_url("prod")).latest()
    return Path(urlparse(latest.url).path) if latest else None


def _turns(tasks: Mapping[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """The seconds of each task in each round, after a first round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for counts in [False] + [True] * ROUNDS:
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if counts:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def encoding() -> None:
    """Tokens per second, and how far the vectors are from float32's."""
    ours = {precision: find(PACKAGED, precision) for precision in ("float32", "bfloat16")}
    theirs = {policy: _keras_hub(policy) for policy in ("float32", "mixed_bfloat16")}
    random = np.random.default_rng(0)
    print("| tokens per text | encoder | tokens/s | ratio to keras-hub float32 | least cosine with ours in float32 |")
    print("|---|---|---|---|---|")
    for length in (32, 64, 96, 128):
        inputs = random.integers(1000, 30_000, (4096 // length, length)).tolist()
        encoders = {f"keras-hub {policy}": theirs[policy] for policy in theirs}
        encoders |= {f"ours {precision}": encoder.encode for precision, encoder in ours.items()}
        seconds = _turns({name: partial(encode, inputs) for name, encode in encoders.items()})
        expected = ours["float32"].encode(inputs)
        for name, encode in encoders.items():
            ratio = median(base / own for base, own in zip(seconds["keras-hub float32"], seconds[name], strict=True))
            cosine = (encode(inputs) * expected).sum(axis=1).min()
            print(f"| {length} | {name} | {4096 / median(seconds[name]):,.0f} | {ratio:.2f} | {cosine:.5f} |")


def _keras_hub(policy: str) -> Callable[[list[list[int]]], np.ndarray]:
    import keras
    import keras_hub
    import tensorflow as tf

    keras.config.set_dtype_policy(policy)
    backbone = keras_hub.models.BertBackbone.from_preset(str(locate(PACKAGED)))
    keras.config.set_dtype_policy("float32")

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])  # type: ignore[untyped-decorator]
    def encode(tokens: Any) -> Any:
        present = tf.cast(tokens != 0, tf.float32)[:, :, None]
        inputs = {"token_ids": tokens, "padding_mask": tokens != 0, "segment_ids": tf.zeros_like(tokens)}
        states = tf.cast(backbone(inputs)["sequence_output"], tf.float32)
        return tf.math.l2_normalize(tf.reduce_sum(states * present, 1), -1)

    return lambda inputs: encode(padded(inputs)).numpy()


def latency() -> None:
    """Milliseconds of one query, from its text to its hits."""
    encoder: Encoder = find(PACKAGED)
    vectors, starts, _ = _clustered(PASSAGES, PASSAGES // 2)
    ids = [str(place) for place in range(len(starts))]
    origin = Origin(PACKAGED, encoder.sha256, "float32", learned=False)
    head = Head.identity(encoder.width)
    model = SemanticModel(encoder, head, build(vectors, starts, PASSAGES + 1, 0), ids, origin)
    model.warm()
    print(f"\n| words in the query | encoded, ms | searched in {PASSAGES:,} passages, ms | both: p50 | p95 |")
    print("|---|---|---|---|---|")
    for words in (SHORT, 12, 50):
        text = " ".join(["array", "sort", "value", "mean", "matrix"] * 10)
        query = " ".join(text.split()[:words])
        tokens = encoder.frame(encoder.tokenize([query])[0])
        vector = encoder.encode_one(tokens)
        seconds: dict[str, list[float]] = {"encode": [], "search": [], "both": []}
        tasks: dict[str, Callable[[], Any]] = {
            "encode": partial(encoder.encode_one, tokens),
            "search": partial(model.nearest, vector, 100),
            "both": partial(model.search, [query], 100),
        }
        for _ in range(100):
            for name, task in tasks.items():
                start = time.perf_counter()
                task()
                seconds[name].append((time.perf_counter() - start) * 1000)
        if words == SHORT:
            tell("one short query encoded", median(seconds["encode"]))
        both = quantiles(seconds["both"], n=20)
        print(
            f"| {words} | {median(seconds['encode']):.1f} | {median(seconds['search']):.1f} | "
            f"{both[9]:.1f} | {both[18]:.1f} |"
        )


def _clustered(passages: int, documents: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors around centres, each document's first passage, and queries near some passages."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(500, 384)).astype(np.float32)
    vectors = centres[random.integers(0, 500, passages)] + random.normal(size=(passages, 384)).astype(np.float32)
    queries = vectors[random.integers(0, passages, 200)] + 0.5 * random.normal(size=(200, 384)).astype(np.float32)
    starts = np.concatenate([[0], np.sort(random.choice(np.arange(1, passages), documents - 1, replace=False))])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return vectors.astype(np.float16), starts.astype(np.int64), queries


def _one_by_one(index: PassageIndex, queries: np.ndarray) -> None:
    for query in queries[:QUERIES]:
        index.search(query[None], 100)


def indexes() -> None:
    """Milliseconds per query one by one, and the share of the exact first 10 and 100 that FAISS finds."""
    print("\n| passages | exact, ms | FAISS, ms | built in, s | recall@10 | recall@100 |")
    print("|---|---|---|---|---|---|")
    for size in (100_000, 300_000):
        vectors, starts, queries = _clustered(size, size // 3)
        exact = ExactIndex(vectors, starts)
        start = time.perf_counter()
        cells = ApproximateIndex.train(vectors, starts, seed=0)
        built = time.perf_counter() - start
        seconds = _turns({"exact": partial(_one_by_one, exact, queries), "cells": partial(_one_by_one, cells, queries)})
        ours, theirs = exact.search(queries, 100)[0], cells.search(queries, 100)[0]
        recall = [
            np.mean([len(set(left[:k]) & set(right[:k])) / k for left, right in zip(ours, theirs, strict=True)])
            for k in (10, 100)
        ]
        times = {name: median(values) / QUERIES * 1000 for name, values in seconds.items()}
        print(
            f"| {size:,} | {times['exact']:.1f} | {times['cells']:.1f} | {built:.0f} "
            f"| {recall[0]:.3f} | {recall[1]:.3f} |"
        )


def passages(folder: Path) -> None:
    """nDCG@10 of the frozen encoder on the test queries, with more and more of each document."""
    documents, queries, qrels = (
        pl.read_parquet(folder / f"{name}.parquet") for name in ("documents", "queries", "qrels")
    )
    test = qrels.join(queries.filter(pl.col("split") == "test"), on="query_id", how="semi")
    print("\n| tokens allowed | passages | share of tokens encoded | test nDCG@10, frozen |")
    print("|---|---|---|---|")
    for budget in BUDGETS:
        parameters = Parameters(adapt="none", token_budget=budget)
        trained = train(documents, queries, qrels, parameters, cache=CACHE)
        chosen = trained.hyperparameters
        quality = per_query(trained.hits["test"], test)[PRIMARY].to_numpy().mean()
        print(f"| {budget:,} | {chosen['passages']} | {chosen['tokens_encoded_share']:.0%} | {quality:.4f} |")


if __name__ == "__main__":
    main()
