"""The behavior model: what people clicked for similar queries.

A k-nearest-neighbour model whose examples are past queries: a new query takes over its neighbours' clicked documents,
each neighbour counting by its similarity and each document by how surely it was clicked. Knows no Dagster,
no judgements, and nothing of how parameters are chosen (that is train.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from repos.behavior.clicks import sureness
from repos.behavior.features import TextFeatures
from shared_ops.data.tables import Hits
from shared_ops.data.text import normalise

BATCH = 256
"""Queries that are compared with the past ones at a time: bounds the memory that a long list of them takes."""
SAME = 1 - 1e-4
"""The cosine, but for rounding, of a query and itself."""


class Parameters(BaseModel):
    """How the model compares queries and trusts clicks, and how its training searches for better values."""

    seed: int = Field(default=0, description="Seed of the search for parameters.")
    clicked_text: float = Field(
        default=0.8, ge=0.0, le=1.0, description="Share of a similarity that the texts of the clicked documents make."
    )
    characters: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Share of the rest that character n-grams make; stemmed words the rest.",
    )
    exponent: float = Field(default=5.0, gt=0.0, description="Power of the similarity: higher trusts the nearest more.")
    neighbours: int = Field(default=50, ge=1, description="How many past queries answer a new one.")
    again: float = Field(
        default=10.0, ge=1.0, description="Votes of a past query that is asked again; the most alike of others has one."
    )
    confidence: float = Field(
        default=0.9, gt=0.0, lt=1.0, description="How sure the lower bound of a document's click rate is to be."
    )
    prior: float = Field(default=1.0, gt=0.0, description="Expected clicks that the prior of the click rate is worth.")
    half_life: float = Field(
        default=90.0,
        gt=0.0,
        description="Days before a query's newest clicks at which its older ones count half; a third at twice that.",
    )
    trials: int = Field(
        default=60,
        ge=0,
        description="Values of clicked_text, characters, exponent and neighbours tried on the dev queries; 0: none.",
    )
    folds: int = Field(default=5, ge=2, description="Models that answer the training queries without their own clicks.")


@dataclass(frozen=True)
class Corpus:
    """The documents as the model sees them: fitted features, a CSR matrix of documents x words, and their ids."""

    features: TextFeatures
    document_words: Any
    doc_ids: list[str]

    @classmethod
    def of(cls, documents: pl.DataFrame) -> "Corpus":
        """The corpus of a `documents` table, in the order of doc_id."""
        ordered = documents.sort("doc_id")
        features, document_words = TextFeatures.fit(ordered)
        return cls(features, document_words, ordered["doc_id"].to_list())


@dataclass(frozen=True)
class Past:
    """The past queries, one row each, as CSR matrices whose rows have length 1, except those of `answers`."""

    words: Any
    characters: Any
    clicked: Any
    """The words of the documents clicked for the query, by sureness: they connect queries that share no word."""
    answers: Any
    """Past queries x documents: how surely each document was clicked (`clicks.sureness`), at most 1."""


@dataclass(frozen=True)
class Similarities:
    """Cosines of queries with the past ones, CSR matrices: by words, by character n-grams, to the clicked texts."""

    words: Any
    characters: Any
    clicked: Any


class BehaviorModel:
    """Answers queries with the documents clicked for their nearest past queries."""

    def __init__(self, features: TextFeatures, past: Past, doc_ids: Sequence[str], parameters: Parameters) -> None:
        self._features = features
        self._past = past
        self._doc_ids = list(doc_ids)
        self.parameters = parameters
        # Rows of features, each listing the past queries that hold it: a query then reads only its own features' rows.
        self._by_feature = Similarities(*(rows.T.tocsr() for rows in (past.words, past.characters, past.clicked)))

    @classmethod
    def fit(cls, corpus: Corpus, clicks: pl.DataFrame, parameters: Parameters) -> "BehaviorModel":
        """The model that has learned `clicks` (as `clicks.learnable` gives them) and nothing else about any query."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.linalg import norm

        weighed = clicks.with_columns(weight=sureness(clicks, parameters.confidence, parameters.prior))
        weighed = weighed.filter(pl.col("weight") > 0)
        texts = weighed["text"].unique().sort().to_list()
        rows = _positions(texts, weighed["text"])
        columns = _positions(corpus.doc_ids, weighed["doc_id"])
        shape = (len(texts), len(corpus.doc_ids))
        sure = csr_matrix((weighed["weight"].to_numpy(), (rows, columns)), shape=shape)
        # One vote a query, however often it was asked; less where not even its surest document is sure.
        answers = _divided(sure, sure.max(axis=1).toarray().ravel().clip(min=1.0))
        clicked = (answers @ corpus.document_words).astype(np.float32)
        features = corpus.features
        past = Past(
            words=features.words(texts),
            characters=features.characters(texts),
            clicked=_divided(clicked, norm(clicked, axis=1)),
            answers=answers,
        )
        return cls(features, past, corpus.doc_ids, parameters)

    def with_parameters(self, parameters: Parameters) -> "BehaviorModel":
        """The same past queries, compared by other parameters.

        `confidence`, `prior` and `half_life` were used when the model was fitted: to change them here has no effect.
        """
        return BehaviorModel(self._features, self._past, self._doc_ids, parameters)

    @property
    def past_queries(self) -> int:
        """How many past queries with at least one click it knows."""
        return int(self._past.answers.shape[0])

    @property
    def reach(self) -> list[str]:
        """The documents that it is able to find: those that were clicked for any past query."""
        return [self._doc_ids[column] for column in np.unique(self._past.answers.indices)]

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        """The at most `k` documents most surely clicked for queries like each text; none where nothing is alike.

        A document's score is the sum, over the nearest past queries, of the query's vote times the document's sureness.
        A vote is similarity^exponent, or `again` where it is the very same query. Ties are ordered by doc_id.

        Raises:
            ValueError: when `k` is below 1.
        """
        if k < 1:
            raise ValueError(f"Expected k to be at least 1, got {k}.")
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        return [hits for batch in batches for hits in self.hits(self.similarities(batch), k)]

    def similarities(self, texts: Sequence[str]) -> Similarities:
        """How alike each text is to each past query, before the three cosines are mixed: texts x past queries.

        A past query that is asked again is fully alike in all three, whatever was clicked for it: people may have come
        to like a document that holds none of its words.
        """
        normalised = [normalise(text) for text in texts]
        read_words = self._features.words(normalised)
        words = read_words @ self._by_feature.words
        characters = self._features.characters(normalised) @ self._by_feature.characters
        again = (words > SAME).multiply(characters > SAME).astype(np.float32)
        clicked = (read_words @ self._by_feature.clicked).maximum(again)
        return Similarities(words, characters, clicked)

    def hits(self, similarities: Similarities, k: int) -> list[Hits]:
        """The best `k` hits of each row of `similarities`."""
        from scipy.sparse import csr_matrix

        parameters = self.parameters
        own = (1 - parameters.characters) * similarities.words + parameters.characters * similarities.characters
        mixed = ((1 - parameters.clicked_text) * own + parameters.clicked_text * similarities.clicked).tocsr()
        nearest = [_top(columns, values, parameters.neighbours) for columns, values in _rows(mixed)]
        indptr = np.cumsum([0, *(len(columns) for columns, _ in nearest)])
        indices = np.concatenate([columns for columns, _ in nearest])
        alike = np.concatenate([values for _, values in nearest]).astype(np.float64)
        votes = np.where(alike > SAME, parameters.again, alike**parameters.exponent)
        scores = csr_matrix((votes, indices, indptr), shape=mixed.shape) @ self._past.answers
        best = (_top(columns, values, k) for columns, values in _rows(scores))
        return [[(self._doc_ids[c], float(v)) for c, v in zip(*row, strict=True)] for row in best]

    def save(self, folder: Path) -> None:
        """Write the model into `folder`: JSON and safetensors, the same bytes for the same model."""
        from safetensors.numpy import save_file

        self._features.save(folder)
        description = {"parameters": self.parameters.model_dump(), "doc_ids": self._doc_ids}
        (folder / "model.json").write_text(json.dumps(description, ensure_ascii=True, sort_keys=True))
        tensors = {f"{name}.{part}": array for name in vars(self._past) for part, array in self._parts(name).items()}
        save_file(tensors, folder / "past.safetensors")

    def _parts(self, name: str) -> dict[str, np.ndarray]:
        matrix = getattr(self._past, name)
        matrix.sort_indices()
        return {
            "data": matrix.data,
            "indices": matrix.indices.astype(np.int32),
            "indptr": matrix.indptr.astype(np.int64),
            "shape": np.array(matrix.shape, dtype=np.int64),
        }


def load(folder: Path) -> BehaviorModel:
    """The model that `BehaviorModel.save` wrote into `folder`."""
    from safetensors.numpy import load_file
    from scipy.sparse import csr_matrix

    tensors = load_file(folder / "past.safetensors")

    def matrix(name: str) -> Any:
        data, indices, indptr, shape = (tensors[f"{name}.{part}"] for part in ("data", "indices", "indptr", "shape"))
        return csr_matrix((data, indices, indptr), shape=tuple(shape))

    description = json.loads((folder / "model.json").read_text())
    past = Past(*(matrix(name) for name in ("words", "characters", "clicked", "answers")))
    parameters = Parameters.model_validate(description["parameters"])
    return BehaviorModel(TextFeatures.load(folder), past, description["doc_ids"], parameters)


def _positions(names: Sequence[str], values: pl.Series) -> np.ndarray:
    """Where each value stands in `names`."""
    at = {name: position for position, name in enumerate(names)}
    return np.array([at[value] for value in values], dtype=np.int64)


def _divided(rows: Any, by: np.ndarray) -> Any:
    """A CSR matrix with each row divided by its number in `by`; where that is 0 the row stays."""
    from scipy.sparse import diags_array

    return (diags_array(1.0 / np.where(by > 0, by, 1.0)) @ rows).astype(rows.dtype).tocsr()


def _rows(matrix: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """The columns and values that each row of a CSR matrix holds."""
    bounds = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    return [(matrix.indices[start:end], matrix.data[start:end]) for start, end in bounds]


def _top(columns: np.ndarray, values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the `k` greatest positive values, greatest first, the lower column first where they tie."""
    least = np.partition(values, -k)[-k] if len(values) > k else 0.0
    places = np.flatnonzero((values > 0) & (values >= least))
    order = places[np.lexsort((columns[places], -values[places]))][:k]
    return columns[order], values[order]
