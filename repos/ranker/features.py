"""The ranker's features: from a query, the search models' hits and the release's documents to one row per candidate.

The one place where features are computed, for training and for serving alike. Knows no torch, no Dagster and no
snapshot: a `FeatureSpace` holds what it needs of the documents and is saved with the release. Rows are unscaled;
NaN stands for what is not known (a document newer than the release), and the model puts the training mean there.
"""

import json
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from shared_ops.data.tables import Hits

Array = np.ndarray[Any, Any]

LEAD_TERMS = 40  # a docstring's summary line, an abstract's first sentence or two
TEXT_TERMS = 400
QUERY_TERMS = 256
QUERY_CHARACTERS = 10_000
BIGRAM_BUCKETS = 1 << 17
TOP = 10
BEST = 5
"""Documents that a candidate is compared with, to see whether it is like what was found."""

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD = re.compile(r"[^\W_]+")
_IDENTIFIER = re.compile(r"\w*(?:[a-z0-9][A-Z]|[A-Z]{2}[a-z]|_|\.\w|\w\(|\d)\w*")

_ALIKE = "like the best"
_PER_FAMILY = ("standard", "raw", "reciprocal", "nearness", "found")
_PER_FAMILY_QUERY = ("best", "peak", "count")
_TOGETHER = ("fused", "rrf", "share found", "share in top", "best nearness")
_QUERY = ("length", "mean idf", "max idf", "unknown share", "identifier share")
_DOCUMENT = ("title covers", "lead covers", "text covers", "bigrams in text", "covered of title")
_NUMBERS = ("log text length", "log title length")


def stems(text: str, limit: int) -> list[str]:
    """The text's first `limit` terms, split where camelCase and snake_case split, lower case, Snowball-stemmed."""
    import Stemmer

    words = _WORD.findall(_BOUNDARY.sub(" ", text).lower())
    # A Stemmer is not safe to share between threads, and costs under a microsecond to make.
    return list(Stemmer.Stemmer("english").stemWords(words[:limit]))


@dataclass(frozen=True)
class Candidates:
    """A query's union of hits, as rows."""

    doc_ids: list[str]
    features: Array
    """float32 [documents, features], columns as in `FeatureSpace.names`; a linear fusion adds up the first of them."""

    def among(self, doc_ids: Container[str]) -> "Candidates":
        """The candidates with these ids, with the features that they have among all candidates."""
        rows = [row for row, doc_id in enumerate(self.doc_ids) if doc_id in doc_ids]
        return Candidates([self.doc_ids[row] for row in rows], self.features[rows])


class FeatureSpace:
    """What features need to know of the documents, and how they are computed."""

    def __init__(
        self,
        families: Sequence[str],
        doc_ids: Sequence[str],
        sources: Sequence[str],
        vocabulary: Sequence[str],
        arrays: Mapping[str, Array],
    ) -> None:
        from scipy.sparse import csr_array

        self.families, self.doc_ids, self.sources = tuple(families), list(doc_ids), list(sources)
        self.vocabulary = list(vocabulary)
        self.arrays = dict(arrays)
        self._row = {doc_id: row for row, doc_id in enumerate(self.doc_ids)}
        self._term = {term: column for column, term in enumerate(self.vocabulary)}
        self._idf, self._numbers, self._source = arrays["idf"], arrays["numbers"], arrays["source"]
        self._rarest = float(self._idf.max(initial=1.0))
        self._terms: dict[str, Any] = {}
        for field, width in {
            "title": len(vocabulary),
            "lead": len(vocabulary),
            "text": len(vocabulary),
            "bigrams": BIGRAM_BUCKETS,
        }.items():
            indices, indptr = arrays[f"{field}.indices"], arrays[f"{field}.indptr"]
            ones = np.ones(len(indices), np.float32)
            self._terms[field] = csr_array((ones, indices, indptr), shape=(len(self.doc_ids) + 1, width))
        self._title_idf = self._terms["title"] @ self._idf
        self._length = np.sqrt(self._terms["title"] @ self._idf**2 + self._terms["text"] @ self._idf**2)

    @property
    def fused(self) -> int:
        """How many of the first columns a linear fusion adds up: each family's scaled scores, and likeness."""
        return len(self.families) + 1

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        families = self.families
        pairs = [f"{a} and {b}" for i, a in enumerate(families) for b in families[i + 1 :]]
        return [
            *(f"scaled: {family}" for family in families),
            _ALIKE,
            *(f"{kind}: {family}" for kind in _PER_FAMILY for family in families),
            *_TOGETHER,
            *(f"both scaled: {pair}" for pair in pairs),
            *(f"ranks apart: {pair}" for pair in pairs),
            *(f"query {kind}: {family}" for kind in _PER_FAMILY_QUERY for family in families),
            *(f"query overlap in top: {pair}" for pair in pairs),
            *(f"query {kind}" for kind in _QUERY),
            *_DOCUMENT,
            *_NUMBERS,
            "share of fused in source",
            *(f"source: {source}" for source in self.sources),
        ]

    @classmethod
    def build(cls, documents: pl.DataFrame, worth: Mapping[str, float]) -> "FeatureSpace":
        """The feature space of these documents (the `documents` table).

        `worth` names the families whose hits are ordered, with how far each is trusted to find the best documents; its
        unit does not matter.
        """
        documents = documents.sort("doc_id")
        titles = [stems(title, TEXT_TERMS) for title in documents["title"]]
        texts = [stems(text, TEXT_TERMS) for text in documents["text"]]
        vocabulary = sorted({term for terms in (*titles, *texts) for term in terms})
        column = {term: index for index, term in enumerate(vocabulary)}
        title_ids = [[column[term] for term in terms] for terms in titles]
        text_ids = [[column[term] for term in terms] for terms in texts]
        fields = {
            "title": title_ids,
            "lead": [ids[:LEAD_TERMS] for ids in text_ids],
            "text": text_ids,
            "bigrams": [_bigrams(ids) for ids in text_ids],
        }
        arrays: dict[str, Array] = {}
        for field, rows in fields.items():
            unique = [sorted(set(row)) for row in (*rows, [])]  # the last row: a document this release does not know
            arrays[f"{field}.indices"] = np.array([i for row in unique for i in row], np.int32)
            arrays[f"{field}.indptr"] = np.cumsum([0, *map(len, unique)]).astype(np.int32)
        frequency = np.bincount(
            np.array([i for t, b in zip(title_ids, text_ids, strict=True) for i in {*t, *b}], np.int64),
            minlength=len(vocabulary),
        )
        arrays["idf"] = np.log1p((len(documents) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        lengths = [documents["text"].str.len_chars(), documents["title"].str.len_chars()]
        log_lengths = np.log1p(np.stack([length.to_numpy() for length in lengths], axis=1))
        arrays["numbers"] = np.vstack([log_lengths, np.full((1, 2), np.nan)]).astype(np.float32)
        sources = sorted(documents["source"].unique())
        source = [sources.index(name) for name in documents["source"]]
        arrays["source"] = np.array([*source, -1], np.int32)
        families = sorted(worth)
        arrays["trust"] = np.array([worth[family] for family in families], np.float32) / max(sum(worth.values()), 1e-6)
        return cls(families, documents["doc_id"].to_list(), sources, vocabulary, arrays)

    def candidates(self, text: str, hits: Mapping[str, Hits]) -> Candidates:
        """One row for each document of the union of `hits`, in the order of first appearance.

        A family that is absent from `hits` counts as one that found nothing.

        Raises:
            ValueError: when `hits` names a family that this release was not trained with, or a score is not finite.
        """
        if unknown := sorted(set(hits) - set(self.families)):
            raise ValueError(
                f"Hits of {', '.join(unknown)}: expected hits of {', '.join(self.families)} alone, which this ranker "
                "learned from. Train a ranker with the new family's hits."
            )
        doc_ids, from_hits, scaled = _from_hits([hits.get(family, []) for family in self.families])
        unknown_row = len(self.doc_ids)
        rows = np.array([self._row.get(doc_id, unknown_row) for doc_id in doc_ids], np.int64)
        terms = {field: matrix[rows] for field, matrix in self._terms.items()}
        query, document = self._from_text(text, rows, terms)
        alike = self._alike(rows, terms, scaled @ self.arrays["trust"])
        source = self._from_source(rows, scaled.sum(axis=1))
        repeated = np.broadcast_to(query, (len(rows), len(query)))
        parts = [scaled, alike[:, None], from_hits, repeated, document, self._numbers[rows], source]
        return Candidates(doc_ids, np.concatenate(parts, axis=1, dtype=np.float32))

    def _alike(self, rows: Array, terms: Mapping[str, Any], fused: Array) -> Array:
        """How like the best of the others each candidate is, scaled to 0..1 [documents].

        Pseudo-relevance feedback (Rocchio 1971): the cosine of idf-weighted terms, of title and text, with the BEST
        documents by `fused`, weighed by it. A document that this release does not know is like none.
        """
        best = np.argsort(-fused, kind="stable")[:BEST]
        length = np.maximum(self._length[rows], 1e-6)
        alike = np.zeros(len(rows))
        for field in ("title", "text"):
            of_all, profile = self._terms[field], np.zeros(len(self.vocabulary))
            for row, weight in zip(rows[best], fused[best] / length[best], strict=True):
                profile[of_all.indices[of_all.indptr[row] : of_all.indptr[row + 1]]] += weight
            alike += terms[field] @ (profile * self._idf**2)
        alike /= length
        alike[best] -= fused[best] * (self._length[rows[best]] > 0)  # what each of them is to itself
        span = np.ptp(alike) if len(alike) else 0.0
        return (alike - alike.min()) / span if span > 1e-6 else np.zeros_like(alike)

    def _from_text(self, text: str, rows: Array, terms_of: Mapping[str, Any]) -> tuple[Array, Array]:
        text = text[:QUERY_CHARACTERS]
        terms = stems(text, QUERY_TERMS)
        ids = [self._term.get(term) for term in terms]
        idf = np.array([self._rarest if i is None else self._idf[i] for i in ids] or [0.0])
        words = text.split()
        identifiers = sum(bool(_IDENTIFIER.fullmatch(word.strip(".,;:()?!"))) for word in words)
        query = np.array([
            np.log1p(len(terms)), idf.mean(), idf.max(), ids.count(None) / max(len(ids), 1),
            identifiers / max(len(words), 1),
        ])  # fmt: skip

        columns = sorted({i for i in ids if i is not None})
        missing = len({term for term in terms if term not in self._term})
        weights = np.zeros(len(self.vocabulary), np.float32)
        weights[columns] = self._idf[columns]
        whole = max(float(weights[columns].sum()) + missing * self._rarest, 1e-6)
        covered = {field: terms_of[field] @ weights for field in ("title", "lead", "text")}
        pairs = sorted(set(_bigrams(ids)))
        in_query = np.zeros(BIGRAM_BUCKETS, np.float32)
        in_query[pairs] = 1 / max(len(pairs), 1)
        document = np.stack(
            [
                covered["title"] / whole,
                covered["lead"] / whole,
                covered["text"] / whole,
                terms_of["bigrams"] @ in_query,
                covered["title"] / np.maximum(self._title_idf[rows], 1e-6),
            ],
            axis=1,
        )
        document[rows == len(self.doc_ids)] = np.nan
        return query, document

    def _from_source(self, rows: Array, fused: Array) -> Array:
        source = self._source[rows]
        has_source = source >= 0
        onehot = (source[:, None] == np.arange(len(self.sources))).astype(np.float32)
        top = np.argsort(-fused, kind="stable")[:TOP]
        weight = fused[top] @ onehot[top]
        share = onehot @ weight / max(float(fused[top].sum()), 1e-6)
        part = np.column_stack([share, onehot])
        part[~has_source] = np.nan
        return part

    def save(self, folder: Path) -> None:
        """Write features.safetensors and features.json into `folder`."""
        save_file(
            {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}, folder / "features.safetensors"
        )
        names = {"families": self.families, "doc_ids": self.doc_ids, "sources": self.sources}
        (folder / "features.json").write_text(
            json.dumps({**names, "vocabulary": self.vocabulary}, ensure_ascii=False), encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "FeatureSpace":
        """The feature space that `save` wrote into `folder`."""
        names = json.loads((folder / "features.json").read_text(encoding="utf-8"))
        return cls(**names, arrays=load_file(folder / "features.safetensors"))


def _bigrams(ids: Sequence[int | None]) -> list[int]:
    pairs = pairwise(ids)
    return [(a * 1_000_003 + b) % BIGRAM_BUCKETS for a, b in pairs if a is not None and b is not None]


def _from_hits(lists: Sequence[Hits]) -> tuple[list[str], Array, Array]:
    """doc_ids of the union, their features from scores and ranks, and scaled scores [documents, families]."""
    row: dict[str, int] = {}
    for hits in lists:
        for doc_id, _ in hits:
            row.setdefault(doc_id, len(row))
    shape = (len(row), len(lists))
    scaled, standard, raw, ranks = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.full(shape, np.inf)
    query = np.zeros((len(_PER_FAMILY_QUERY), len(lists)))
    for family, hits in enumerate(lists):
        if not hits:
            continue
        rows = [row[doc_id] for doc_id, _ in hits]
        scores = np.array([score for _, score in hits], np.float64)
        if not np.isfinite(scores).all():
            raise ValueError("A hit's score is not a finite number: mend the search model that made it.")
        low, span, deviation = scores.min(), np.ptp(scores), scores.std()
        standardised = (scores - scores.mean()) / (deviation if deviation > 0 else 1.0)
        # A document that a model did not find counts as low as the last one that it found.
        raw[:, family], standard[:, family] = low, standardised.min()
        raw[rows, family], standard[rows, family] = scores, standardised
        scaled[rows, family] = (scores - low) / span if span > 0 else 1.0
        ranks[rows, family] = np.arange(1, len(hits) + 1)
        query[:, family] = scores.max(), standardised.max(), len(hits) / 100
    reciprocal = 1 / ranks
    nearness = np.maximum(1 - np.log(ranks) / np.log(101), 0)
    found_by = np.isfinite(ranks).astype(np.float64)
    in_top = (ranks <= TOP).astype(np.float64)
    pairs = [(a, b) for a in range(len(lists)) for b in range(a + 1, len(lists))]
    together = [
        scaled.mean(axis=1),
        (60 / (60 + ranks)).mean(axis=1),
        found_by.mean(axis=1),
        in_top.mean(axis=1),
        nearness.max(axis=1, initial=0),
    ]
    together += [scaled[:, a] * scaled[:, b] for a, b in pairs]
    together += [np.abs(nearness[:, a] - nearness[:, b]) for a, b in pairs]
    overlaps = np.array([in_top[:, a] @ in_top[:, b] / TOP for a, b in pairs])
    of_query = np.concatenate([query.ravel(), overlaps])
    columns = [standard, raw, reciprocal, nearness, found_by, np.column_stack(together)]
    columns.append(np.broadcast_to(of_query, (len(row), len(of_query))))
    return list(row), np.concatenate(columns, axis=1), scaled
