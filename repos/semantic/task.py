"""What training works on: passages and queries as encoder inputs, and which documents answer which queries.

Knows nothing of how a model is learned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from inspect import getsource
from pathlib import Path

import numpy as np
import polars as pl

from repos.semantic import bert, index
from repos.semantic import encoder as encoder_module
from repos.semantic.bert import Tokens
from repos.semantic.cache import VectorCache, embed
from repos.semantic.encoder import Encoder
from repos.semantic.head import Head
from repos.semantic.model import Origin, Parameters, SemanticModel, query_inputs
from repos.semantic.passages import PassageLimits, Passages, cut
from shared_ops.data.tables import hits_table
from shared_ops.judge.evaluation import PRIMARY, per_query

Log = Callable[[str], None]


@dataclass(frozen=True)
class Encoding:
    """A task's passages and queries as vectors of one encoder."""

    encoder: Encoder
    passages: np.ndarray
    """[passages, width] float16."""
    queries: np.ndarray
    """[queries, width] float32; zeros for a query without a word that the encoder knows."""


@dataclass(frozen=True)
class Task:
    """Documents in the order of doc_id, queries in the order of query_id."""

    parameters: Parameters
    doc_ids: list[str]
    passages: Passages
    queries: pl.DataFrame
    query_inputs: list[Tokens]
    qrels: pl.DataFrame
    relevant: list[dict[int, int]]
    """For each query, the places of its relevant documents in `doc_ids`, with their grades."""
    cache: Path | None
    log: Log

    @classmethod
    def of(
        cls,
        documents: pl.DataFrame,
        queries: pl.DataFrame,
        qrels: pl.DataFrame,
        encoder: Encoder,
        parameters: Parameters,
        cache: Path | None,
        log: Log,
    ) -> "Task":
        """The task of these tables.

        Raises:
            ValueError: when there are no documents.
        """
        if documents.is_empty():
            raise ValueError("There are no documents to search: expected at least one in the snapshot.")
        documents, queries = documents.sort("doc_id"), queries.sort("query_id")
        how = PassageLimits(
            size=parameters.passage_tokens,
            title=parameters.title_tokens,
            passages=parameters.passages_per_document,
            budget=parameters.token_budget,
        )
        passages = cut(encoder, documents["title"].to_list(), documents["text"].to_list(), how)
        places = {doc_id: place for place, doc_id in enumerate(documents["doc_id"])}
        relevant: dict[str, dict[int, int]] = {query_id: {} for query_id in queries["query_id"]}
        for query_id, doc_id, grade in (
            qrels.sort("query_id", "doc_id").select("query_id", "doc_id", "grade").iter_rows()
        ):
            if query_id in relevant and doc_id in places:
                relevant[query_id][places[doc_id]] = grade
        log(
            f"{len(documents)} documents in {len(passages.inputs)} passages, which hold {passages.covered} of their "
            f"{passages.tokens} tokens ({passages.share:.0%})"
        )
        inputs = query_inputs(encoder, queries["text"].to_list())
        return cls(
            parameters, list(places), passages, queries, inputs, qrels, list(relevant.values()), cache, log
        )  # fmt: skip

    def rows(self, split: str) -> np.ndarray:
        """The rows of a split's queries."""
        return np.flatnonzero((self.queries["split"] == split).to_numpy())

    def encode(self, encoder: Encoder, cached: bool = True) -> Encoding:
        """Encode all passages and all queries; where `cached`, take passages from the cache if it holds them."""
        import tensorflow as tf

        encoding = f"{encoder.sha256} {encoder.precision} {encoding_code()} tensorflow {tf.__version__}"
        cache = VectorCache(self.cache, encoding, encoder.width) if self.cache and cached else None
        passages = embed(self.passages.inputs, encoder.encode, encoder.width, cache, self.log)
        queries = np.zeros((len(self.query_inputs), encoder.width), np.float32)
        rows = [row for row, tokens in enumerate(self.query_inputs) if tokens]
        # Documents may be encoded in a lower precision; queries are encoded as the service will encode them.
        queries[rows] = encoder.precise.encode([self.query_inputs[row] for row in rows])
        return Encoding(encoder, passages, queries)

    def model(self, encoded: Encoding, head: Head, learned: bool = False, exact: bool = False) -> SemanticModel:
        """The model that searches the encoded passages through `head`: by `exact` search, or as their number asks for.

        `learned` says whether the encoder's weights were learned here.
        """
        encoder = encoded.encoder
        vectors = head.documents(encoded.passages).astype(np.float16)
        below = len(vectors) + 1 if exact else self.parameters.exact_below
        vector_index = index.build(vectors, self.passages.starts, below, self.parameters.seed)
        origin = Origin(self.parameters.encoder, encoder.sha256, encoder.precision, learned)
        return SemanticModel(encoder.precise, head, vector_index, self.doc_ids, origin)

    def answer(self, model: SemanticModel, encoded: Encoding, rows: Sequence[int] | np.ndarray, k: int) -> pl.DataFrame:
        """The `hits` table of these rows' queries, as `model.search` would answer them."""
        rows = [int(row) for row in rows if self.query_inputs[row]]
        return hits_table(self.queries["query_id"][rows].to_list(), model.nearest(encoded.queries[rows], k))

    def measure(self, hits: pl.DataFrame, split: str) -> np.ndarray:
        """nDCG@10 of each judged query of a split, in the order of query_id."""
        split_queries = self.queries.filter(pl.col("split") == split).select("query_id")
        judged = self.qrels.join(split_queries, on="query_id", how="semi")
        return np.zeros(0) if judged.is_empty() else per_query(hits, judged)[PRIMARY].to_numpy()


def encoding_code() -> str:
    """The hash of the code that makes a vector of an encoder's input: what other code encoded is not taken for it."""
    return sha256("".join(map(getsource, (bert, encoder_module))).encode()).hexdigest()
