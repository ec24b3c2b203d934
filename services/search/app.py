"""The search app: GET /search as JSON, / as a page that works without JavaScript, and POST /events for its clicks."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, Query, Request
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services import web
from services.connections import URL_TOO_LONG
from services.holder import Holder, Live
from services.search import documents, events, snippets
from services.search.admission import Admission
from services.search.answering import Answer, NothingAnswersError, answer, written
from services.search.documents import Documents
from services.search.memory import Memory
from services.search.models import Models
from services.search.queries import clean
from services.search.recording import Recorder
from services.search.visitors import Visitor, remember, visitor
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.settings import Settings

HERE = Path(__file__).parent
PAGE_HEADERS = {
    # Everything the page needs comes from this app, in files of its own: nothing in the page is a script.
    "content-security-policy": "default-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

Text = Annotated[str, Query(description="what to search for")]
Count = Annotated[int, Query(ge=1, le=100, description="how many results")]


class Measures:
    """What the answers say about the models, as metrics and in /health."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answered = 0
        self._lacking: dict[str, dict[str, Any]] = {}
        self._stages = Histogram(
            "searchloop_stage_seconds",
            "Time of each stage of an answer.",
            ["stage"],
            buckets=web.LATENCY_BUCKETS,
            registry=registry,
        )
        self._answers = Counter("searchloop_answers", "Answers by who ordered them.", ["ranking"], registry=registry)
        self.remembered = Counter("searchloop_remembered", "Answers from memory.", registry=registry)
        self._degraded = Counter(
            "searchloop_degraded", "Answers that a model had no part in.", ["family"], registry=registry
        )

    def record(self, result: Answer) -> None:
        """Count an answer."""
        self._answered += 1
        self._answers.labels(result.ranking).inc()
        for stage, milliseconds in result.timings_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        for each in result.degraded:
            self._degraded.labels(each.family).inc()
            now = datetime.now(UTC).isoformat(timespec="seconds")
            lacking = self._lacking.setdefault(each.family, {"searches": 0, "since": now, "cause": each.reason})
            lacking["searches"] += 1

    def health(self, refused: int) -> dict[str, Any]:
        """How many searches were answered, and refused; how many lacked each model, since when, and the first cause."""
        return {"searches": {"answered": self._answered, "refused": refused, "lacking": self._lacking}}


class Page:
    """The page, rendered on the server; everything in it is escaped."""

    def __init__(self, longest: int) -> None:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        environment.globals["longest"] = longest
        environment.globals["mark"] = snippets.mark
        self._template = environment.get_template("page.html")

    def render(
        self,
        *,
        query: str = "",
        result: Answer | None = None,
        error: str | None = None,
        live_set: LiveSet | None = None,
        recorded: bool = False,
        status: int = 200,
    ) -> Response:
        """The start page, an answer, or an error in words. The page of a `recorded` answer sends clicks to /events."""
        query_terms = snippets.terms(query)
        content = self._template.render(
            query=query, result=result, error=error, live_set=live_set, recorded=recorded, query_terms=query_terms
        )
        return Response(content, status, headers=PAGE_HEADERS, media_type="text/html")


def create_app(settings: Settings) -> FastAPI:
    """The search app, following the prod deployment's live set."""
    models = Models(settings)
    recorder = Recorder(settings)
    admission = Admission(settings)
    memory = Memory(settings.cache_seconds)
    page = Page(settings.query_max_characters)
    holder: Holder[Documents] = Holder(
        LiveSets(settings.staging_url("prod")),
        settings,
        key=lambda live_set: live_set.snapshot.id,
        load=lambda live_set: documents.load(live_set.snapshot),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with models.connected(), holder.running(), recorder.running():
            yield

    def error_response(request: Request, status: int, message: str) -> Response:
        if request.scope["path"] == "/":
            live = holder.live
            return page.render(error=message, status=status, live_set=live and live.live_set)
        return web.json_error(request, status, message)

    app = FastAPI(title="Searchloop", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    registry = web.equip(
        app,
        "search",
        holder,
        holds="snapshot",
        host=settings.host,
        max_body=events.MAX_BYTES,
        error_response=error_response,
        more_health=lambda: {**recorder.health(), **measures.health(admission.refused)},
    )
    registry.register(recorder)
    measures = Measures(registry)

    def records(who: Visitor) -> bool:
        return recorder.on and who.recorded

    async def remembered_or_asked(query: str, k: int, live: Live[Documents], fresh: bool, explain: bool) -> Answer:
        """The answer from memory, where it is wanted and there; else the models' in its turn."""
        started, number = time.perf_counter(), live.live_set.number
        remembered = None if fresh else memory.recall(number, query, k if explain else 0)
        if remembered:
            measures.remembered.inc()
            return written(Answer(query, k, live.live_set), remembered, live, started)
        async with admission.turn():
            try:
                result = await answer(query, k, live, models, explain=explain)
            except NothingAnswersError as error:
                raise HTTPException(503, str(error)) from error
        if not result.degraded:
            memory.keep(number, query, result.basis)
        return result

    async def answer_to(request: Request, q: str, k: int, who: Visitor) -> Answer:
        if URL_TOO_LONG in request.scope:
            raise HTTPException(
                414, f"The query: expected {settings.query_max_characters:,} characters at most, got far more."
            )
        query = clean(q, settings.query_max_characters)
        live = holder.live
        if live is None:
            raise HTTPException(503, f"Search is not ready. {web.not_ready(holder)}")
        result = await remembered_or_asked(
            query, k, live, "no-cache" in request.headers.get("cache-control", "").lower(), records(who)
        )
        measures.record(result)
        if records(who):
            await recorder.search(result, who)
        return result

    @web.reading(app, "/search")
    async def search(request: Request, q: Text = "", k: Count = 10) -> Response:
        return web.json_response(_as_json(await answer_to(request, q, k, visitor(request))))

    @web.reading(app, "/")
    async def start(request: Request, q: Text = "", k: Count = 10) -> Response:
        if not q.strip() and URL_TOO_LONG not in request.scope:
            live = holder.live
            return page.render(live_set=live and live.live_set)
        who = visitor(request)
        result = await answer_to(request, q, k, who)
        response = page.render(query=result.query, result=result, live_set=result.live_set, recorded=records(who))
        if records(who):
            remember(request, response, who)
        return response

    @app.post("/events")
    async def take_events(request: Request) -> Response:
        who = visitor(request)
        batch = await events.read(request, who)
        if records(who) and not await recorder.events(batch):
            raise HTTPException(503, "The events could not be kept. Send them again, with the same event_id.")
        return web.json_response({"accepted": len(batch) if records(who) else 0}, 202)

    return app


def _as_json(result: Answer) -> dict[str, object]:
    live_set = result.live_set
    return {
        "query_id": result.query_id,
        "query": result.query,
        "k": result.k,
        "found": result.found,
        "ranking": result.ranking,
        "degraded": result.degraded,
        "hits": result.hits,
        "live_set": {
            "number": live_set.number,
            "releases": live_set.releases,
            "snapshot": live_set.snapshot.id,
        },
        "timings_ms": result.timings_ms,
    }
