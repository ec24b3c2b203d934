"""The head: a linear map on each side of a frozen encoder, learned contrastively from its cached vectors.

Knows no encoder and no files. Both maps are residual, x + Ax, and start at A = 0: the frozen encoder is where learning
begins, what weight decay pulls towards, and one of the candidates when the dev queries choose.
"""

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
        """The queries' vectors [queries, width], adapted: unit vectors."""
        return _adapt(vectors, self.query)

    def documents(self, vectors: np.ndarray) -> np.ndarray:
        """The passages' vectors [passages, width], adapted: unit vectors."""
        return _adapt(vectors, self.document)

    def times(self, share: float) -> "Head":
        """The head a share of the way from the frozen encoder to this one."""
        return Head(self.query * np.float32(share), self.document * np.float32(share))


def _adapt(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    if not matrix.any():
        return vectors
    adapted = vectors + vectors @ matrix
    unit: np.ndarray = adapted / np.linalg.norm(adapted, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True)
class Recipe:
    """How a head is learned."""

    learning_rate: float
    epochs: int
    batch: int
    negatives: int
    temperature: float
    weight_decay: float
    seed: int


def learn(examples: Examples, rows: np.ndarray, vectors: np.ndarray, recipe: Recipe) -> Head:
    """Learn a head from these rows of `examples`; `vectors` [passages, width] are the passages' cached vectors."""
    import keras
    import tensorflow as tf

    width = vectors.shape[1]
    maps = [keras.Variable(np.zeros((width, width), np.float32)) for _ in range(2)]
    optimizer = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay)
    optimizer.build(maps)

    def adapted(vectors: np.ndarray, matrix: Any) -> Any:
        return tf.math.l2_normalize(vectors + tf.matmul(vectors, matrix), -1)

    random = np.random.default_rng(recipe.seed)
    for _ in range(recipe.epochs):
        for batch in batches(examples, rows, recipe.batch, recipe.negatives, random):
            queries, passages = examples.queries[batch.queries], vectors[batch.passages].astype(np.float32)
            query, document = (variable.value for variable in maps)
            with tf.GradientTape() as tape:
                left, right = adapted(queries, query), adapted(passages, document)
                loss = contrast(left, right, batch.hidden, recipe.temperature)
            optimizer.apply(tape.gradient(loss, [query, document]), maps)
    return Head(*(np.array(variable.numpy()) for variable in maps))
