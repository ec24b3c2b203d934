"""The HTTP service of one family's staged model: POST /search and /embed, or /rank, by the release's name.

Holds the family's releases of the live set, of the proposed one and of the one before; a worker holds only those that
run with its own code and environment. Knows nothing of the family but its role.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services import web
from services.holder import Holder
from services.prediction.loading import EmbedModel, ExplainModel, check_hits, load_model, load_release
from shared_ops.data.tables import Hits
from shared_ops.data.wire import EmbedAnswer, EmbedRequest, HitsAnswer, RankRequest, SearchRequest
from shared_ops.release import runtimes
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseError, Staging
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import Settings, families

Result = TypeVar("Result")

REST = 2
"""After a text that took a time to embed, the model embeds no other for this many times as long."""

MAX_BODY = {"search": 6_000_000, "rank": 2_000_000}
"""Bytes of a request at most, by the service's role: enough for as many texts of 5,000 characters as one may hold; or
for a query and 100 hits of each of three models, whose ids have 1,500 characters of four bytes.
"""

_SEARCH, _RANK, _EMBED = TypeAdapter(SearchRequest), TypeAdapter(RankRequest), TypeAdapter(EmbedRequest)


class Worker:
    """One thread for the model, because no family promises to be thread-safe; and a bound on the requests that wait.

    Past the bound, an answer would come after the search app has given up, so the worker says at once that it is busy.
    """

    def __init__(self, waiting_limit: int) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._limit = waiting_limit
        self._waiting = 0
        self._free = asyncio.Event()
        self._free.set()

    async def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call `function` in the model's thread.

        Raises:
            HTTPException: 503 when too many are waiting.
        """
        if self._waiting >= self._limit:
            raise HTTPException(503, f"Busy: {self._waiting} requests are waiting for this model.")
        self._waiting += 1
        self._free.clear()
        try:
            return await self._call(function, *arguments)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._free.set()

    async def call_last(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call `function` in the model's thread once no `call` is waiting: those go first.

        It returns after a rest (`REST`), so that a caller with many texts leaves most of the processor to others.
        """
        while self._waiting:
            await self._free.wait()
        began = time.perf_counter()
        try:
            return await self._call(function, *arguments)
        finally:
            await asyncio.sleep(REST * (time.perf_counter() - began))

    async def _call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def holder_of(
    family: str, settings: Settings, runtime: Runtime | None = None, load: Callable[[str, Path], Any] = load_model
) -> Holder[Any]:
    """A holder of the family's releases in prod's sets; for a worker, of those that run with its `runtime`."""
    staging = Staging(settings.staging_url("prod"))

    def key(live_set: LiveSet) -> str | None:
        version = live_set.releases.get(family)
        if version is None:
            return None  # the family takes no part in this set
        try:
            ours = runtime is None or runtimes.of_release(staging.url, family, version) == runtime
        except ReleaseError:
            ours = True  # loading it will say what is wrong
        return version if ours else None

    return Holder(
        LiveSets(staging.url),
        settings,
        key=key,
        load=lambda live_set: load_release(family, live_set, staging, load),
    )


def create_app(family: str, settings: Settings, holder: Holder[Any], runtime: Runtime | None = None) -> FastAPI:
    """The service of `family`, answering with what `holder` holds.

    Raises:
        KeyError: when `family` is not one of repos/repos.toml's model families.
    """
    role, environment = families()[family].role, runtimes.made_from(Path(sys.prefix))
    worker = Worker(settings.waiting_limit)

    def answers_with() -> dict[str, Any]:
        """The code and the environment of this process, and whether the live release's manifest states just these."""
        if runtime is None:
            return {}
        own, live, as_stated = {"code": runtime.code, "environment": environment}, holder.live, True
        if live is not None:
            stated = runtimes.of_release(settings.staging_url("prod"), family, live.live_set.releases[family])
            as_stated = not stated.code or own == {"code": stated.code, "environment": stated.environment}
        return {**own, "as_stated": as_stated}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with holder.running():
            yield

    app = FastAPI(title=f"Searchloop: {family}", lifespan=lifespan, docs_url=None, redoc_url=None)
    web.equip(
        app,
        family,
        holder,
        holds="release",
        host=settings.host,
        max_body=MAX_BODY[role],
        more_health=answers_with,
    )

    def model_of(release: str, *queries: str) -> Any:
        longest = max(map(len, queries), default=0)
        if longest > settings.query_max_characters:
            raise HTTPException(
                422, f"query: expected {settings.query_max_characters} characters at most, got {longest}."
            )
        model = holder.get(release)
        if model is not None:
            return model
        if not holder.held():
            raise HTTPException(503, f"{family} holds no release yet. {web.not_ready(holder)}")
        raise HTTPException(404, f"{family} does not hold release {release!r}, only: {', '.join(holder.held())}.")

    def answer(release: str, hits: Hits, features: list[list[float | None]] | None = None) -> Response:
        content = HitsAnswer.of(family, release, check_hits(hits), features)
        return web.json_response(content.model_dump(exclude_none=True))

    async def search(request: Request) -> Response:
        body = web.parse(_SEARCH, await request.body())
        model = model_of(body.release, body.query)
        (hits,) = await worker.call(model.search, [body.query], body.k)
        return answer(body.release, hits)

    async def embed(request: Request) -> Response:
        body = web.parse(_EMBED, await request.body())
        model = model_of(body.release, *body.texts)
        if not isinstance(model, EmbedModel):
            raise HTTPException(404, f"{family}'s models have no vectors of queries.")
        vectors: list[list[float]] = []
        for text in body.texts:  # one by one: a search that comes meanwhile waits for no more than one
            vectors.extend((await worker.call_last(model.embed, [text])).tolist())
        return web.json_response(EmbedAnswer(family=family, release=body.release, vectors=vectors).model_dump())

    async def rank(request: Request) -> Response:
        body = web.parse(_RANK, await request.body())
        model = model_of(body.release, body.query)
        if unknown := sorted(set(body.hits) - set(model.families)):
            raise HTTPException(
                422, f"hits: expected those of {', '.join(model.families)}, got some of {', '.join(unknown)[:200]!r}."
            )
        hits = {name: family_hits.hits for name, family_hits in body.hits.items()}
        if body.explain and isinstance(model, ExplainModel):
            order, features = await worker.call(model.explain, body.query, hits, body.explain)
            return answer(body.release, order, features.tolist())
        return answer(body.release, await worker.call(model.rank, body.query, hits))

    if role == "rank":
        app.post("/rank")(rank)
    else:
        app.post("/search")(search)
        app.post("/embed")(embed)
    return app
