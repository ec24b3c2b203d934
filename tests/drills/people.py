"""People who search and click while a drill goes on: an open loop, which does not wait for late answers."""

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import httpx

SENT_AGAIN_SECONDS = 60
MOST = 20_000
"""Searches at most, whatever happens."""


@dataclass
class Search:
    """One search: what was asked and answered, and how long that took from when it was due."""

    query: str
    status: int | str
    answer: dict[str, Any]
    seconds: float


@dataclass
class People:
    """People who search at `url`, `rate` times a second, for `queries` in turn; with `clicks`, they open first hits.

    The rate may be changed while they search.
    """

    url: str
    queries: Sequence[str]
    rate: float
    clicks: bool = False
    clients: int = 32
    """Searches that are under way at most."""
    application: str = field(default_factory=lambda: f"drill-{uuid.uuid4().hex[:8]}")
    """What tells their searches and clicks from those of others."""
    searches: list[Search] = field(default_factory=list)
    event_ids: set[str] = field(default_factory=set)
    """The clicks that were taken."""
    sent: int = 0
    """Requests that carried a click: those sent again among them."""
    not_taken: list[str] = field(default_factory=list)
    """Clicks that nobody took within a minute."""
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def searching(self) -> Iterator["People"]:
        """Search while the block runs; when it has ended, everything that was asked has an answer or none."""
        ended = Event()
        with ThreadPoolExecutor(1) as pool:
            going_on = pool.submit(self._run, ended)
            try:
                yield self
            finally:
                ended.set()
            going_on.result()

    @property
    def failed(self) -> Counter[str]:
        """The searches without an answer, by status or error, and what was said."""
        return Counter(f"{each.status} {each.answer}" for each in self.searches if each.status != 200)

    @property
    def degraded(self) -> Counter[str]:
        """The parts that answers lacked, by family and reason."""
        lacked = [part for each in self.searches for part in each.answer.get("degraded", [])]
        return Counter(f"{part['family']}: {part['reason']}" for part in lacked)

    def quantile(self, share: float) -> float:
        """Milliseconds that this share of the searches did not exceed."""
        took = sorted(each.seconds for each in self.searches)
        return 1000 * took[min(int(share * len(took)), len(took) - 1)]

    def _run(self, ended: Event) -> None:
        due = time.monotonic()
        # Each asks the models: an answer from memory would hide what becomes of them.
        headers = {"x-application": self.application, "cache-control": "no-cache"}
        # All are kept: httpcore's pool closes a connection that it has too many of, now and then one that is in use.
        kept = httpx.Limits(max_connections=self.clients, max_keepalive_connections=self.clients)
        with (
            httpx.Client(base_url=self.url, timeout=30, headers=headers, limits=kept) as client,
            ThreadPoolExecutor(self.clients) as pool,
        ):
            visits = []
            for number in range(MOST):
                if ended.wait(max(due - time.monotonic(), 0)):
                    break
                visits.append(pool.submit(self._visit, client, self.queries[number % len(self.queries)], due))
                due += 1 / self.rate
            for visit in visits:
                visit.result()

    def _visit(self, client: httpx.Client, query: str, due: float) -> None:
        session, answer = uuid.uuid4().hex, {}
        status: int | str
        try:
            response = client.get("/search", params={"q": query}, headers={"x-session-id": session})
            status = response.status_code
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            status = type(error).__name__
        self.searches.append(Search(query, status, answer, time.monotonic() - due))
        if self.clicks and answer.get("hits"):
            self._click(client, session, answer)

    def _click(self, client: httpx.Client, session: str, answer: dict[str, Any]) -> None:
        """Open the first hit; a click that nobody took is sent again, and every tenth is sent twice all the same."""
        event = {
            "action_name": "click",
            "event_id": uuid.uuid4().hex,
            "query_id": answer["query_id"],
            "session_id": session,
            "event_attributes": {"object": {"object_id": answer["hits"][0]["doc_id"]}, "position": {"ordinal": 1}},
        }
        wanted = 2 if int(event["event_id"], 16) % 10 == 0 else 1
        deadline = time.monotonic() + SENT_AGAIN_SECONDS
        taken = 0
        while taken < wanted and time.monotonic() < deadline:
            taken += self._sent(client, event)
            time.sleep(0 if taken else 0.5)
        with self._lock:
            if taken:
                self.event_ids.add(event["event_id"])
            else:
                self.not_taken.append(event["event_id"])

    def _sent(self, client: httpx.Client, event: dict[str, Any]) -> bool:
        with self._lock:
            self.sent += 1
        try:
            return client.post("/events", json=event).status_code == 202
        except httpx.HTTPError:
            return False
