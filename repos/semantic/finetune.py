"""Contrastive learning of the whole encoder: it needs a GPU, or a night.

Knows no files and no splits. Examples and loss are the same as the head's; here the gradient goes through the encoder.
"""

from itertools import chain, count, islice
from typing import Any

import numpy as np

from repos.semantic.bert import Tokens, forward, fuse, padded
from repos.semantic.contrast import Examples, batches, contrast
from repos.semantic.encoder import Encoder
from repos.semantic.model import Parameters

WARM_UP = 0.1
"""The share of the steps in which the learning rate rises."""
NEGATIVES = 2
"""Hard negatives per query in a step: the number of passages decides what a step costs."""


def learn_encoder(
    encoder: Encoder,
    queries: list[Tokens],
    passages: list[Tokens],
    examples: Examples,
    rows: np.ndarray,
    parameters: Parameters,
) -> Encoder:
    """Train `encoder`: `parameters.encoder_steps` steps of AdamW on these rows of `examples`.

    `queries` and `passages` are the encoder's inputs of all queries and passages of `examples`. The learning rate rises
    in a straight line, then falls along a cosine.
    """
    import keras
    import tensorflow as tf

    weights = {name: keras.Variable(weight.numpy()) for name, weight in encoder.weights.items() if "pooler" not in name}
    variables = list(weights.values())
    steps = parameters.encoder_steps
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=parameters.encoder_learning_rate, warmup_steps=max(1, int(steps * WARM_UP))
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0)
    optimizer.build(variables)

    tokens = tf.TensorSpec([None, None], tf.int32)
    hidden = tf.TensorSpec([None, None], tf.float32)

    @tf.function(input_signature=[tokens, tokens, hidden], autograph=False)  # type: ignore[untyped-decorator]
    def step(query_tokens: Any, passage_tokens: Any, hidden: Any) -> None:
        with tf.GradientTape() as tape:
            fused = fuse({name: weight.value for name, weight in weights.items()}, encoder.shape, encoder.precision)
            left = forward(fused, query_tokens, encoder.shape)
            right = forward(fused, passage_tokens, encoder.shape)
            loss = contrast(left, right, hidden, parameters.temperature)
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)

    random = np.random.default_rng(parameters.seed)
    drawn = chain.from_iterable(batches(examples, rows, parameters.encoder_batch, NEGATIVES, random) for _ in count())
    for batch in islice(drawn, steps):
        step(
            padded([queries[row] for row in batch.queries]),
            padded([passages[place] for place in batch.passages]),
            batch.hidden,
        )
    return encoder.learned({name: weight.numpy() for name, weight in weights.items()})
