"""The search app's client of the prediction services: hits, or a reason why there are none."""

import asyncio
from collections.abc import Mapping

import httpx
import orjson

from services.settings import ServiceSettings
from shared_ops.settings import families
from shared_ops.tables import Hits

HITS_PER_MODEL = 100


class UnavailableError(RuntimeError):
    """A model that did not answer in time, or not with hits. The message is the reason, for people."""


class Models:
    """The families' prediction services, over connections that are kept open."""

    def __init__(self, settings: ServiceSettings) -> None:
        by_role = {name: repository.role for name, repository in families().items()}
        self.searching = [name for name, role in by_role.items() if role == "search"]
        (self.ranking,) = [name for name, role in by_role.items() if role == "rank"]
        self._urls = {name: settings.url(name) for name in by_role}
        self._timeout = settings.model_timeout_ms / 1000
        self._client = httpx.AsyncClient(
            # The whole call has one limit, below; what httpx would time is each step of it.
            timeout=None,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30),
            # Neighbours on this machine are not reached through a proxy.
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def search(self, family: str, release: str | None, query: str) -> Hits:
        """The best hits of a search model's release.

        Raises:
            UnavailableError: when there is no answer in time, or none that can be used.
        """
        return await self._ask(family, release, {"query": query, "k": HITS_PER_MODEL})

    async def rank(self, release: str | None, query: str, hits: Mapping[str, Hits]) -> Hits:
        """The ranker's order of all documents in `hits`, best first.

        Raises:
            UnavailableError: when there is no answer in time, or none that can be used.
        """
        columns = {
            family: {"doc_ids": [doc_id for doc_id, _ in found], "scores": [score for _, score in found]}
            for family, found in hits.items()
        }
        return await self._ask(self.ranking, release, {"query": query, "hits": columns})

    async def _ask(self, family: str, release: str | None, question: Mapping[str, object]) -> Hits:
        if release is None:
            raise UnavailableError("the live set names no release of it")
        path = "rank" if family == self.ranking else "search"
        content = orjson.dumps({"release": release, **question})
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(
                    f"{self._urls[family]}/{path}", content=content, headers={"content-type": "application/json"}
                )
        except TimeoutError as error:
            raise UnavailableError(f"no answer within {self._timeout * 1000:.0f} ms") from error
        except httpx.HTTPError as error:
            raise UnavailableError(f"not reachable ({type(error).__name__})") from error
        return _hits(response)


def _hits(response: httpx.Response) -> Hits:
    try:
        answer = orjson.loads(response.content)
        if response.status_code == 200:
            return list(zip(answer["doc_ids"], answer["scores"], strict=True))
        reason = str(answer["error"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"answered {response.status_code} with what is no hits") from error
    raise UnavailableError(f"answered {response.status_code}: {reason[:200]}")
