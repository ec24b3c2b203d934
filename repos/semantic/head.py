"""The head: a linear map on each side of a frozen encoder, learned contrastively from its cached vectors.

Knows no encoder and no files. Both maps are residual, x + Ax, and start at A = 0: the frozen encoder is where learning
begins, where weight decay pulls, and one of the candidates when the dev queries choose.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from repos.semantic.contrast import Examples, batches, contrast


@dataclass(frozen=True)
class Head:
    """What is added to a vector, as a matrix [width, width] float32 for each side."""

    query: np.ndarray
    document: np.ndarray

    @classmethod
    def identity(cls, width: int) -> "Head":
        """The head that changes nothing."""
        return cls(np.zeros((width, width), np.float32), np.zeros((width, width), np.float32))

    def queries(self, vectors: np.ndarray) -> np.ndarray:
        """Unit vectors of queries' vectors [queries, width]."""
        return _adapt(vectors, self.query)

    def documents(self, vectors: np.ndarray) -> np.ndarray:
        """Unit vectors of passages' vectors [passages, width]."""
        return _adapt(vectors, self.document)

    def times(self, share: float) -> "Head":
        """The head a share of the way from the frozen encoder to this one."""
        return Head(self.query * np.float32(share), self.document * np.float32(share))


def _adapt(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    if not matrix.any():
        return vectors
    adapted = vectors + vectors @ matrix
    return adapted / np.linalg.norm(adapted, axis=1, keepdims=True)


@dataclass(frozen=True)
class Recipe:
    """How a head is learned."""

    both_sides: bool
    learning_rate: float
    epochs: int
    batch: int
    negatives: int
    temperature: float
    weight_decay: float
    seed: int


def learn(
    examples: Examples,
    rows: np.ndarray,
    vectors: np.ndarray,
    recipe: Recipe,
    after: Callable[[int, Head], bool] = lambda *_: True,
) -> Head:
    """Learn a head from these rows of `examples` and the passages' `vectors` [passages, width]. `after` is called with
    each epoch (from 1) and its head; learning ends when it returns False.
    """
    import keras
    import tensorflow as tf

    width = vectors.shape[1]
    maps = [keras.Variable(np.zeros((width, width), np.float32)) for _ in range(1 + recipe.both_sides)]
    optimizer = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay)
    optimizer.build(maps)

    def adapted(side: Any, place: int) -> Any:
        return tf.math.l2_normalize(side + tf.matmul(side, maps[place].value), -1) if place < len(maps) else side

    def step(queries: Any, passages: Any, hidden: Any) -> None:
        with tf.GradientTape() as tape:
            loss = contrast(adapted(queries, 0), adapted(passages, 1), hidden, recipe.temperature)
        optimizer.apply(tape.gradient(loss, [variable.value for variable in maps]), maps)

    def head() -> Head:
        query, *document = (np.array(variable.numpy()) for variable in maps)
        return Head(query, document[0] if document else np.zeros_like(query))

    random = np.random.default_rng(recipe.seed)
    for epoch in range(1, recipe.epochs + 1):
        for batch in batches(examples, rows, recipe.batch, recipe.negatives, random):
            step(examples.queries[batch.queries], vectors[batch.passages].astype(np.float32), batch.hidden)
        if not after(epoch, head()):
            break
    return head()
