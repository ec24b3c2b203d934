"""The running search app over HTTP, as simulated people use it: all they do is marked as simulated."""

import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

from deploy.stack.search.searching import PRIVATE, SearchError, whole
from shared_ops.data.ubi import CLICK, SIMULATION, ClickedObject, EventAttributes, Position
from shared_ops.waiting import until

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a request that failed is sent again: long enough for a search app that restarts."""
WHOLE_ATTEMPTS = 30
SAME_CLICK = uuid.UUID("6f0d4b5e-53a8-4a0c-9e56-0a0d7d6b8a11")
"""The namespace of a click's id: made of the search, the document and its place, so a click sent twice is one."""


class Pace:
    """Lets callers through, at most `rate` times a second; without a rate at once."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._interval
        time.sleep(max(turn - time.monotonic(), 0.0))


class SearchApp:
    """The running search app at an address, as simulated people use it."""

    def __init__(self, url: str, rate: float | None = None, pauses: Sequence[float] = PAUSES) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False, headers={"x-application": SIMULATION})
        self._pace = Pace(rate)
        self._pauses = pauses
        self.failures: list[str] = []
        """The reason of each request that had no answer."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def search(self, session: str, text: str, k: int) -> dict[str, Any]:
        """The answer to a query.

        Raises:
            SearchError: when there is none, after a few attempts.
        """
        self._pace.wait()
        return self._send(200, "GET", "/search", params={"q": text, "k": k}, headers={"x-session-id": session})

    def whole_search(self, text: str, k: int) -> dict[str, Any]:
        """The answer of all models, to measure by. It is not recorded.

        Raises:
            SearchError: when there is none within about half a minute.
        """

        def asked() -> dict[str, Any]:
            self._pace.wait()
            return self._send(200, "GET", "/search", params={"q": text, "k": k}, headers=PRIVATE)

        return whole(asked, WHOLE_ATTEMPTS)

    def click(self, session: str, answer: dict[str, Any], positions: Sequence[int]) -> None:
        """Click the hits at these positions.

        Raises:
            SearchError: when a click is not taken, after a few attempts.
        """
        events = [_event(session, answer["query_id"], answer["hits"][at - 1]["doc_id"], at) for at in positions]
        if events and (accepted := self._send(202, "POST", "/events", json=events)["accepted"]) != len(events):
            raise SearchError(f"Of {len(events)} clicks the search app took {accepted}. Is SEARCHLOOP_FEEDBACK off?")

    def _send(self, expected: int, method: str, path: str, **request: Any) -> dict[str, Any]:
        def deliver() -> _Delivery:
            return self._deliver(expected, method, path, **request)

        last = until(deliver, lambda each: not each.again, every=self._pauses)
        if last.answer is None:
            raise SearchError(f"{method} {self._client.base_url}{path} {last.failure}. Is the stack up? make status")
        return last.answer

    def _deliver(self, expected: int, method: str, path: str, **request: Any) -> "_Delivery":
        try:
            response = self._client.request(method, path, **request)
            if response.status_code == expected:
                return _Delivery(response.json())
            ours = 400 <= response.status_code < 500
            failed = _Delivery(None, f"answered {response.status_code}: {response.text[:500]}", again=not ours)
        except (httpx.HTTPError, ValueError) as error:
            failed = _Delivery(None, f"does not answer ({error})", again=True)
        self.failures.append(failed.failure)
        return failed


class _Delivery(NamedTuple):
    """What became of a request."""

    answer: dict[str, Any] | None
    failure: str = ""
    again: bool = False
    """Whether it is worth sending again: what was wrong is not the request."""


def _event(session: str, query_id: str, doc_id: str, position: int) -> dict[str, Any]:
    attributes = EventAttributes(object=ClickedObject(object_id=doc_id), position=Position(ordinal=position))
    return {
        "application": SIMULATION,
        "event_id": uuid.uuid5(SAME_CLICK, f"{query_id} {doc_id} {position}").hex,
        "action_name": CLICK,
        "query_id": query_id,
        "session_id": session,
        "client_id": session,
        "event_attributes": attributes.model_dump(),
    }


def new_session() -> str:
    """The random id of a session. No seed: the same visits again are other people's."""
    return uuid.uuid4().hex
