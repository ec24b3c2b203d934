"""Contrastive learning: queries, passages that answer them, and passages that only look as if they did.

Knows no model: what learns from these (a head, a whole encoder) draws batches and takes the loss.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repos.semantic.index import ExactIndex


@dataclass(frozen=True)
class Examples:
    """Queries, each with passages that answer it and passages that only look as if they did."""

    queries: np.ndarray
    """[queries, width] float32."""
    positives: Sequence[np.ndarray]
    """For each query the passages that answer it: of every relevant document the one nearest to the query."""
    grades: Sequence[np.ndarray]
    """The relevance grade of each positive."""
    negatives: np.ndarray
    """[queries, hard negatives]: passages that the frozen encoder ranks high, of no relevant document; -1: none."""
    owners: np.ndarray
    """[passages]: the document of each passage."""


def mine(
    queries: np.ndarray, relevant: Sequence[dict[int, int]], vectors: np.ndarray, starts: np.ndarray, negatives: int
) -> Examples:
    """Make examples with hard negatives from the frozen encoder's own ranking, as in ANCE (Xiong et al. 2021), mined
    once.

    Args:
        queries: the queries' vectors, [queries, width].
        relevant: for each query, its relevant documents with their grades.
        vectors: the passages' vectors, [passages, width].
        starts: [documents]: the first passage of each document.
        negatives: hard negatives per query at most.
    """
    ends = np.append(starts[1:], len(vectors))
    owners = np.repeat(np.arange(len(starts)), ends - starts)
    passages = vectors.astype(np.float32)
    most = max((len(grades) for grades in relevant), default=0)
    ranked, _ = ExactIndex(passages, starts).search(queries, negatives + most)

    def best(query: int, document: int) -> int:
        return int(starts[document] + np.argmax(passages[starts[document] : ends[document]] @ queries[query]))

    hard = np.full((len(queries), negatives), -1, np.int64)
    for row, grades in enumerate(relevant):
        others = [int(document) for document in ranked[row] if int(document) not in grades][:negatives]
        hard[row, : len(others)] = [best(row, document) for document in others]
    return Examples(
        queries,
        [np.array([best(row, document) for document in grades]) for row, grades in enumerate(relevant)],
        [np.array(list(grades.values())) for grades in relevant],
        hard,
        owners,
    )


@dataclass(frozen=True)
class Batch:
    """Some queries, and the passages that all of them are compared with: each query's positive, then hard negatives."""

    queries: np.ndarray
    """[queries]: rows of the examples."""
    passages: np.ndarray
    """[passages]: rows of the passages' vectors; at least as many as queries."""
    hidden: np.ndarray
    """[queries, passages] float32: 1, to leave it out, where a passage of a relevant document is not the positive."""


def batches(
    examples: Examples, rows: np.ndarray, size: int, negatives: int, random: np.random.Generator
) -> Iterator[Batch]:
    """One pass over these rows of the examples, in random order. A query's positive is drawn by grade."""
    order = random.permutation(rows)
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        grades = [examples.grades[row] / examples.grades[row].sum() for row in chosen]
        positives = [random.choice(examples.positives[row], p=grade) for row, grade in zip(chosen, grades, strict=True)]
        hard = random.permuted(examples.negatives[chosen], axis=1)[:, :negatives].ravel()
        pool = np.concatenate([np.array(positives, np.int64), hard[hard >= 0]])
        owners = examples.owners[pool]
        hidden = np.stack([np.isin(owners, examples.owners[examples.positives[row]]) for row in chosen])
        np.fill_diagonal(hidden, False)
        yield Batch(chosen, pool, hidden.astype(np.float32))


def contrast(queries: Any, passages: Any, hidden: Any, temperature: float) -> Any:
    """InfoNCE (van den Oord et al. 2018): each query's positive against all passages of the batch that are not hidden.
    Unit vectors [queries, width] and [passages, width], tensors.
    """
    import tensorflow as tf

    scores = tf.matmul(queries, passages, transpose_b=True) / temperature - hidden * 1e9
    labels = tf.range(tf.shape(queries)[0])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
