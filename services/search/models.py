"""The search app's client of the prediction services: hits, or a reason why there are none."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import orjson

from shared_ops.data.tables import Hits
from shared_ops.data.wire import HitsAnswer, RankRequest, SearchRequest
from shared_ops.release import runtimes
from shared_ops.release.releases import ReleaseError
from shared_ops.settings import Settings

HITS_PER_MODEL = 100
_HEADERS = {"content-type": "application/json"}


class UnavailableError(RuntimeError):
    """A model that did not answer in time, or not with hits. The message is the reason, for people."""


class Models:
    """The families' prediction services, over connections that are kept open."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._staging = settings.staging_url("prod")
        self.timeout_ms = settings.model_timeout_ms
        self._patience_ms = max(settings.model_patience_ms, settings.model_timeout_ms)
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        """By the worker that each leads to."""

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep connections open while the block runs."""
        try:
            yield
        finally:
            for session in self._sessions.values():
                await session.close()

    async def search(self, family: str, release: str, query: str) -> Hits:
        """The best hits of a search model's release.

        Raises:
            UnavailableError: when there is no answer in time, or none that can be used.
        """
        request = SearchRequest(release=release, query=query, k=HITS_PER_MODEL)
        return (await self._ask("search", family, release, request)).hits

    async def rank(self, family: str, release: str, query: str, hits: Mapping[str, Hits], explain: int) -> HitsAnswer:
        """A ranker's order of all documents in `hits`, best first, and the features of the first `explain` of them.

        Raises:
            UnavailableError: when there is no answer in time, or none that can be used; or when `hits` cannot be sent.
        """
        try:
            request = RankRequest.of(release, query, hits, explain)
        except ValueError as error:
            raise UnavailableError(f"cannot be asked with the hits that there are: {error}") from error
        return await self._ask("rank", family, release, request)

    async def _ask(self, path: str, family: str, release: str, request: SearchRequest | RankRequest) -> HitsAnswer:
        content = request.model_dump_json().encode()
        session = self._session(family, release)
        try:
            async with session.post(f"http://localhost/{path}", data=content, headers=_HEADERS) as response:
                return _read(response.status, await response.read())
        except TimeoutError as error:
            raise UnavailableError(f"no answer within {self._patience_ms} ms") from error
        except aiohttp.ClientError as error:
            raise UnavailableError(f"not reachable ({type(error).__name__})") from error

    def _session(self, family: str, release: str) -> aiohttp.ClientSession:
        """The connections to the worker of a release.

        Raises:
            UnavailableError: when the release's manifest, which names the worker, cannot be read.
        """
        try:
            runtime = runtimes.of_release(self._staging, family, release)
        except (ReleaseError, OSError) as error:  # the latter of a staging area that is away
            raise UnavailableError(f"its release cannot be looked up: {error}") from error
        if runtime.worker not in self._sessions:
            connector = aiohttp.UnixConnector(str(runtime.socket(self._settings)), limit=0, keepalive_timeout=30)
            timeout = aiohttp.ClientTimeout(total=self._patience_ms / 1000)
            jar = aiohttp.DummyCookieJar()
            self._sessions[runtime.worker] = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar)
        return self._sessions[runtime.worker]


def _read(status: int, body: bytes) -> HitsAnswer:
    try:
        if status == 200:
            return HitsAnswer.model_validate_json(body)
        reason = str(orjson.loads(body)["error"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"answered {status} with what is no hits") from error
    raise UnavailableError(f"answered {status}: {reason[:200]}")
