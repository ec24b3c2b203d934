"""What every service answers beside its own work: /sets, /health, /metrics, errors in clear words; and its server.

Knows neither models nor the page.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config

from services import connections
from services.connections import IDLE_SECONDS, BoundedProtocol
from services.door import wrong_name
from services.holder import Holder
from shared_ops.data.wire import WIRE, HealthAnswer, SetAnswer
from shared_ops.release.livesets import NOTHING_LIVE

log = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")
Route = TypeVar("Route", bound=Callable[..., Any])

LATENCY_BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0)

MAX_SET = 2**63 - 1
"""The greatest number of a set: what JSON's readers can hold."""

CLIENT_LEFT = 499
"""nginx's status for a client that left before it was answered; nobody gets it, metrics count it."""

ErrorResponse = Callable[[Request, int, str], Response]


def json_response(content: Any, status: int = 200) -> Response:
    """`content` as JSON, by orjson. It may hold arrays of numpy; NaN becomes null."""
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


def parse(kind: TypeAdapter[Parsed], body: bytes) -> Parsed:
    """A request's body, parsed and checked in one step. Unlike json, pydantic's parser refuses invalid Unicode.

    Raises:
        RequestValidationError: when it is no JSON or not of this kind.
    """
    try:
        return kind.validate_json(body)
    except ValidationError as error:
        problems = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(problems) from error


def json_error(request: Request, status: int, message: str) -> Response:
    """An error as JSON: {"error": message}."""
    return json_response({"error": message}, status)


def equip(
    app: FastAPI,
    name: str,
    holder: Holder[Any],
    *,
    holds: str,
    host: str,
    max_body: int,
    error_response: ErrorResponse = json_error,
    more_health: Callable[[], Mapping[str, Any]] = dict,
) -> CollectorRegistry:
    """Give `app` the routes, the bounds and the errors that every service has. Returns the registry of its metrics.

    Args:
        app: the service.
        name: what it calls itself in metrics and in /health.
        holder: what it holds for the live set.
        holds: the word for what that is, in answers: release or snapshot.
        host: the address that it listens on.
        max_body: the bytes of the largest request's body that it takes, on any route.
        error_response: makes the response for a status and a message.
        more_health: what /health says besides.
    """
    registry = _registry(name, holder, holds)
    app.add_middleware(RequestGuard, host=host, max_body=max_body, error_response=error_response)
    app.add_middleware(RequestMetrics, name=name, registry=registry, error_response=error_response)

    @reading(app, "/sets/{number}")
    async def set_state(number: Annotated[int, Path(ge=0, le=MAX_SET)]) -> Response:
        found = holder.state(number)
        held: Any = {holds: found.key}
        answer = SetAnswer(number=number, state=found.state, reason=found.reason, wire=WIRE, **held)
        return json_response(answer.sent())

    @reading(app, "/health")
    async def health() -> Response:
        live = holder.live
        answer = HealthAnswer(
            service=name,
            wire=WIRE,
            status="ok" if live else "standing by" if holder.stands_by() else "waiting",
            live_set=live and live.live_set.number,
            held=holder.held(),
            sets=holder.states(),
            reason=holder.problem if live else not_ready(holder),
            **more_health(),
        )
        return json_response(answer.sent(), 503 if answer.status == "waiting" else 200)

    @reading(app, "/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        response = error_response(request, error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def bad_request(request: Request, error: RequestValidationError) -> Response:
        return error_response(request, 422, "; ".join(_problem(each) for each in error.errors()[:3]))

    return registry


def reading(app: FastAPI, path: str) -> Callable[[Route], Route]:
    """A decorator: the function answers GET, and HEAD, for which uvicorn leaves out the answer's body."""

    def register(function: Route) -> Route:
        app.head(path, include_in_schema=False)(function)
        app.get(path)(function)
        return function

    return register


def not_ready(holder: Holder[Any]) -> str:
    """Why a service cannot answer yet, in words."""
    if holder.problem:
        return f"The live set cannot be read: {holder.problem}"
    states = holder.states()
    if not states:
        return f"{NOTHING_LIVE}."
    return "; ".join(
        f"set {each.number} is {each.state}" + (f": {each.reason}" if each.reason else "") for each in states
    )


def serve(app: FastAPI, host: str, port: int) -> None:
    """Answer on `host:port` until the process is told to end."""
    log_lines()
    connections.serve(Config(app, host=host, port=port, **SERVER))


def log_lines() -> None:
    """Write what is logged to stderr, with its time and its logger's name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


SERVER: dict[str, Any] = {
    "http": BoundedProtocol,
    "ws": "none",
    "loop": "uvloop",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "timeout_keep_alive": IDLE_SECONDS,
    "timeout_graceful_shutdown": 5,
}
"""uvicorn's settings, for every service."""


class RequestGuard:
    """Refuses requests that mean another server, and too large bodies before they are read whole."""

    def __init__(self, app: ASGIApp, host: str, max_body: int, error_response: ErrorResponse) -> None:
        self._app, self._host, self._max_body, self._error_response = app, host, max_body, error_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = int(headers.get("content-length", "0"))
        if reason := wrong_name(headers, self._host):
            await self._error_response(Request(scope), 403, reason)(scope, receive, send)
        elif length > self._max_body:
            await self._error_response(Request(scope), 413, self._too_large())(scope, receive, send)
        else:
            await self._app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        size = 0

        async def take() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body:
                raise HTTPException(413, self._too_large())
            return message

        return take

    def _too_large(self) -> str:
        return f"The body: expected {self._max_body:,} bytes at most, got more. Send it in smaller parts."


class RequestMetrics:
    """Counts and times requests by route and status, and turns a failure into an answer.

    An exception that leaves the app would make uvicorn close the connection, which a client may just be reusing.
    """

    def __init__(self, app: ASGIApp, name: str, registry: CollectorRegistry, error_response: ErrorResponse) -> None:
        self._app, self._name, self._error_response = app, name, error_response
        self._requests = Counter("searchloop_requests", "Requests answered.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "searchloop_request_seconds", "Time to answer.", ["route"], buckets=LATENCY_BUCKETS, registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def remember_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, remember_status)
        except ClientDisconnect:
            status = status or CLIENT_LEFT
        except Exception as error:
            if status:
                raise
            log.exception("Failed on %s", scope["path"])
            message = f"{self._name} failed on this request ({type(error).__name__}). Its log says more."
            await self._error_response(Request(scope), 500, message)(scope, receive, remember_status)
        finally:
            # The route's pattern, never the path: a label has few values.
            route = getattr(scope.get("route"), "path", "other")
            self._requests.labels(route, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - started)


class _HolderCollector(Collector):
    """What is held and what failed to load, read when scraped."""

    def __init__(self, name: str, holder: Holder[Any], holds: str) -> None:
        self._name, self._holder, self._holds = name, holder, holds

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily("searchloop_held", "Held in memory.", labels=["service", self._holds, "live"])
        live = self._holder.live
        for key in self._holder.held():
            answering = live is not None and self._holder.get(key) is live.content
            gauge.add_metric([self._name, key, str(answering).lower()], 1)
        failures = CounterMetricFamily("searchloop_load_failures", "Loads that failed.", labels=["service"])
        failures.add_metric([self._name], self._holder.load_failures)
        return [gauge, failures]


def _registry(name: str, holder: Holder[Any], holds: str) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    registry.register(_HolderCollector(name, holder, holds))
    return registry


def _problem(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"][1:]) or "body"
    return f"{where}: {error['msg']}"
