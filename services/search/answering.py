"""From a query to the final order: the set's searches in parallel, then its ranker. Knows no HTTP route and no page.

One set answers a query from its start to its end. A model that is down or late takes its hits away, and no more;
without the ranker the hits are fused by their ranks; and either is said in the answer.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from uuid import uuid4

from services.holder import Live
from services.search.documents import Documents
from services.search.models import Models, UnavailableError
from services.search.snippets import snippet, terms
from shared_ops.data.tables import Hits
from shared_ops.judge.fusion import reciprocal_rank_fusion
from shared_ops.release.livesets import LiveSet

Result = TypeVar("Result")


@dataclass(slots=True)
class Degraded:
    """A model that had no part in an answer, and why."""

    family: str
    reason: str


@dataclass(slots=True)
class Hit:
    """One result."""

    rank: int
    doc_id: str
    title: str
    snippet: str
    source: str
    url: str | None
    score: float
    found_by: dict[str, int]
    """Family to the rank at which it found the document."""


@dataclass(slots=True)
class Explained:
    """What the ranker saw of the documents shown."""

    release: str
    features: list[list[float | None]]


@dataclass(slots=True)
class Answer:
    """What a query is answered with."""

    query: str
    k: int
    live_set: LiveSet
    query_id: str = field(default_factory=lambda: uuid4().hex)
    found: int = 0
    """How many documents the models found together."""
    ranking: Literal["ranker", "rrf"] = "ranker"
    hits: list[Hit] = field(default_factory=list)
    degraded: list[Degraded] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Stage to milliseconds: each model, `search` (until the last of them), `rank`, `snippets`, `total`."""
    found_by_family: dict[str, Hits] = field(default_factory=dict)
    """The families' hits as the ranker was given them."""
    explained: Explained | None = None


class NothingAnswersError(RuntimeError):
    """Every search model is down."""

    def __init__(self, degraded: list[Degraded]) -> None:
        self.degraded = degraded
        super().__init__(
            "No search model answers: " + "; ".join(f"{each.family}: {each.reason}" for each in degraded) + "."
        )


async def answer(query: str, k: int, live: Live[Documents], models: Models, *, explain: bool) -> Answer:
    """Answer a cleaned query with the `k` best documents of the live set; `explain` asks for their features too.

    Raises:
        NothingAnswersError: when no search model does.
    """
    started = time.perf_counter()
    made = Answer(query, k, live.live_set)
    found = made.found_by_family = await _search_all(made, live, models)
    made.timings_ms["search"] = _since(started)
    order = await _rank(made, found, models, k if explain else 0)
    made.found = len(order)
    writing = time.perf_counter()
    made.hits = _hits(order[:k], found, query, live.content)
    made.timings_ms["snippets"] = _since(writing)
    made.timings_ms["total"] = _since(started)
    return made


async def _search_all(made: Answer, live: Live[Documents], models: Models) -> dict[str, Hits]:
    """Every search model's hits among the snapshot's documents; none from a model that is down or late."""

    async def timed(family: str) -> Hits:
        started = time.perf_counter()
        try:
            return await models.search(family, live.live_set.releases[family], made.query)
        finally:
            made.timings_ms[family] = _since(started)

    asked = {family: asyncio.create_task(timed(family)) for family in live.live_set.searching}
    await _some(asked.values(), models.timeout_ms / 1000)
    found: dict[str, Hits] = {}
    for family, task in asked.items():
        try:
            # A document that left the corpus leaves the results, whatever the model still holds.
            found[family] = [hit for hit in _result(task, models) if hit[0] in live.content]
        except UnavailableError as error:
            made.degraded.append(Degraded(family, str(error)))
            found[family] = []
    if len(made.degraded) == len(asked):
        raise NothingAnswersError(made.degraded)
    return found


async def _some(tasks: Iterable[asyncio.Task[Hits]], seconds: float) -> None:
    """Wait `seconds` for all tasks, and if none has hits by then, until one has: a late answer is better than none.

    Tasks end by themselves when the models' client has lost its patience.
    """
    done, pending = await asyncio.wait(tasks, timeout=seconds)
    while pending and all(task.exception() for task in done):
        more, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    for task in pending:
        task.cancel()


def _result(task: asyncio.Task[Result], models: Models) -> Result:
    if not task.done():
        raise UnavailableError(f"no answer within {models.timeout_ms} ms")
    return task.result()


async def _rank(made: Answer, found: Mapping[str, Hits], models: Models, explain: int) -> Hits:
    """The final order of everything found: the ranker's, or by fused ranks where it is down or late."""
    union = {doc_id for hits in found.values() for doc_id, _ in hits}
    if not union:
        return []
    started, family = time.perf_counter(), made.live_set.ranker
    release = made.live_set.releases[family]
    asked = asyncio.create_task(models.rank(family, release, made.query, found, explain))
    await asyncio.wait([asked], timeout=models.timeout_ms / 1000)
    try:
        order, features = _result(asked, models)
        if {doc_id for doc_id, _ in order} != union:
            raise UnavailableError("ranked other documents than it was asked to")
        if features is not None:
            made.explained = Explained(release, features)
    except UnavailableError as error:
        asked.cancel()
        made.degraded.append(Degraded(family, str(error)))
        made.ranking = "rrf"
        order = reciprocal_rank_fusion(found)
    made.timings_ms["rank"] = _since(started)
    return order


def _hits(order: Hits, found: Mapping[str, Hits], query: str, documents: Documents) -> list[Hit]:
    ranks = {family: {doc_id: rank for rank, (doc_id, _) in enumerate(hits, start=1)} for family, hits in found.items()}
    wanted = terms(query)
    made = []
    for rank, (doc_id, score) in enumerate(order, start=1):
        document = documents[doc_id]
        found_by = {family: places[doc_id] for family, places in ranks.items() if doc_id in places}
        text = snippet(document.text, wanted)
        made.append(Hit(rank, doc_id, document.title, text, document.source, document.url, score, found_by))
    return made


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
