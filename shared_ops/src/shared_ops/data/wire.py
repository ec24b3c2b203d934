"""The JSON that services and their clients exchange: POST /search, /rank and /embed, GET /sets/<n> and /health.

Both sides check it. WIRE is its version. A worker speaks the version of its own code, which may be of any age, so a
client ignores fields that it does not know. Knows no Dagster and no server.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared_ops.data.tables import Hits

WIRE = 1
"""The version of these messages. Each worker states the version of its own code; one that states none speaks version 1.
"""
SPOKEN = (1,)
"""The versions in which this code can ask."""

MAX_HITS = 1_000
"""The most hits of one search model for one query. The search app asks for 100."""
MAX_TEXTS = 256
"""The most texts whose vectors one request asks for."""
MAX_SCORE = 1e15
"""The greatest absolute score of a hit, which a ranker can still square in float32. No model's scores come near it."""

Progress = Literal["ready", "loading", "failed", "unknown", "elsewhere"]
"""How far a service is with a set; `elsewhere`: another process answers it."""
Score = Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE, allow_inf_nan=False)]


class SearchRequest(BaseModel):
    """Asks a search model for the `k` best documents."""

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
        """The pairs of document and score, best first."""
        return list(zip(self.doc_ids, self.scores, strict=True))


class HitList(_Hits):
    """One family's hits."""

    doc_ids: list[str] = Field(max_length=MAX_HITS)
    scores: list[Score] = Field(max_length=MAX_HITS)

    @classmethod
    def of(cls, hits: Hits) -> Self:
        """The message that holds these hits."""
        return cls(doc_ids=[doc_id for doc_id, _ in hits], scores=[score for _, score in hits])


class RankRequest(BaseModel):
    """Asks a ranker for the order of all documents in `hits`, which holds each family's hits."""

    release: str
    query: str
    hits: dict[str, HitList]
    explain: int = Field(default=0, ge=0, le=1000)
    """The number of documents, from the best on, whose features are asked for too."""

    @classmethod
    def of(cls, release: str, query: str, hits: Mapping[str, Hits], explain: int = 0) -> Self:
        """A request for the order of these hits."""
        columns = {family: HitList.of(family_hits) for family, family_hits in hits.items()}
        return cls(release=release, query=query, hits=columns, explain=explain)


class EmbedRequest(BaseModel):
    """Asks a search model for the vectors of texts."""

    release: str
    texts: list[str] = Field(max_length=MAX_TEXTS)


class HitsAnswer(_Hits):
    """What a search model or a ranker answers. A ranker's order may be longer than one model's hits."""

    family: str
    release: str
    features: list[list[float | None]] | None = None
    """The features of the first documents, as many as were asked for; None where none were, or the model has none."""

    @classmethod
    def of(cls, family: str, release: str, hits: Hits, features: list[list[float | None]] | None = None) -> Self:
        """The answer with these hits, best first, and the features of the first of them; NaN is sent as null."""
        doc_ids, scores = [doc_id for doc_id, _ in hits], [score for _, score in hits]
        return cls(family=family, release=release, doc_ids=doc_ids, scores=scores, features=features)


class EmbedAnswer(BaseModel):
    """The vectors of the texts that were asked for, in their order."""

    family: str
    release: str
    vectors: list[list[float]]


class WireAnswer(BaseModel):
    """What every answer to GET says, whatever its version: which version that is."""

    wire: int = 1

    def sent(self) -> dict[str, Any]:
        """What goes over the wire: only the fields that the service has stated."""
        return self.model_dump(exclude=set(type(self).model_fields) - self.model_fields_set)


class SetState(BaseModel):
    """How far a service is with loading a set."""

    model_config = ConfigDict(frozen=True)

    number: int
    state: Progress
    key: str | None = None
    """The name of what the set needs this service to hold."""
    reason: str | None = None


class SetAnswer(WireAnswer):
    """What GET /sets/<n> answers: the state of a set, and what it needs the service to hold."""

    number: int
    state: Progress
    release: str | None = None
    """In a prediction service's answer."""
    snapshot: str | None = None
    """In the search app's answer."""
    reason: str | None = None


class HealthAnswer(WireAnswer):
    """What GET /health answers. The search app says more of itself besides."""

    model_config = ConfigDict(extra="allow")

    service: str
    status: Literal["ok", "standing by", "waiting"]
    live_set: int | None
    """The number of the set that it answers from."""
    held: list[str]
    """The keys of what it holds."""
    sets: list[SetState]
    """Those that are live or proposed, or were a moment ago."""
    reason: str | None = None
    """Why it cannot follow the live set, or cannot answer yet."""
    code: str | None = None
    """The hash of the code that a worker runs."""
    environment: str | None = None
    """The SHA-256 of the lock of a worker's environment."""
    as_stated: bool | None = None
    """Whether the live release's manifest states the worker's code and environment."""
