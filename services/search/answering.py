"""From a query to the final order: the set's searches in parallel, then its ranker. Knows no HTTP route and no page.

One set answers a query from its start to its end. Where a model is down or late, its hits are missing and no more;
without the ranker, the hits are fused by their ranks. The answer says so in either case.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar
from uuid import uuid4

from services.holder import Live
from services.search.documents import Documents
from services.search.memory import Features, Findings
from services.search.models import Models, UnavailableError
from services.search.snippets import snippet, terms
from shared_ops.data.tables import Hits
from shared_ops.judge.fusion import reciprocal_rank_fusion
from shared_ops.release.livesets import LiveSet

Result = TypeVar("Result")


@dataclass(slots=True)
class MissingModel:
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
class Explanation:
    """The features that the ranker computed for the documents shown: [documents, features], None where not known."""

    release: str
    features: Features


@dataclass(slots=True)
class Answer:
    """The answer to a query."""

    query: str
    k: int
    live_set: LiveSet
    query_id: str = field(default_factory=lambda: uuid4().hex)
    found: int = 0
    """How many documents the models found together."""
    ranking: Literal["ranker", "rrf"] = "ranker"
    hits: list[Hit] = field(default_factory=list)
    degraded: list[MissingModel] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Stage to milliseconds: each model, `search` (until the last of them), `rank`, `snippets`, `total`."""
    basis: Findings = field(default_factory=lambda: Findings({}, [], []))
    """All that was found, of which `hits` shows the first."""
    explained: Explanation | None = None


class NothingAnswersError(RuntimeError):
    """Every search model is down."""

    def __init__(self, degraded: list[MissingModel]) -> None:
        self.degraded = degraded
        super().__init__(
            "No search model answers: " + "; ".join(f"{each.family}: {each.reason}" for each in degraded) + "."
        )


async def answer(query: str, k: int, live: Live[Documents], models: Models, *, explain: bool) -> Answer:
    """Answer a cleaned query with the `k` best documents of the live set; `explain` asks for their features too.

    Raises:
        NothingAnswersError: when no search model answers.
    """
    started = time.perf_counter()
    result = Answer(query, k, live.live_set)
    by_family = await _search_all(result, live, models)
    result.timings_ms["search"] = _since(started)
    order, features = await _rank(result, by_family, models, k if explain else 0)
    return written(result, Findings(by_family, order, features), live, started)


def written(result: Answer, found: Findings, live: Live[Documents], started: float) -> Answer:
    """The answer, of what was found for it; `started` is the time at which it began (time.perf_counter)."""
    result.basis, result.found = found, len(found.order)
    if found.features:
        release = result.live_set.releases[result.live_set.ranker]
        result.explained = Explanation(release, found.features[: result.k])
    writing = time.perf_counter()
    result.hits = _hits(found.order[: result.k], found.by_family, result.query, live.content)
    result.timings_ms["snippets"] = _since(writing)
    result.timings_ms["total"] = _since(started)
    return result


async def _search_all(result: Answer, live: Live[Documents], models: Models) -> dict[str, Hits]:
    """Every search model's hits among the snapshot's documents; none from a model that is down or late."""

    async def timed(family: str) -> Hits:
        started = time.perf_counter()
        try:
            return await models.search(family, live.live_set.releases[family], result.query)
        finally:
            result.timings_ms[family] = _since(started)

    tasks = {family: asyncio.create_task(timed(family)) for family in live.live_set.search_families}
    await _some(tasks.values(), models.timeout_ms / 1000)
    by_family: dict[str, Hits] = {}
    for family, task in tasks.items():
        try:
            # A document that left the corpus leaves the results, whatever the model still holds.
            by_family[family] = [hit for hit in _result(task, models) if hit[0] in live.content]
        except UnavailableError as error:
            result.degraded.append(MissingModel(family, str(error)))
            by_family[family] = []
    if len(result.degraded) == len(tasks):
        raise NothingAnswersError(result.degraded)
    return by_family


async def _some(tasks: Iterable[asyncio.Task[Hits]], seconds: float) -> None:
    """Wait `seconds` for all tasks, and where none has hits by then, until one has: a late answer is better than none.

    Tasks that have not ended by then are cancelled. A task ends by itself when the models' client loses its patience.
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


async def _rank(result: Answer, by_family: Mapping[str, Hits], models: Models, explain: int) -> tuple[Hits, Features]:
    """The final order of everything found, and the features of the first `explain` documents where there are any.

    The order is the ranker's, or by fused ranks where it is down or late.
    """
    union = {doc_id for hits in by_family.values() for doc_id, _ in hits}
    if not union:
        return [], []
    features: Features = []
    started, family = time.perf_counter(), result.live_set.ranker
    release = result.live_set.releases[family]
    task = asyncio.create_task(models.rank(family, release, result.query, by_family, explain))
    await asyncio.wait([task], timeout=models.timeout_ms / 1000)
    try:
        ranked = _result(task, models)
        order = ranked.hits
        if set(ranked.doc_ids) != union:
            raise UnavailableError("ranked other documents than it was asked to")
        features = ranked.features or []
    except UnavailableError as error:
        task.cancel()
        result.degraded.append(MissingModel(family, str(error)))
        result.ranking = "rrf"
        order = reciprocal_rank_fusion(by_family)
    result.timings_ms["rank"] = _since(started)
    return order, features


def _hits(order: Hits, by_family: Mapping[str, Hits], query: str, documents: Documents) -> list[Hit]:
    ranks = {
        family: {doc_id: rank for rank, (doc_id, _) in enumerate(hits, start=1)} for family, hits in by_family.items()
    }
    query_terms = terms(query)
    results = []
    for rank, (doc_id, score) in enumerate(order, start=1):
        document = documents[doc_id]
        found_by = {family: places[doc_id] for family, places in ranks.items() if doc_id in places}
        text = snippet(document.text, query_terms)
        results.append(Hit(rank, doc_id, document.title, text, document.source, document.url, score, found_by))
    return results


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
