"""The semantic model: a dual encoder. The documents' vectors lie in a release; a query is encoded when it is asked.

Knows no Dagster and no training (that is train.py). The prediction service loads it, a notebook can import it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from repos.semantic.bert import EncoderError, Tokens
from repos.semantic.encoder import PACKAGED, Encoder, find
from repos.semantic.head import Head
from repos.semantic.index import PassageIndex, read_index
from shared_ops.data.tables import Hits

FORMAT = 1
LONGEST_WORD = 16
"""Characters of a query that are read for each token that the encoder takes: few words are longer."""
WARMED = (16, 32, 64, 128, 256)
"""Query lengths in tokens that are encoded once at load, because the first pass of a length is slow."""


class Parameters(BaseModel):
    """How to train."""

    seed: int = Field(default=0, description="Seed of everything drawn by chance")
    encoder: str = Field(
        default=PACKAGED, description="Where training starts: the packaged encoder, a folder or a hub id (owner/name)"
    )
    precision: str = Field(
        default="auto",
        pattern="^(auto|float32|bfloat16)$",
        description="Of what encodes documents: float32, bfloat16, or auto (what the device is fast at)",
    )
    adapt: str = Field(
        default="head",
        pattern="^(head|encoder|none)$",
        description="What is learned: head (maps of cached vectors; seconds), encoder (all weights; hours), none",
    )
    passage_tokens: int = Field(default=64, ge=8, le=480, description="Tokens of text per passage, besides the title")
    title_tokens: int = Field(default=24, ge=0, le=64, description="Tokens of the title in front of each passage")
    passages_per_document: int = Field(default=8, ge=1, description="Passages that are encoded of a document at most")
    token_budget: int = Field(
        default=1_500_000, ge=0, description="Tokens encoded of the corpus; beyond every document's first passage"
    )
    exact_below: int = Field(default=200_000, ge=1, description="Passages from which on FAISS searches")
    folds: int = Field(default=5, ge=2, description="Heads that answer the train queries, each without its own part")
    hard_negatives: int = Field(default=8, ge=0, description="Negatives per query from the frozen encoder's ranking")
    batch: int = Field(default=128, ge=2, description="Queries per step of the head")
    epochs: int = Field(default=10, ge=1, description="Passes of the head over the train queries")
    learning_rate: float = Field(default=1e-3, gt=0, description="Of the head")
    weight_decay: float = Field(default=1.0, ge=0, description="Pulls the head towards the frozen encoder")
    temperature: float = Field(default=0.05, gt=0, description="What cosines are divided by in the loss")
    encoder_folds: int = Field(default=2, ge=2, description="As folds, where the whole encoder is learned")
    encoder_steps: int = Field(default=1000, ge=1, description="Steps of the whole encoder")
    encoder_batch: int = Field(default=32, ge=2, description="Queries per step of the whole encoder")
    encoder_learning_rate: float = Field(default=2e-5, gt=0, description="Of the whole encoder, after a warm-up")


@dataclass(frozen=True)
class Origin:
    """What a release needs of the encoder that made its vectors."""

    encoder: str
    sha256: str
    precision: str
    learned: bool
    """Whether the encoder's weights were learned here, and so lie in the release."""


class SemanticModel:
    """Vector search: texts in, hits out. Safe to use from many threads at once."""

    def __init__(
        self, encoder: Encoder, head: Head, index: PassageIndex, doc_ids: Sequence[str], origin: Origin
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.index = index
        self.doc_ids = list(doc_ids)
        self.origin = origin

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        """The best `k` documents of each text, best first, with their cosines; equal ones by doc_id.

        Any text is legal. A text without a word that the encoder knows gets []; a long one is cut to what it can read.

        Raises:
            ValueError: when k is below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}.")
        inputs = query_inputs(self.encoder, texts)
        rows = [row for row, tokens in enumerate(inputs) if tokens]
        results: list[Hits] = [[] for _ in texts]
        if rows:
            answers = self.nearest(self._encode([inputs[row] for row in rows]), k)
            for row, hits in zip(rows, answers, strict=True):
                results[row] = hits
        return results

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """The texts' vectors as `search` compares them with documents': float32 [texts, width], of length 1.

        A text without a word that the encoder knows gets zeros.
        """
        inputs = query_inputs(self.encoder, texts)
        rows = [row for row, tokens in enumerate(inputs) if tokens]
        vectors = np.zeros((len(texts), len(self.head.query)), np.float32)
        if rows:
            vectors[rows] = self.head.queries(self._encode([inputs[row] for row in rows]))
        return vectors

    def _encode(self, inputs: Sequence[Tokens]) -> np.ndarray:
        """The queries' vectors; a single one, as in serving, by the compiled pass."""
        return self.encoder.encode_one(inputs[0]) if len(inputs) == 1 else self.encoder.encode(inputs)

    def nearest(self, vectors: np.ndarray, k: int) -> list[Hits]:
        """The best `k` documents of each query, as `search` gives them, from encoded queries [queries, width]."""
        documents, scores = self.index.search(self.head.queries(vectors), k)
        return [
            [(self.doc_ids[place], score) for place, score in zip(*row, strict=True) if place >= 0]
            for row in zip(documents.tolist(), scores.tolist(), strict=True)
        ]

    def warm(self) -> None:
        """Encode one query of each usual length, so that no user's query waits for memory or kernels to be set up."""
        word = self.encoder.tokenize(["word"])[0]
        for length in WARMED:
            if length <= self.encoder.max_tokens:
                self.index.search(self.encoder.encode_one(self.encoder.frame(word * (length - 2))), 1)

    def save(self, folder: Path) -> None:
        """Write the model into `folder`, made if missing. The same model gives the same bytes."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        if self.origin.learned:
            self.encoder.save(folder / "encoder")
        save_file({"query": self.head.query, "document": self.head.document}, folder / "head.safetensors")
        self.index.write(folder)
        (folder / "documents.json").write_text(json.dumps(self.doc_ids, ensure_ascii=False))
        about = {"format": FORMAT, **asdict(self.origin)}
        (folder / "model.json").write_text(json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False))


def query_inputs(encoder: Encoder, texts: Sequence[str]) -> list[Tokens]:
    """The encoder's inputs of queries; empty where a text holds no word that the encoder knows."""
    limit = encoder.max_tokens * LONGEST_WORD
    tokens = encoder.tokenize([text.lstrip()[:limit] for text in texts])
    return [encoder.frame(ids) if any(token != encoder.unknown for token in ids) else [] for ids in tokens]


def load(folder: Path) -> SemanticModel:
    """The model that `save` wrote, ready to answer.

    Raises:
        ValueError: when the folder's format is not this code's.
        EncoderError: when the encoder that made its vectors is not here, or has other weights by now.
        FileNotFoundError: when a file is missing.
    """
    from safetensors.numpy import load_file

    about = json.loads((folder / "model.json").read_text())
    if about.pop("format", None) != FORMAT:
        raise ValueError(
            f"{folder / 'model.json'} is not of format {FORMAT}: train again with this code, or update it."
        )
    origin = Origin(**about)
    encoder = Encoder(folder / "encoder") if origin.learned else find(origin.encoder)
    if encoder.sha256 != origin.sha256:
        raise EncoderError(
            f"The release in {folder} was made with {origin.encoder!r} whose weights have the SHA-256 {origin.sha256}, "
            f"and those found in {encoder.folder} have {encoder.sha256}. Put the encoder it was made with back, "
            "or train a new release."
        )
    doc_ids = json.loads((folder / "documents.json").read_text())
    model = SemanticModel(encoder, Head(**load_file(folder / "head.safetensors")), read_index(folder), doc_ids, origin)
    model.warm()
    return model
