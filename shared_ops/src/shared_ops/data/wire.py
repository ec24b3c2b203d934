"""What a prediction service and those who ask it say to each other, as JSON: POST /search, /rank and /embed.

Both sides check it. Its version is WIRE: a worker speaks that of its own code, which may be of any age, so who asks
passes over fields that it does not know. Knows no Dagster and no server.
"""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from shared_ops.data.tables import Hits

WIRE = 1
"""The version of this, and of GET /sets/<n> and /health. Each worker states that of its own code: none stated is
version 1."""
SPOKEN = (1,)
"""The versions that this code can ask in."""

MAX_HITS = 1_000
"""Of one search model for one query. The search app asks for 100."""
MAX_TEXTS = 256
"""Whose vectors are asked for at once."""
MAX_SCORE = 1e15
"""Of a hit, whichever sign: what a ranker can still square in float32. Nothing that models score by comes near it."""

Score = Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE, allow_inf_nan=False)]


class SearchRequest(BaseModel):
    """Ask a search model: the `k` best documents."""

    release: str
    query: str
    k: int = Field(default=100, ge=1, le=MAX_HITS)


class _Hits(BaseModel):
    """Documents with their scores, best first, each once."""

    doc_ids: list[str]
    scores: list[Score]

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if len(self.doc_ids) != len(self.scores):
            raise ValueError(f"expected a score for every document, got {len(self.doc_ids)} and {len(self.scores)}")
        if len(set(self.doc_ids)) < len(self.doc_ids):
            raise ValueError("expected every document once, got one twice")
        return self

    @property
    def hits(self) -> Hits:
        """Hits as they are in memory."""
        return list(zip(self.doc_ids, self.scores, strict=True))


class HitList(_Hits):
    """One family's hits."""

    doc_ids: list[str] = Field(max_length=MAX_HITS)
    scores: list[Score] = Field(max_length=MAX_HITS)

    @classmethod
    def of(cls, hits: Hits) -> Self:
        """Hits as they go over the wire."""
        return cls(doc_ids=[doc_id for doc_id, _ in hits], scores=[score for _, score in hits])


class RankRequest(BaseModel):
    """Ask a ranker: the order of all documents in `hits`, which are each family's."""

    release: str
    query: str
    hits: dict[str, HitList]
    explain: int = Field(default=0, ge=0, le=1000)
    """Of how many documents, from the best, the features are wanted too."""

    @classmethod
    def of(cls, release: str, query: str, hits: Mapping[str, Hits], explain: int = 0) -> Self:
        """A request for the order of these hits."""
        columns = {family: HitList.of(found) for family, found in hits.items()}
        return cls(release=release, query=query, hits=columns, explain=explain)


class EmbedRequest(BaseModel):
    """Ask a search model for the vectors of texts."""

    release: str
    texts: list[str] = Field(max_length=MAX_TEXTS)


class HitsAnswer(_Hits):
    """What a search model or a ranker answers. A ranker's order may be longer than one model's hits."""

    family: str
    release: str
    features: list[list[float | None]] | None = None
    """Of the first of them, as far as they were asked for and the model has any."""


class EmbedAnswer(BaseModel):
    """The vectors of the texts that were asked for, in their order."""

    family: str
    release: str
    vectors: list[list[float]]
