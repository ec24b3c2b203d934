"""SIMULATED traffic: asks the real running search app real training queries, and clicks as a click model decides.

Every search and click carries the application `simulation`, so that nothing takes them for people's. Judgements of dev
and test queries are never read. Who asks what, and what they click, is decided in visits.py.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
from pydantic import BaseModel, Field

from deploy.stack import visits
from deploy.stack.searching import ANSWER_SECONDS, SearchError
from deploy.stack.visits import Visit, Wish
from shared_ops import snapshots
from shared_ops.livesets import LiveSet, LiveSets
from shared_ops.settings import Settings
from shared_ops.ubi import CLICK, SIMULATION, ClickedObject, EventAttributes, Position

CLIENTS = 2
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a request that failed is sent again: long enough for a search app that restarts."""
WHOLE_ATTEMPTS = 30
PROBES = 200
"""Training queries that are asked to see which documents could trend."""
PROGRESS_SECONDS = 5
WATCH_SECONDS = 600
SAME_CLICK = uuid.UUID("6f0d4b5e-53a8-4a0c-9e56-0a0d7d6b8a11")
"""The namespace of a click's id: made of the search, the document and its place, so a click sent twice is one."""


class SimulationError(RuntimeError):
    """What was waited for did not happen."""


class Wanted(BaseModel):
    """What is to be simulated."""

    sessions: int = 200
    seed: int = Field(default=0, description="same seed and same answers: same searches and clicks")
    trend: int = Field(default=0, description="documents that are in the news after a third of the sessions")
    drift: str | None = Field(default=None, description="what is asked about then: a source or a word; 1: by the seed")
    rate: float | None = Field(default=None, description="searches per second; None: as fast as two clients go")
    watch: bool = Field(default=False, description="wait until another set is live, and see what has risen")


class Counts(BaseModel):
    """What was done."""

    sessions: int = 0
    searches: int = 0
    clicks: int = 0
    degraded: int = Field(default=0, description="answers that a model had no part in")
    failed: int = Field(default=0, description="requests without an answer, those sent again with success among them")


class TrendingQuery(BaseModel):
    """A document in the news for a query, and where it stands; None: not among the first 50."""

    query_id: str
    text: str
    doc_id: str
    before: int
    now: int | None = Field(default=None, description="when the last session had ended")
    after: int | None = Field(default=None, description="once another set was live, where that was waited for")


class Record(BaseModel):
    """What a simulation leaves in SEARCHLOOP_HOME/simulation."""

    application: str = SIMULATION
    wanted: Wanted
    topic: str | None = Field(default=None, description="what is asked about after a third of the sessions")
    trends: list[TrendingQuery] = []
    sets: dict[str, int] = Field(description="the live sets that gave the positions `before`, `now` and `after`")
    counts: Counts = Counts()


class Pace:
    """Lets whoever asks through, at most `rate` times a second."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is one's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._interval
        time.sleep(max(turn - time.monotonic(), 0.0))


class SearchApp:
    """The running search app at an address, as simulated people use it."""

    def __init__(self, url: str, rate: float | None = None, pauses: Sequence[float] = PAUSES) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, headers={"x-application": SIMULATION})
        self._pace = Pace(rate)
        self._pauses = pauses
        self.failures: list[str] = []
        """Why each request that had no answer had none."""

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

    def whole_search(self, session: str, text: str, k: int) -> dict[str, Any]:
        """The answer of all four models; asked again where a busy machine left one out.

        Raises:
            SearchError: when there is none within about half a minute.
        """
        for _ in range(WHOLE_ATTEMPTS):
            answer = self.search(session, text, k)
            if not answer["degraded"]:
                return answer
            time.sleep(1)
        raise SearchError(f"The search app answers with a part missing: {answer['degraded']}. make status")

    def click(self, session: str, answer: dict[str, Any], positions: Sequence[int]) -> int:
        """Click the hits at these positions; returns how many clicks were taken.

        Raises:
            SearchError: when they are not taken, after a few attempts.
        """
        if not positions:
            return 0
        events = [_event(session, answer["query_id"], answer["hits"][at - 1]["doc_id"], at) for at in positions]
        return int(self._send(202, "POST", "/events", json=events)["accepted"])

    def _send(self, expected: int, method: str, path: str, **request: Any) -> dict[str, Any]:
        for pause in (*self._pauses, None):
            try:
                response = self._client.request(method, path, **request)
                if response.status_code == expected:
                    answer: dict[str, Any] = response.json()
                    return answer
                failure = f"answered {response.status_code}: {response.text[:500]}"
                ours = 400 <= response.status_code < 500
            except (httpx.HTTPError, ValueError) as error:
                failure, ours = f"does not answer ({error})", False
            self.failures.append(failure)
            if ours or pause is None:
                break
            time.sleep(pause)
        raise SearchError(f"{method} {self._client.base_url}{path} {failure}. Is the stack up? make status")


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


def simulate(settings: Settings, wanted: Wanted, say: Callable[[str], None], pauses: Sequence[float] = PAUSES) -> Path:
    """Visit the running search app; returns the file that tells what was done (a `Record`).

    Raises:
        SearchError: when nothing is live, or a request has no answer after a few attempts.
        SimulationError: when another set was waited for, and none went live.
        ValueError: when there is no such topic, or too few documents could trend.
    """
    said = _Marked(say)
    live = _live(settings)
    record = Record(wanted=wanted, sets={"before": live.number})
    path = settings.home / "simulation" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    app = SearchApp(settings.url("search"), wanted.rate, pauses)
    try:
        planned = _plan(app, live, record, said)
        _write(record, path)
        try:
            _visit_all(app, planned, record.counts, said)
        finally:
            record.counts.failed = len(app.failures)
            said(_summary(record.counts))
        _measure(app, record, "now")
        for query in record.trends:
            said(f"trend: {_named(query)}: {query.before} before, {_place(query.now)} now (set {record.sets['now']})")
        _write(record, path)
        if wanted.watch:
            _watch(settings, app, record, said)
            _write(record, path)
    finally:
        app.close()
    said(f"written to {path}")
    return path


class _Marked:
    """Says nothing that could be taken for what people did."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def __call__(self, line: str) -> None:
        self._say(f"SIMULATED {line}")


def _live(settings: Settings) -> LiveSet:
    live = LiveSets(settings.staging_url("prod")).live()
    if live is None:
        raise SearchError("No set of models is live: make train")
    return live


def _write(record: Record, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=2))


def _plan(app: SearchApp, live: LiveSet, record: Record, say: Callable[[str], None]) -> list[Visit]:
    """Who comes; what trends and what is asked later is noted in `record` and said."""
    wanted = record.wanted
    snapshot = snapshots.load(live.snapshot)
    usual = visits.training_wishes(snapshot.queries("train"), snapshot.qrels("train"))
    if not usual:
        raise ValueError(f"Snapshot {live.snapshot.id} has no judged training queries: there is nothing to ask.")
    say(f"{wanted.sessions} sessions: {len(usual)} training queries of snapshot {live.snapshot.id}, set {live.number}")
    later: list[Wish] = []
    if wanted.drift:
        name = None if wanted.drift == "1" else wanted.drift
        topic = visits.choose_topic(snapshot.documents(), name, wanted.seed)
        usual, later = visits.apart_from(topic, usual), visits.topic_wishes(topic, wanted.seed)
        record.topic = topic.name
        say(f"drift: the first third asks {len(usual)} queries that have nothing to do with {topic.name!r}, the rest")
        say(f"drift: about its {len(topic.documents)} documents, for instance {later[0].text!r}")
    places: list[visits.Place] = []
    if wanted.trend:
        say(f"trend: looking for documents among the first {visits.TREND_DEPTH} hits of {PROBES} queries at most")
        places = visits.choose_trends(_found(app, visits.sample(usual, PROBES, wanted.seed)), wanted.trend, wanted.seed)
        record.trends = [_trending(place) for place in places]
        for query in record.trends:
            say(f"trend: {_named(query)} stands at {query.before}")
        say(
            f"trend: after a third of the sessions, {visits.TREND_SHARE:.0%} of them ask these queries, look down to "
            f"position {visits.TREND_DEPTH} for these documents, and find them {visits.TREND_EXAMINED:.0%} of the time"
        )
    return visits.plan(wanted.sessions, wanted.seed, usual, later, [place.wish for place in places])


def _trending(place: visits.Place) -> TrendingQuery:
    wish = place.wish
    assert wish.query_id and wish.trending, "a trend is about a training query and a document"
    return TrendingQuery(query_id=wish.query_id, text=wish.text, doc_id=wish.trending, before=place.position)


def _found(app: SearchApp, wishes: Sequence[Wish]) -> list[tuple[Wish, list[str]]]:
    """What each wish finds today, far down."""

    def doc_ids(wish: Wish) -> list[str]:
        answer = app.whole_search(new_session(), wish.text, visits.TREND_DEPTH)
        return [hit["doc_id"] for hit in answer["hits"]]

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(zip(wishes, pool.map(doc_ids, wishes), strict=True))


class _Tally(NamedTuple):
    searches: int
    clicks: int
    degraded: int


def _visit_all(app: SearchApp, planned: Sequence[Visit], counts: Counts, say: Callable[[str], None]) -> None:
    told = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in pool.map(lambda visit: _visit(app, visit), planned):
            counts.sessions += 1
            counts.searches += done.searches
            counts.clicks += done.clicks
            counts.degraded += done.degraded
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                say(f"{counts.sessions}/{len(planned)} sessions, {counts.searches} searches, {counts.clicks} clicks")


def _visit(app: SearchApp, visit: Visit) -> _Tally:
    session, clicks, degraded = new_session(), 0, 0
    for wish in visit.wishes:
        answer = app.search(session, wish.text, wish.depth)
        degraded += bool(answer["degraded"])
        shown = [hit["doc_id"] for hit in answer["hits"]]
        clicks += app.click(session, answer, visits.clicked(wish, shown, visit.random))
    return _Tally(len(visit.wishes), clicks, degraded)


def _summary(counts: Counts) -> str:
    share = counts.degraded / max(counts.searches, 1)
    return (
        f"{counts.sessions} sessions, {counts.searches} searches, {counts.clicks} clicks, "
        f"{share:.1%} of the answers degraded, {counts.failed} failed requests"
    )


def _measure(app: SearchApp, record: Record, when: Literal["now", "after"]) -> None:
    """Note where the trending documents stand, and in which set."""
    for query in record.trends:
        answer = app.whole_search(new_session(), query.text, visits.TREND_DEPTH)
        shown = [hit["doc_id"] for hit in answer["hits"]]
        setattr(query, when, shown.index(query.doc_id) + 1 if query.doc_id in shown else None)
        record.sets[when] = answer["live_set"]["number"]


def _watch(settings: Settings, app: SearchApp, record: Record, say: Callable[[str], None]) -> None:
    """Wait until another set is live and answers, and note what has risen."""
    before, began = record.sets["before"], time.monotonic()
    say(f"watching: waiting for another set than {before} to go live, {WATCH_SECONDS // 60} minutes at most")
    while (live := _live(settings)).number == before:
        if time.monotonic() - began > WATCH_SECONDS:
            raise SimulationError(
                f"Set {before} is still live {WATCH_SECONDS // 60} minutes after the last session. Expected the clicks "
                f"to be learned from by then: see runs and sensors in Dagit ({settings.url('dagit')}), or make status."
            )
        time.sleep(1)
    say(f"watching: set {live.number} went live {time.monotonic() - began:.0f} s after the last session")
    if not record.trends:
        return
    _wait_until_another_answers(app, record.trends[0].text, before)
    _measure(app, record, "after")
    for query in record.trends:
        say(f"trend: {_named(query)}: {query.before} before, {_place(query.after)} in set {record.sets['after']}")


def _wait_until_another_answers(app: SearchApp, text: str, before: int) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while app.search(new_session(), text, 1)["live_set"]["number"] == before:
        if time.monotonic() > deadline:
            raise SearchError(
                f"Another set is live, and set {before} still answers {ANSWER_SECONDS} s later. make status"
            )
        time.sleep(0.5)


def _named(query: TrendingQuery) -> str:
    return f"{query.doc_id} for {query.text!r}"


def _place(position: int | None) -> str:
    return f"below {visits.TREND_DEPTH}" if position is None else str(position)
