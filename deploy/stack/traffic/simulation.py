"""SIMULATED traffic: asks the real running search app real training queries, and clicks as a click model decides.

Where no training query is judged, people ask for documents, by their titles, first sentences and a few of their words.

Every search and click carries the application `simulation`, so that nothing takes them for people's. Judgements of dev
and test queries are never read. Who asks what, and what they click, is decided in visits.py.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

from deploy.stack.history import rejected_lines
from deploy.stack.search.searching import SearchError, follows, live_set
from deploy.stack.traffic import held_back, visits
from deploy.stack.traffic.held_back import HeldBack
from deploy.stack.traffic.search_client import PAUSES, SearchApp, new_session
from deploy.stack.traffic.visits import Visit, Wish
from shared_ops.data import snapshots
from shared_ops.data.ubi import SIMULATION
from shared_ops.release.livesets import LiveSet
from shared_ops.settings import Settings
from shared_ops.waiting import until

CLIENTS = 2
PROGRESS_SECONDS = 5
WATCH_SECONDS = 600
ANSWER_SECONDS = 120
"""How long the services may take to load a set that has just gone live."""
TOLD = 60
"""Characters of a query that a line tells."""


class SimulationError(RuntimeError):
    """What was waited for did not happen."""


class StackWatch(NamedTuple):
    """What is known of the stack that is watched; nothing, where nobody watches."""

    need_running: Callable[[], None] = lambda: None
    """Raises where it has ended."""
    settle: Callable[[], None] = lambda: None
    """Waits until nothing is in flight: the first set that goes live may have learned from a part of the clicks."""


UNWATCHED = StackWatch()


class TrafficRequest(BaseModel):
    """What is to be simulated."""

    sessions: int = 200
    seed: int = Field(default=0, description="same seed and same answers: same searches and clicks")
    trend: int = Field(default=0, description="documents that are in the news after a third of the sessions")
    drift: str | None = Field(default=None, description="what is asked about then: a source or a word; 1: by the seed")
    rate: float | None = Field(default=None, description="searches per second; None: as fast as two clients go")
    watch: bool = Field(default=False, description="wait until another set is live, and see what has risen")


class TrafficCounts(BaseModel):
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
    before: int | None = Field(default=None, description="when it was not in the news yet")
    now: int | None = Field(default=None, description="when the last session had ended")
    after: int | None = Field(default=None, description="once another set was live, where that was waited for")


class Record(BaseModel):
    """What a simulation leaves in SEARCHLOOP_HOME/simulation."""

    application: str = SIMULATION
    wanted: TrafficRequest
    topic: str | None = Field(default=None, description="what is asked about after a third of the sessions")
    trends: list[TrendingQuery] = []
    sets: dict[str, int] = Field(description="the live sets that gave the positions `before`, `now` and `after`")
    counts: TrafficCounts = TrafficCounts()
    held_back: HeldBack | None = Field(default=None, description="how much better others are answered, where watched")


def simulate(
    settings: Settings,
    wanted: TrafficRequest,
    say: Callable[[str], None],
    stack: StackWatch = UNWATCHED,
    pauses: Sequence[float] = PAUSES,
) -> Path:
    """Visit the running search app; returns the file that tells what was done (a `Record`).

    Raises:
        SearchError: when nothing is live, or a request has no answer after a few attempts.
        SimulationError: when another set was waited for, and none went live.
        ValueError: when there is no such topic, or too few documents could trend.
    """
    app = SearchApp(settings.url("search"), wanted.rate, pauses)
    try:
        return _Simulation(settings, wanted, app, say, stack).run()
    finally:
        app.close()


class _Simulation:
    """One run of simulated traffic: its visits, what they are counted as, and what changed after them."""

    def __init__(
        self,
        settings: Settings,
        wanted: TrafficRequest,
        app: SearchApp,
        say: Callable[[str], None],
        stack: StackWatch,
    ) -> None:
        self.settings, self.wanted, self.app = settings, wanted, app
        self.path = settings.home / "simulation" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
        self.depth = visits.TREND_DEPTH if wanted.trend else visits.PAGE_SIZE
        self.record = Record(wanted=wanted, sets={"before": live_set(self.settings).number})
        self._say, self._stack = say, stack
        self._told = time.monotonic()

    def run(self) -> Path:
        usual, later = self._wishes()
        sessions, seed = self.wanted.sessions, self.wanted.seed
        change = round(sessions * visits.USUAL_SHARE)
        others = held_back.wishes_after(sessions, seed, later) if self.wanted.watch else []
        before = held_back.quality(self.app, others)
        try:
            pages = self._visit_all(visits.plan(range(change), seed, usual))
            trending = self._begin_trend(pages) if self.wanted.trend else []
            self._visit_all(visits.plan(range(change, sessions), seed, later, trending))
        finally:
            self._say_counts()
        self._measure("now")
        self._write()
        if self.wanted.watch:
            self._watch()
            self.record.held_back = held_back.compared(before, held_back.quality(self.app, others))
            self._line(f"held back: {self.record.held_back.sentence}")
            self._write()
        else:
            self._line("where these clicks are enough, trainings start by themselves: make status, or WATCH=1 to wait")
        self._line(f"written to {self.path}")
        return self.path

    def _line(self, text: str) -> None:
        """Say a line, marked so that nobody takes it for what people did."""
        self._say(f"SIMULATED {text}")

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.record.model_dump_json(indent=2))

    def _wishes(self) -> tuple[list[Wish], list[Wish]]:
        """What is asked in the first third of the sessions, and after it."""
        live, wanted = live_set(self.settings), self.wanted
        snapshot = snapshots.load(live.snapshot)
        usual = visits.training_wishes(snapshot.queries("train"), snapshot.qrels("train"))
        queries = f"{len(usual)} training queries"
        if not usual:
            usual = visits.document_wishes(snapshot.documents(), wanted.seed)
            queries = f"{len(usual)} titles, first sentences and pairs of words (no training query is judged)"
        self._line(f"{wanted.sessions} sessions: {queries} of snapshot {live.snapshot.id}")
        if not wanted.drift:
            return usual, usual
        name = None if wanted.drift == "1" else wanted.drift
        topic = visits.choose_topic(snapshot.documents(), name, wanted.seed)
        usual, later = visits.apart_from(topic, usual), visits.topic_wishes(topic, wanted.seed)
        self.record.topic = topic.name
        self._line(
            f"drift: a third asks {len(usual)} queries that have nothing to do with {topic.name!r}, the rest asks"
        )
        self._line(f"drift: about its {len(topic.documents)} documents, for instance {later[0].text!r}")
        return usual, later

    def _begin_trend(self, pages: Sequence[tuple[Wish, list[str]]]) -> list[Wish]:
        """Put documents in the news that the sessions up to now were shown at low ranks."""
        trending = visits.choose_trends(pages, self.wanted.trend, self.wanted.seed)
        self.record.trends = [
            TrendingQuery(query_id=wish.query_id, text=wish.text, doc_id=wish.trending) for wish in trending
        ]
        self._measure("before")
        self._write()
        self._line(
            f"trend: from now on {visits.TREND_SHARE:.0%} of the sessions ask these queries for these documents, "
            f"and find them {visits.TREND_EXAMINED:.0%} of the time among {self.depth} hits"
        )
        return trending

    def _visit_all(self, planned: Sequence[Visit]) -> list[tuple[Wish, list[str]]]:
        """Make all visits; returns the documents that each wish was shown, where all models had a part in it."""
        pages: dict[str, tuple[Wish, list[str]]] = {}
        counts = self.record.counts
        with ThreadPoolExecutor(CLIENTS) as pool:
            for searches in pool.map(self._visit, planned):
                counts.sessions += 1
                counts.searches += len(searches)
                counts.clicks += sum(search.clicks for search in searches)
                counts.degraded += sum(search.degraded for search in searches)
                pages |= {search.wish.text: (search.wish, search.shown) for search in searches if not search.degraded}
                self._progress()
        return list(pages.values())

    def _visit(self, visit: Visit) -> list["_Search"]:
        session, searches = new_session(), []
        for wish in visit.wishes:
            answer = self.app.search(session, wish.text, self.depth)
            doc_ids = [hit["doc_id"] for hit in answer["hits"]]
            positions = visits.clicked(wish, doc_ids, visit.random)
            self.app.click(session, answer, positions)
            searches.append(_Search(wish, doc_ids, len(positions), bool(answer["degraded"])))
        return searches

    def _progress(self) -> None:
        if time.monotonic() - self._told > PROGRESS_SECONDS:
            self._told = time.monotonic()
            counts = self.record.counts
            progress = f"{counts.sessions}/{self.wanted.sessions} sessions"
            self._line(f"{progress}, {counts.searches} searches, {counts.clicks} clicks")

    def _say_counts(self) -> None:
        counts = self.record.counts
        counts.failed = len(self.app.failures)
        share = counts.degraded / max(counts.searches, 1)
        self._line(
            f"{counts.sessions} sessions, {counts.searches} searches, {counts.clicks} clicks, "
            f"{share:.1%} of the answers degraded, {counts.failed} failed requests"
        )

    def _measure(self, when: Literal["before", "now", "after"]) -> None:
        """Note and say where the trending documents stand, and in which set."""
        for query in self.record.trends:
            answer = self.app.whole_search(query.text, visits.TREND_DEPTH)
            doc_ids = [hit["doc_id"] for hit in answer["hits"]]
            setattr(query, when, doc_ids.index(query.doc_id) + 1 if query.doc_id in doc_ids else None)
            self.record.sets[when] = answer["live_set"]["number"]
            places = ", ".join(
                f"{_place(getattr(query, name))} {name} (set {number})" for name, number in self.record.sets.items()
            )
            self._line(f"trend: {query.doc_id} for {query.text[:TOLD]!r}: {places}")

    def _watch(self) -> None:
        """Wait until another set is live and answers, and measure what has risen."""
        before, began = self.record.sets["before"], time.monotonic()
        minutes, rejected = WATCH_SECONDS // 60, set(rejected_lines(self.settings))
        self._line(f"watching: waiting for another set than {before} to go live, {minutes} minutes at most")

        def live_now() -> LiveSet:
            if live_set(self.settings).number == before:
                self._stack.need_running()
                if news := [line for line in rejected_lines(self.settings) if line not in rejected]:
                    self._after_rejection(before, news)
            return live_set(self.settings)

        live = until(live_now, lambda each: each.number != before, every=1, seconds=WATCH_SECONDS)
        if live.number == before:
            raise SimulationError(
                f"Set {before} is still live {minutes} minutes after the last session. Expected the clicks to be "
                f"learned from by then: see runs and sensors at {self.settings.url('dagit')}, or make status."
            )
        self._line(f"watching: set {live.number} went live {time.monotonic() - began:.0f} s after the last session")
        self._line("watching: waiting until no run is in flight: what came later may still be learned from")
        self._stack.settle()
        if self.record.trends:
            number = live_set(self.settings).number
            if not follows(self.settings, number, ANSWER_SECONDS):
                raise SearchError(f"Set {number} is live, and does not answer {ANSWER_SECONDS} s later. make status")
            self._measure("after")

    def _after_rejection(self, before: int, news: Sequence[str]) -> None:
        """Say what the gates rejected, and end the watch where no other set can be expected.

        Raises:
            SimulationError: when set `before` is live still and no run is in flight.
        """
        for line in news:
            self._line(f"watching: {line}")
        self._line("watching: waiting until no run is in flight: another set may go live all the same")
        self._stack.settle()
        if live_set(self.settings).number == before:
            raise SimulationError(
                f"Set {before} is still live: the gates let nothing through that these clicks made. More people "
                "teach more, and others judge: "
                f"make simulate SESSIONS={self.wanted.sessions} SEED={self.wanted.seed + 1} WATCH=1"
            )


class _Search(NamedTuple):
    wish: Wish
    shown: list[str]
    clicks: int
    degraded: bool


def _place(position: int | None) -> str:
    return f"below {visits.TREND_DEPTH}" if position is None else str(position)
