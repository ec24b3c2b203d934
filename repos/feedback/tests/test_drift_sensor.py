"""The drift sensor on real searches and clicks in PostgreSQL, with a server of vectors in the semantic one's place."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest
from dagster import DagsterInstance, build_sensor_context
from sqlalchemy import create_engine, text

from repos.feedback.drift import vectors
from repos.feedback.drift.sensor import drift
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.data.ubi import EventAttributes, LoggedSet, QueryAttributes, Store, UbiEvent, UbiQuery
from shared_ops.pipeline.lineage import feedback_key
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import PROD
from shared_ops.release.livesets import NOTHING_LIVE, LiveSet

START = datetime(2026, 1, 1, tzinfo=UTC)
ATTRIBUTES = QueryAttributes(live_set=LoggedSet(number=1, releases={}, snapshot="s"), ranking="ranker")


class NumberedStore(Store):
    """A store whose traffic is numbered from 0 on: ids, times and seeds are the same in every run of a test."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.numbers = count()


@pytest.fixture
def store(store: Store, postgres: str, monkeypatch: pytest.MonkeyPatch) -> NumberedStore:
    """An empty database of searches, and a stack's settings that name it; periods are of 200 searches."""
    monkeypatch.setenv("SEARCHLOOP_DRIFT_SEARCHES", "200")
    monkeypatch.setenv("SEARCHLOOP_DRIFT_SETTLE_SECONDS", "0")
    monkeypatch.setenv("SEARCHLOOP_PORT_BASE", "1024")  # nothing listens there
    return NumberedStore(postgres)


def execute(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


class DriftTicks:
    """The sensor as the daemon calls it: each tick gets the cursor of the one before."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self.cursor: str | None = None
        self.events: list[Any] = []

    def tick(self) -> Any:
        """The run that was asked for, or the words why none was."""
        with build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            data = drift.evaluate_tick(context)
        self.cursor, self.events = data.cursor, list(data.asset_events)
        return data.run_requests[0] if data.run_requests else data.skip_message


@pytest.fixture
def ticks() -> Iterator[DriftTicks]:
    with DagsterInstance.ephemeral() as instance:
        yield DriftTicks(instance)


def traffic(
    store: NumberedStore,
    searches: int = 200,
    words: str = "abcdefgh",
    click_share: float = 0.5,
    application: str = "searchloop",
    late: int = 0,
) -> None:
    """Store searches for one of the words, two a session, with clicks on the first result, `late` seconds later."""
    random = np.random.default_rng(next(store.numbers))
    queries: list[UbiQuery] = []
    events: list[UbiEvent] = []
    for number in range(searches):
        identity = f"{application}-{next(store.numbers)}"
        session = f"{application}-{queries[0].query_id if queries else identity}-{number // 2}"
        shared: dict[str, Any] = {
            "application": application, "query_id": identity, "client_id": session,
            "timestamp": START + timedelta(seconds=next(store.numbers)),
        }  # fmt: skip
        query: dict[str, Any] = {"user_query": f"{random.choice(list(words))} thing", "query_response_id": identity}
        hits = [f"d{i}" for i in range(10)]
        queries.append(UbiQuery(query_response_hit_ids=hits, query_attributes=ATTRIBUTES, **query, **shared))
        if random.random() < click_share:
            clicked = EventAttributes.model_validate({"object": {"object_id": "d0"}, "position": {"ordinal": 1}})
            click: dict[str, Any] = {"event_id": f"e-{identity}", "action_name": "click", "session_id": session}
            shared["timestamp"] += timedelta(seconds=late)
            events.append(UbiEvent(event_attributes=clicked, **click, **shared))
    store.add(queries, events)


class Embedding(BaseHTTPRequestHandler):
    """Vectors of texts, as the prediction service gives them: one direction for each word a text begins with."""

    requests: ClassVar[list[dict[str, Any]]] = []
    answer: ClassVar[dict[str, Any] | None] = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Embedding.requests.append(body)
        vectors = [np.eye(26)[ord(text[0]) - ord("a")].tolist() for text in body["texts"]]
        answer = {"family": "semantic", "release": body["release"], "vectors": vectors}
        content = json.dumps(Embedding.answer or answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def semantic(store: NumberedStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Embedding]]:
    """A live set, and a server where its semantic release would answer."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Embedding) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        monkeypatch.setenv("SEARCHLOOP_PORT_BASE", str(listening.server_port - 22))
        monkeypatch.setattr(Embedding, "requests", [])
        monkeypatch.setattr(vectors, "_last_look", {})
        go_live()
        yield Embedding
        listening.shutdown()


def go_live() -> None:
    PROD.live_sets.go_live(
        LiveSet(
            number=1, releases={"semantic": "v7"}, snapshot=SnapshotRef(id="s", url="file:///s"), created_at=START
        )
    )  # fmt: skip


def test_without_a_database_or_searches_nothing_happens(
    store: NumberedStore, ticks: DriftTicks, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ticks.tick() == "Nobody has searched yet."
    execute(postgres, "DROP TABLE ubi_queries")
    assert "holds no table of searches" in ticks.tick()
    monkeypatch.setenv("SEARCHLOOP_POSTGRES_URL", "postgresql+psycopg2://127.0.0.1:1/nothing")
    assert "Postgres cannot be asked, the next tick tries again" in ticks.tick()
    monkeypatch.delenv("SEARCHLOOP_POSTGRES_URL")
    assert "SEARCHLOOP_POSTGRES_URL is not set" in ticks.tick()


def test_the_first_period_is_what_the_next_is_compared_with(store: NumberedStore, ticks: DriftTicks) -> None:
    traffic(store, 150)
    assert ticks.tick() == "Waits for a full period. searchloop: 150 of 200 new searches."
    traffic(store, 50)
    assert ticks.tick() == "searchloop: the first 200 searches are what the next will be compared with."
    assert ticks.tick() == "Waits for a full period. searchloop: 0 of 200 new searches."


def test_unchanged_traffic_is_looked_at_once_and_its_numbers_are_told(
    store: NumberedStore, ticks: DriftTicks, semantic: type[Embedding]
) -> None:
    for _ in range(2):
        traffic(store)
        said = ticks.tick()
    assert said.startswith("No drift. searchloop: 100 sessions (200 searches) against as many before: query terms 0.")
    assert "query embeddings" in said and "click-through" in said and said.count("by chance up to") == 3
    (event,) = ticks.events
    assert event.asset_key == feedback_key("prod") and event.metadata["alarms"].value == 0
    assert event.metadata["query terms: p"].value > 0.05 / 3
    assert "| query embeddings | 0." in event.metadata["drift"].value
    assert ticks.tick() == "Waits for a full period. searchloop: 0 of 200 new searches."
    assert semantic.requests[0]["release"] == "v7" and len(semantic.requests[0]["texts"]) == 8


def test_searches_for_other_things_are_drift_and_ask_for_feedback(
    store: NumberedStore, ticks: DriftTicks, semantic: type[Embedding]
) -> None:
    traffic(store)
    ticks.tick()
    traffic(store, 100)
    traffic(store, 100, words="xyz")
    request = ticks.tick()
    assert request.job_name is None and drift.job_name == "feedback_prod"
    assert request.tags[BECAUSE] == "drift: query terms, query embeddings of searchloop"
    assert request.run_config == {"ops": {"read_events": {"config": {"before": store.window(0).before}}}}
    (event,) = ticks.events
    assert event.metadata["alarms"].value == 2
    assert event.metadata["look"].value["measures"][0]["p_value"] == pytest.approx(0.001)
    keys = {request.run_key}
    traffic(store)
    keys.add(ticks.tick().run_key)
    assert len(keys) == 2


def test_fewer_clicks_are_drift(store: NumberedStore, ticks: DriftTicks) -> None:
    traffic(store, click_share=0.6)
    ticks.tick()
    traffic(store, click_share=0.3)
    assert ticks.tick().tags[BECAUSE] == "drift: click-through of searchloop"


def test_clicks_that_come_after_their_searches_are_waited_for(
    store: NumberedStore, ticks: DriftTicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(store)
    ticks.tick()
    monkeypatch.setenv("SEARCHLOOP_DRIFT_SETTLE_SECONDS", "60")
    traffic(store, 210)
    assert ticks.tick().endswith("searchloop: 210 of 200 new searches, looked at 60 s after the last of them.")
    traffic(store, 20)
    assert "230 of 200" in ticks.tick()
    monkeypatch.setenv("SEARCHLOOP_DRIFT_SETTLE_SECONDS", "0")
    assert "100 sessions (200 searches)" in ticks.tick()
    assert ticks.tick() == "Waits for a full period. searchloop: 20 of 200 new searches."


def test_a_late_click_counts_in_neither_period(store: NumberedStore, ticks: DriftTicks) -> None:
    """An older search has had more time to be clicked: that is no fall."""
    traffic(store, click_share=0.9, late=5)
    ticks.tick()
    traffic(store, click_share=0)
    assert "click-through 0.000" in ticks.tick()


def test_made_up_and_real_searches_are_compared_apart(store: NumberedStore, ticks: DriftTicks) -> None:
    traffic(store, 250, application="simulation")
    traffic(store, 200)
    assert ticks.tick().startswith("simulation: the first 250 searches")
    assert ticks.tick().startswith("searchloop: the first 200 searches")
    traffic(store, 200, application="simulation", words="xyz")
    traffic(store, 150)
    assert ticks.tick().tags[BECAUSE] == "drift: query terms of simulation"
    assert ticks.tick().endswith("searchloop: 150 of 200 new searches; simulation: 0 of 200 new searches.")


def test_a_text_s_vector_is_asked_for_once_in_the_two_looks_that_it_is_part_of(
    store: NumberedStore, ticks: DriftTicks, semantic: type[Embedding]
) -> None:
    looks = []
    for words in ("abc", "bcd", "bcd"):
        traffic(store, words=words)
        ticks.tick()
        looks.append({text[0] for body in semantic.requests for text in body["texts"]})
        semantic.requests.clear()
    assert looks == [set(), set("abcd"), set()]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"vectors": [[1.0]]}, "what is no vectors"),
        ({"error": "busy"}, "what is no vectors"),
        ({"family": "semantic", "release": "v7", "vectors": [[float("nan")]] * 8}, "not of finite numbers"),
    ],
)
def test_what_is_no_vector_is_left_out_and_told(
    store: NumberedStore,
    ticks: DriftTicks,
    semantic: type[Embedding],
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any],
    told: str,
) -> None:
    monkeypatch.setattr(semantic, "answer", answer)
    for _ in range(2):
        traffic(store)
        said = ticks.tick()
    assert told in said and said.startswith("No drift.") and said.count("by chance up to") == 2


def test_without_the_semantic_service_embeddings_are_left_out_and_it_is_told(
    store: NumberedStore, ticks: DriftTicks
) -> None:
    for _ in range(2):
        traffic(store)
        said = ticks.tick()
    assert said.endswith(f"Query embeddings were left out. {NOTHING_LIVE}.")
    go_live()
    traffic(store)
    assert "Query embeddings were left out. http://127.0.0.1:1046/embed is away" in ticks.tick()
    assert "embed is away" in ticks.events[0].metadata["drift"].value


def test_a_period_that_retention_took_is_not_compared_with(
    store: NumberedStore, ticks: DriftTicks, postgres: str
) -> None:
    traffic(store)
    ticks.tick()
    execute(postgres, "DELETE FROM ubi_queries")
    traffic(store)
    assert ticks.tick().startswith("searchloop: nothing to compare.")


def test_another_database_starts_anew(store: NumberedStore, ticks: DriftTicks) -> None:
    traffic(store)
    ticks.cursor = '{"counted": 1000000000, "periods": {"searchloop": {"begins": 900000000, "searches": 199}}}'
    assert ticks.tick() == "searchloop: the first 200 searches are what the next will be compared with."
