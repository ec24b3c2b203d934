"""Simulated people: what they ask and click, and how they go about a real search app over HTTP."""

import json
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Never
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import pytest

from deploy.stack.search.searching import SearchError
from deploy.stack.traffic import visits
from deploy.stack.traffic.search_client import Pace
from deploy.stack.traffic.simulation import Record, SimulationError, StackWatch, TrafficRequest, simulate
from deploy.stack.traffic.visits import Wish
from shared_ops.data import tables
from shared_ops.data.snapshots import Snapshots
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.settings import Settings

SUBJECTS = ("array", "matrix", "signal", "graph", "image", "table")
VERBS = ("sort", "merge", "invert", "filter", "sample", "label", "split", "rotate", "reduce", "pad")
NAMES = [f"{subject}.{verb}" for subject in SUBJECTS for verb in VERBS]


def documents(source: Callable[[str], str] = lambda subject: "test") -> pl.DataFrame:
    rows = [
        {
            "doc_id": name,
            "source": source(name.split(".")[0]),
            "title": name,
            "text": f"How to {name.split('.')[1]} the elements of one {name.split('.')[0]} quickly.",
            "url": None,
            "metadata": "{}",
        }
        for name in NAMES
    ]
    return tables.make("documents", rows)


def query_text(name: str) -> str:
    subject, verb = name.split(".")
    return f"{verb} a large {subject}"


def queries() -> pl.DataFrame:
    splits = {name: ("train", "train", "train", "dev", "test")[at % 5] for at, name in enumerate(NAMES)}
    rows = [
        {"query_id": f"q/{name}", "text": query_text(name), "split": split, "source": "test"}
        for name, split in splits.items()
    ]
    return tables.make("queries", rows)


def qrels() -> pl.DataFrame:
    return tables.make("qrels", [{"query_id": f"q/{name}", "doc_id": name, "grade": 1} for name in NAMES])


def training_wishes() -> list[Wish]:
    training = queries().filter(pl.col("split") == "train")
    return visits.training_wishes(training, qrels().join(training, on="query_id", how="semi"))


class App(ThreadingHTTPServer):
    """A small search app: documents by shared words, then by id; after `sets` says so, by clicks first."""

    daemon_threads = True

    def __init__(self, sets: LiveSets) -> None:
        super().__init__(("127.0.0.1", 0), SearchHandler)
        self.sets = sets
        self.searches: list[dict[str, Any]] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.refused: Counter[str] = Counter()
        self.keeps_events = self.reads_words = True
        self.lock = threading.Lock()

    def answer(self, text: str, k: int) -> dict[str, Any]:
        live = self.sets.live()
        asked = set(re.findall(r"\w+", text)) if self.reads_words else set()
        popular = Counter(
            event["event_attributes"]["object"]["object_id"]
            for event in self.events.values()
            if live.number > 1 and self.asked(event) == text
        )
        order = sorted(NAMES, key=lambda name: (-popular[name], -len(asked & set(name.split("."))), name))
        return {"query_id": uuid.uuid4().hex, "degraded": [], "live_set": {"number": live.number}, "hits": order[:k]}

    def asked(self, event: dict[str, Any]) -> Any:
        return next(search["q"] for search in self.searches if search["query_id"] == event["query_id"])


class SearchHandler(BaseHTTPRequestHandler):
    server: App

    def do_GET(self) -> None:
        if self.path == "/health":
            return self.reply(200, {"live_set": self.server.sets.live().number})
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        with self.server.lock:
            if self.failing("GET"):
                return
            answer = self.server.answer(asked["q"], int(asked["k"]))
            told = {"session": self.headers["x-session-id"], "application": self.headers["x-application"]}
            if self.headers["sec-gpc"] != "1":
                self.server.searches.append({**asked, **told, "at": time.monotonic(), **answer})
        hits = [{"doc_id": doc_id, "rank": rank} for rank, doc_id in enumerate(answer["hits"], start=1)]
        self.reply(200, {**answer, "hits": hits})

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            if self.failing("POST"):
                return
            kept = events if self.server.keeps_events else []
            self.server.events |= {event["event_id"]: event for event in kept}
        self.reply(202, {"accepted": len(kept)})

    def failing(self, method: str) -> bool:
        if self.server.refused[method] <= 0:
            return False
        self.server.refused[method] -= 1
        self.reply(503, {"error": "not ready"})
        return True

    def reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[tuple[App, Settings]]:
    """A live set in a home of its own, and a search app that listens where the settings say."""
    sets = LiveSets(Settings(home=tmp_path).staging_url("prod"))
    content = {"documents": documents(), "queries": queries(), "qrels": qrels(), "slices": tables.empty("slices")}
    snapshot = Snapshots(Settings(home=tmp_path).snapshots_url("prod")).publish(content)
    sets.go_live(sets.propose({}, snapshot, "a test's"))
    with serving(sets) as app:
        yield app, Settings(home=tmp_path, port_base=app.server_port)


@contextmanager
def serving(sets: LiveSets) -> Iterator[App]:
    app = App(sets)
    thread = threading.Thread(target=app.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield app
    finally:
        app.shutdown()
        thread.join()
        app.server_close()


def simulated(stack: tuple[App, Settings], **wanted: Any) -> tuple[Record, list[str], App]:
    app, settings = stack
    said: list[str] = []
    path = simulate(settings, TrafficRequest(**wanted), said.append, pauses=(0.01, 0.01))
    return Record.model_validate_json(path.read_text()), said, app


def within_bounds(clicks: int, trials: int, probability: float) -> bool:
    """Whether a count is within four standard deviations of a binomial's mean: 1 in 16,000 is not, by chance."""
    return bool(abs(clicks - trials * probability) <= 4 * np.sqrt(trials * probability * (1 - probability)))


# What people click.


def test_clicks_fall_with_the_position_and_rise_with_the_grade_as_the_model_says() -> None:
    judged = pl.DataFrame({"query_id": ["q"] * 2, "doc_id": ["good", "fair"], "grade": [3, 1]})
    (wish,) = visits.training_wishes(tables.make("queries", [queries().row(0, named=True) | {"query_id": "q"}]), judged)
    random, times = np.random.default_rng(7), 4000
    attractive = {"good": 1.0, "fair": 0.1 + 0.9 / 7, "other": 0.1}
    for doc_id, attraction in attractive.items():
        for position in (1, 2, 5, 10):
            shown = [f"filler {at}" for at in range(10)]
            shown[position - 1] = doc_id
            clicks = sum(position in visits.clicked(wish, shown, random) for _ in range(times))
            if attraction / position == 1:
                assert clicks == times
            else:
                assert within_bounds(clicks, times, attraction / position), (doc_id, position, clicks)


@pytest.mark.parametrize("position", [1, 4, 50])
def test_who_came_for_a_document_in_the_news_finds_it_far_down(position: int) -> None:
    wish = Wish("news", {"popular": 1.0}, "q", trending="popular")
    shown = [f"other {at}" for at in range(50)]
    shown[position - 1] = "popular"
    random = np.random.default_rng(7)
    pages = [visits.clicked(wish, shown, random) for _ in range(2000)]
    clicks = sum(position in page for page in pages)
    assert clicks == 2000 if position == 1 else within_bounds(clicks, 2000, 0.95)
    # Everything else attracts them no more than noise does.
    second = sum(2 in page for page in pages)
    assert within_bounds(second, 2000, 0.1 / 2)


def test_nothing_shown_is_nothing_clicked() -> None:
    assert visits.clicked(training_wishes()[0], [], np.random.default_rng(0)) == []


# Who comes.


def test_a_session_asks_one_to_four_different_queries() -> None:
    planned = visits.plan(range(400), 0, training_wishes())
    counts = Counter(len(visit.wishes) for visit in planned)
    assert set(counts) == {1, 2, 3, 4} and min(counts.values()) > 60
    assert all(len({wish.text for wish in visit.wishes}) == len(visit.wishes) for visit in planned)


def test_the_seed_decides_the_visits_and_a_visit_more_changes_no_other() -> None:
    def asked(sessions: int, seed: int) -> Any:
        return [[wish.text for wish in visit.wishes] for visit in visits.plan(range(sessions), seed, training_wishes())]

    assert asked(20, 3) == asked(40, 3)[:20]
    assert asked(20, 3) != asked(20, 4)


def test_most_sessions_are_about_what_is_in_the_news() -> None:
    trending = [Wish(f"news {at}", {"popular": 1.0}, "q", trending="popular") for at in range(3)]
    planned = visits.plan(range(300, 900), 0, training_wishes(), trending)
    assert within_bounds(sum(bool(visit.wishes[0].trending) for visit in planned), 600, visits.TREND_SHARE)


def test_only_judged_training_queries_are_asked() -> None:
    training = queries().filter(pl.col("split") == "train")
    assert {wish.query_id for wish in training_wishes()} == set(training["query_id"])


# What is in the news.


def found_by_all(order: list[str]) -> list[tuple[Wish, list[str]]]:
    return [(wish, order) for wish in training_wishes()]


def test_a_trend_has_room_to_rise_is_within_reach_and_no_query_has_two() -> None:
    order = [f"d{at}" for at in range(1, 101)]
    trends = visits.choose_trends(found_by_all(order), 5, 0)
    assert all(4 <= int(wish.trending[1:]) <= 30 and wish.answers == {wish.trending: 1.0} for wish in trends)
    assert set(Counter(wish.trending for wish in trends).values()) == {visits.TREND_QUERIES}
    assert len({wish.text for wish in trends}) == len(trends) == 5 * visits.TREND_QUERIES
    assert trends == visits.choose_trends(found_by_all(order), 5, 0) != visits.choose_trends(found_by_all(order), 5, 1)


def test_documents_that_are_found_by_fewer_queries_trend_where_no_other_is_left() -> None:
    pages = [(wish, ["a", "b", "c", wish.text]) for wish in training_wishes()[:2]]
    trends = visits.choose_trends(pages, 2, 0)
    assert {wish.trending for wish in trends} == {wish.text for wish, _ in pages}


def test_too_few_documents_are_told() -> None:
    with pytest.raises(ValueError, match=r"Expected 4 documents to trend, found 2.*TREND=2"):
        visits.choose_trends([(wish, ["a", "b", "c", wish.text]) for wish in training_wishes()[:2]], 4, 0)


# What was not asked before.


def test_a_topic_is_a_source_where_there_are_several_and_a_word_of_titles_elsewhere() -> None:
    topic = visits.choose_topic(documents(source=str), None, 0)
    assert topic.name in SUBJECTS and set(topic.documents["source"]) == {topic.name}
    topic = visits.choose_topic(documents(), None, 0)
    assert topic.name in VERBS and {name.split(".")[1] for name in topic.documents["doc_id"]} == {topic.name}
    assert {visits.choose_topic(documents(), None, seed).name for seed in range(20)} > {topic.name}


def test_a_topic_can_be_named() -> None:
    assert len(visits.choose_topic(documents(), "Graph", 0).documents) == len(VERBS)
    with pytest.raises(ValueError, match=r"No document is about 'poetry'.*test"):
        visits.choose_topic(documents(), "poetry", 0)


def test_who_asks_about_a_topic_types_words_of_the_document_they_look_for() -> None:
    topic = visits.choose_topic(documents(), "graph", 0)
    wishes = visits.topic_wishes(topic, 0)
    texts = {row["doc_id"]: visits.words(f"{row['title']} {row['text']}") for row in documents().to_dicts()}
    assert {doc_id for wish in wishes for doc_id in wish.answers} == set(topic.documents["doc_id"])
    for wish in wishes:
        (doc_id,) = wish.answers
        assert len(wish.text.split()) == visits.TOPIC_WORDS and set(wish.text.split()) <= set(texts[doc_id])


def test_before_the_drift_nobody_asks_about_the_topic() -> None:
    topic = visits.choose_topic(documents(), "graph", 0)
    apart = visits.apart_from(topic, training_wishes())
    assert apart and not any(
        "graph" in wish.text or set(wish.answers) & set(topic.documents["doc_id"]) for wish in apart
    )
    with pytest.raises(ValueError, match="Every training query is about 'graph'"):
        visits.apart_from(topic, [wish for wish in training_wishes() if "graph" in wish.text])


# Where no training query is judged.


def test_documents_are_asked_for_by_title_first_sentence_and_a_few_words() -> None:
    wishes = visits.document_wishes(documents(), 0)
    by_document: dict[str, list[str]] = {}
    for wish in wishes:
        (doc_id,) = wish.answers
        by_document.setdefault(doc_id, []).append(wish.text)
    assert set(by_document) == set(NAMES)
    title, sentence, few = by_document["array.sort"]
    assert (title, sentence) == ("array.sort", "How to sort the elements of one array quickly.")
    assert len(few.split()) == 2 and set(few.split()) <= set(visits.words(f"{title} {sentence}"))


def test_a_document_without_title_or_words_is_asked_for_by_what_there_is() -> None:
    rows = documents().head(2).with_columns(title=pl.lit(""), text=pl.Series(["12 34. 56", "Sort. It sorts."]))
    texts = [wish.text for wish in visits.document_wishes(rows, 0)]
    assert "12 34." in texts and "Sort." in texts and all(texts)


def test_few_documents_are_wanted_often_and_most_of_them_seldom() -> None:
    wishes = visits.document_wishes(documents(), 0)
    planned = visits.plan(range(2000), 0, wishes)
    asked = Counter(next(iter(wish.answers)) for visit in planned for wish in visit.wishes)
    often = [count for _, count in asked.most_common()]
    assert often[0] > 4 * often[9] and len(often) == len(NAMES)
    assert [wish.text for wish in wishes] == [wish.text for wish in visits.document_wishes(documents(), 0)]


def test_an_order_is_worth_what_it_shows_of_the_answers() -> None:
    wish = Wish("sort", {"a": 1.0})
    assert visits.worth(wish, ["a", "b"]) == 1.0
    assert visits.worth(wish, ["b", "a"]) == pytest.approx(1 / np.log2(3))
    assert visits.worth(wish, [*"bcdefghijk", "a"]) == visits.worth(wish, []) == 0.0


# At a search app.


def test_searches_and_clicks_arrive_with_their_marks(stack: tuple[App, Settings]) -> None:
    record, said, app = simulated(stack, sessions=30)
    assert record.counts.sessions == 30 and record.counts.failed == record.counts.degraded == 0
    assert len(app.searches) == record.counts.searches and len(app.events) == record.counts.clicks > 0
    assert {search["application"] for search in app.searches} == {"simulation"}
    sessions = Counter(search["session"] for search in app.searches)
    assert len(sessions) == 30 and max(sessions.values()) <= 4
    training = {row["text"] for row in queries().to_dicts() if row["split"] == "train"}
    assert {search["q"] for search in app.searches} <= training
    shown = {search["query_id"]: search for search in app.searches}
    for event in app.events.values():
        attributes, search = event["event_attributes"], shown[event["query_id"]]
        assert event["application"] == "simulation" and event["action_name"] == "click"
        assert event["session_id"] == search["session"]
        assert search["hits"][attributes["position"]["ordinal"] - 1] == attributes["object"]["object_id"]
    assert all(line.startswith("SIMULATED ") for line in said)
    assert any(f"30 sessions, {len(app.searches)} searches, {len(app.events)} clicks" in line for line in said)


def clicks_of(app: App) -> Counter[tuple[str, int]]:
    shown = {search["query_id"]: search["q"] for search in app.searches}
    return Counter(
        (shown[event["query_id"]], event["event_attributes"]["position"]["ordinal"]) for event in app.events.values()
    )


def test_the_same_seed_gives_the_same_clicks_of_other_people(stack: tuple[App, Settings]) -> None:
    app, _ = stack
    simulated(stack, sessions=20, seed=5)
    first, sessions = clicks_of(app), {search["session"] for search in app.searches}
    app.searches.clear()
    app.events.clear()
    simulated(stack, sessions=20, seed=5)
    assert clicks_of(app) == first
    assert not sessions & {search["session"] for search in app.searches}
    app.searches.clear()
    app.events.clear()
    simulated(stack, sessions=20, seed=6)
    assert clicks_of(app) != first


def test_a_trend_begins_after_a_third_is_told_and_clicked(stack: tuple[App, Settings]) -> None:
    record, said, app = simulated(stack, sessions=60, trend=2)
    assert len({query.doc_id for query in record.trends}) == 2 and record.sets == {"before": 1, "now": 1}
    first_third = set(list(dict.fromkeys(search["session"] for search in app.searches))[:20])
    later = [search for search in app.searches if search["session"] not in first_third]
    wanted = Counter(search["q"] for search in later)
    clicks = Counter(
        (app.asked(event), event["event_attributes"]["object"]["object_id"])
        for event in app.events.values()
        if event["session_id"] not in first_third
    )
    for query in record.trends:
        assert 4 <= query.before == query.now <= 30
        asked = wanted[query.text]
        assert asked > 3 and clicks[query.text, query.doc_id] >= asked * 0.7
        assert any(f"{query.doc_id} for '{query.text}': {query.before} before (set 1)" in line for line in said)
    assert sum(wanted[query.text] for query in record.trends) > len(later) / 2
    assert {search["k"] for search in app.searches} == {"50"}


@pytest.mark.slow
def test_whoever_watches_sees_what_has_risen_once_another_set_is_live(stack: tuple[App, Settings]) -> None:
    app, _ = stack
    live = app.sets.live()

    def learn() -> None:
        while not any("watching" in line for line in said):
            time.sleep(0.01)
        app.sets.go_live(app.sets.propose({}, live.snapshot, "learned from the clicks"))

    said: list[str] = []
    learning = threading.Thread(target=learn)
    learning.start()
    path = simulate(stack[1], TrafficRequest(sessions=60, trend=2, watch=True), said.append, pauses=(0.01,))
    learning.join()
    record = Record.model_validate_json(path.read_text())
    assert record.sets == {"before": 1, "now": 1, "after": 2}
    assert all(query.after == 1 < query.before for query in record.trends)
    assert any(f"before (set 1), {record.trends[0].now} now (set 1), 1 after (set 2)" in line for line in said)


@pytest.mark.slow
def test_whoever_watches_sees_how_much_better_others_are_answered_who_taught_nothing(
    stack: tuple[App, Settings],
) -> None:
    app, settings = stack
    app.reads_words = False  # what was clicked is all that it knows, once another set is live
    live = app.sets.live()
    said: list[str] = []

    def learn() -> None:
        while not any("watching" in line for line in said):
            time.sleep(0.01)
        app.sets.go_live(app.sets.propose({}, live.snapshot, "learned from the clicks"))

    learning = threading.Thread(target=learn)
    learning.start()
    path = simulate(settings, TrafficRequest(sessions=150, watch=True), said.append, pauses=(0.01,))
    learning.join()
    record = Record.model_validate_json(path.read_text())
    held_back = record.held_back
    assert held_back.searches > 100 and held_back.after == pytest.approx(held_back.before + held_back.difference)
    assert held_back.surely_better and any(held_back.sentence in line for line in said)
    assert len(app.searches) == record.counts.searches, "who only measures is not recorded"


def test_who_does_not_watch_is_told_what_follows(stack: tuple[App, Settings]) -> None:
    _, said, _ = simulated(stack, sessions=1)
    assert any("trainings start by themselves: make status, or WATCH=1 to wait" in line for line in said)


def test_watching_ends(stack: tuple[App, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.stack.traffic.simulation.WATCH_SECONDS", 0.1)
    with pytest.raises(SimulationError, match="Set 1 is still live"):
        simulated(stack, sessions=1, watch=True)


def test_nobody_watches_a_stack_that_has_ended(stack: tuple[App, Settings]) -> None:
    def ended() -> Never:
        raise RuntimeError("The stack is not running: make up")

    with pytest.raises(RuntimeError, match="not running: make up"):
        simulate(stack[1], TrafficRequest(sessions=1, watch=True), print, StackWatch(need_running=ended), (0.01,))


def test_whoever_watches_is_told_what_the_gates_did_not_let_through_and_what_to_do(
    stack: tuple[App, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    settled: list[bool] = []
    told = "not promoted: ranker/2: A loss of 0.02 is not ruled out."
    rejected = lambda settings: [told] if any("watching" in line for line in said) else []  # noqa: E731
    monkeypatch.setattr("deploy.stack.traffic.simulation.rejected_lines", rejected)
    wanted = TrafficRequest(sessions=3, seed=7, watch=True)
    with pytest.raises(SimulationError, match=r"Set 1 is still live.*make simulate SESSIONS=3 SEED=8 WATCH=1"):
        simulate(stack[1], wanted, said.append, StackWatch(settle=lambda: settled.append(told in said[-2])), (0.01,))
    assert settled == [True], "first it is said, then all runs are waited for"


def test_after_a_drift_the_topic_is_asked_about_and_not_before(stack: tuple[App, Settings]) -> None:
    record, _, app = simulated(stack, sessions=60, drift="graph")
    assert record.topic == "graph"
    asked = [search["q"] for search in app.searches]
    training = {wish.text for wish in training_wishes()}
    assert not any("graph" in text for text in asked if text in training)
    assert sum(text not in training for text in asked) > len(asked) / 2


def test_requests_that_fail_are_sent_again_and_no_click_is_doubled(stack: tuple[App, Settings]) -> None:
    app, _ = stack
    app.refused.update(GET=2, POST=2)
    record, said, _ = simulated(stack, sessions=10)
    assert record.counts.failed == 4 and record.counts.sessions == 10
    assert len(app.events) == record.counts.clicks
    assert any("4 failed requests" in line for line in said)


def test_a_search_app_that_keeps_failing_ends_it_with_the_reason_and_the_counts(stack: tuple[App, Settings]) -> None:
    app, settings = stack
    app.refused["GET"] = 10**6
    said: list[str] = []
    with pytest.raises(SearchError, match=r"GET .*/search answered 503.*not ready.*make status"):
        simulate(settings, TrafficRequest(sessions=50), said.append, pauses=(0.01, 0.01))
    told = re.fullmatch(r"SIMULATED 0 sessions, 0 searches, 0 clicks, .* (\d+) failed requests", said[-1])
    assert 3 <= int(told[1]) < 50, "whoever had begun gave up after three attempts, and nobody else came"


def test_a_search_app_that_keeps_no_clicks_is_told(stack: tuple[App, Settings]) -> None:
    stack[0].keeps_events = False
    with pytest.raises(SearchError, match="clicks the search app took 0"):
        simulated(stack, sessions=50)


def test_without_a_live_set_there_is_nothing_to_ask(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=NOTHING_LIVE):
        simulate(Settings(home=tmp_path), TrafficRequest(), print)


def test_searches_are_paced(stack: tuple[App, Settings]) -> None:
    _, _, app = simulated(stack, sessions=10, rate=50)
    times = sorted(search["at"] for search in app.searches)
    assert times[-1] - times[0] >= (len(times) - 1) / 50 - 0.02


def test_no_rate_is_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    pace = Pace(None)
    for _ in range(1000):
        pace.wait()
    assert waited == [0.0] * 1000
