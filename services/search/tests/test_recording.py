"""What is recorded of searches and clicks, and that nothing is lost or doubled: real servers, real Postgres."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import numpy as np
import psycopg2
import pytest
from markupsafe import escape

from services.search.outbox import Outbox
from services.search.shipping import Shipper
from services.search.tests.test_search import FAMILIES, QUERY, start_all
from services.tests.database import Database, database
from services.tests.stack import SEARCHING, ServingStack, TinyExplainer, stack, until
from shared_ops.data.ubi import ClickedObject, EventAttributes, Position, Store, UbiEvent, UbiQuery, Window
from shared_ops.settings import ROOT

AGENT = "A browser that tells a lot about its user"
EVER = 2**62

Row = TypeVar("Row")
Click = dict[str, Any]
"""One as a page sends it."""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with database(tmp_path_factory.mktemp("postgres")) as made:
        yield made


@pytest.fixture
def tables(postgres: Database) -> Database:
    """The database, with nothing in it."""
    postgres.rows("DROP TABLE IF EXISTS ubi_queries, ubi_events")
    return postgres


@pytest.fixture
def local(tmp_path: Path, tables: Database) -> Iterator[ServingStack]:
    with stack(tmp_path, postgres_url=tables.url) as made:
        made.live_set = start_all(made, made.snapshot(), ranker={"explains": True})
        yield made


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[ServingStack]:
    """A stack that has no database."""
    with stack(tmp_path) as made:
        start_all(made, made.snapshot(), ranker={"explains": True})
        yield made


def search(local: ServingStack, q: str = QUERY, headers: dict[str, str] | None = None, **more: int) -> dict[str, Any]:
    answer = local.client.get(local.settings.url("search") + "/search", params={"q": q, **more}, headers=headers or {})
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def click(query_id: str | None, doc_id: str = "fft", position: int = 1, **more: str) -> Click:
    attributes = {"object": {"object_id": doc_id}, "position": {"ordinal": position}}
    return {"action_name": "click", "query_id": query_id, "event_attributes": attributes, **more}


def send(local: ServingStack, content: Click | list[Click], headers: dict[str, str] | None = None) -> httpx.Response:
    return local.client.post(local.settings.url("search") + "/events", json=content, headers=headers or {})


def stored(tables: Database, table: str = "ubi_queries") -> list[str]:
    return tables.column(f"SELECT {'query_id' if table == 'ubi_queries' else 'event_id'} FROM {table}")


def feedback(local: ServingStack) -> dict[str, Any]:
    told: dict[str, Any] = local.get("search", "/health").json()["feedback"]
    return told


def only(found: Sequence[Row]) -> Row:
    (one,) = found
    return one


def queries(tables: Database, count: int = 1) -> list[UbiQuery]:
    until(lambda: len(stored(tables)) == count)
    return Store(tables.url).queries(Window(0, EVER))


def events(tables: Database, count: int = 1) -> list[UbiEvent]:
    until(lambda: len(stored(tables, "ubi_events")) == count)
    return Store(tables.url).events(Window(0, EVER))


class TestWhatIsRecordedOfASearch:
    def test_who_asked_what_and_what_was_shown(self, local: ServingStack, tables: Database) -> None:
        answer = search(local, q="  fourier \x00 TRANSFORM ", k=2, headers={"x-session-id": "s-1"})
        query = only(queries(tables))
        assert query.query_id == answer["query_id"]
        assert query.user_query == answer["query"] == "fourier TRANSFORM"
        assert query.client_id == "s-1"
        assert query.application == "searchloop"
        assert query.object_id_field == "doc_id"
        assert query.query_response_hit_ids == [hit["doc_id"] for hit in answer["hits"]]
        assert abs(datetime.now(UTC) - query.timestamp) < timedelta(minutes=1)

    def test_the_live_set_that_answered(self, local: ServingStack, tables: Database) -> None:
        search(local)
        logged = only(queries(tables)).query_attributes.live_set
        assert logged.number == local.live_set.number
        assert logged.releases == local.live_set.releases
        assert logged.snapshot == local.live_set.snapshot.id

    def test_the_features_of_the_documents_shown_as_the_ranker_computes_them_from_the_hits_logged(
        self, local: ServingStack, tables: Database
    ) -> None:
        shown = [hit["doc_id"] for hit in search(local, k=2)["hits"]]
        attributes = only(queries(tables)).query_attributes
        hits = {family: list(zip(each.doc_ids, each.scores, strict=True)) for family, each in attributes.hits.items()}
        assert set(hits) == set(SEARCHING)
        assert attributes.features.release == "v1"
        again = np.array([TinyExplainer.features(doc_id, hits) for doc_id in shown], np.float32)
        logged = np.array(attributes.features.values, np.float64).astype(np.float32)
        np.testing.assert_array_equal(logged, again)
        assert attributes.features.values[0][2] is None

    def test_who_asked_what_alone_where_more_come_than_are_learned_from(self, tmp_path: Path, tables: Database) -> None:
        with stack(tmp_path, postgres_url=tables.url, learned_per_minute=0) as local:
            start_all(local, local.snapshot(), ranker={"explains": True})
            answer = search(local)
            query = only(queries(tables))
            assert query.query_response_hit_ids == [hit["doc_id"] for hit in answer["hits"]]
            assert query.query_attributes.hits is None and query.query_attributes.features is None

    def test_nothing_found_is_a_search_too(self, local: ServingStack, tables: Database) -> None:
        search(local, q="xylophone")
        query = only(queries(tables))
        assert query.query_response_hit_ids == []
        assert query.query_attributes.features is None

    def test_who_had_no_part_in_it(self, local: ServingStack, tables: Database) -> None:
        local.stop("ranker")
        local.stop("behavior")
        search(local)
        attributes = only(queries(tables)).query_attributes
        assert attributes.ranking == "rrf"
        assert attributes.degraded == ["behavior", "ranker"]
        assert attributes.features is None

    def test_a_ranker_without_features(self, local: ServingStack, tables: Database) -> None:
        local.release("ranker", "plain", local.live_set.snapshot)
        releases = {**local.live_set.releases, "ranker": "plain"}
        chosen = local.go_live(local.live_set.snapshot, **releases)
        for name in ("ranker", "search"):
            local.until_live(name, chosen)
        assert search(local)["ranking"] == "ranker"
        assert only(queries(tables)).query_attributes.features is None

    def test_the_page_records_as_the_json_does(self, local: ServingStack, tables: Database) -> None:
        assert local.get("search", "/", q=QUERY).status_code == 200
        assert only(queries(tables)).user_query == QUERY

    def test_the_start_page_and_a_refused_query_are_no_searches(self, local: ServingStack, tables: Database) -> None:
        local.get("search", "/")
        local.get("search", "/search", q="")
        search(local)
        queries(tables)

    def test_simulated_traffic_says_so(self, local: ServingStack, tables: Database) -> None:
        query_id = search(local, headers={"x-application": "simulation"})["query_id"]
        send(local, click(query_id, application="simulation"))
        assert only(queries(tables)).application == only(events(tables)).application == "simulation"

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("x-application", "UPPER"),
            ("x-application", "a" * 101),
            ("x-session-id", "192.0.2.1"),
            ("x-session-id", "a@b"),
        ],
    )
    def test_headers_of_another_form_are_refused(self, offline: ServingStack, header: str, value: str) -> None:
        answer = offline.client.get(
            offline.settings.url("search") + "/search", params={"q": QUERY}, headers={header: value}
        )
        assert answer.status_code == 422
        assert answer.json()["error"].startswith(f"{header}: expected")


class TestWhatIsRecordedOfAClick:
    def test_what_was_clicked_where_by_whom(self, local: ServingStack, tables: Database) -> None:
        sent = click("q-1", "mean", 3, session_id="s-7", event_id="e-1")
        assert send(local, sent).json() == {"accepted": 1}
        event = only(events(tables))
        assert (event.action_name, event.query_id, event.event_id) == ("click", "q-1", "e-1")
        assert event.event_attributes.object.object_id == "mean"
        assert event.event_attributes.position.ordinal == 3
        assert event.session_id == event.client_id == "s-7"
        assert abs(datetime.now(UTC) - event.timestamp) < timedelta(minutes=1)

    @pytest.mark.parametrize("doc_id", ["a document with  spaces", "long " * 60 + "id", 'é"<&%20' * 146])
    def test_whatever_the_id_of_the_document_that_the_page_shows(
        self, tmp_path: Path, tables: Database, doc_id: str
    ) -> None:
        with stack(tmp_path, postgres_url=tables.url) as made:
            title, text = "Fast Fourier transform", "Compute the Fourier transform of a signal."
            snapshot = made.snapshot({doc_id: (title, text)}, urls={doc_id: "https://example.org/fft"})
            start_all(made, snapshot, **{family: {"texts": {doc_id: text}} for family in SEARCHING})
            answer = search(made)
            assert [hit["doc_id"] for hit in answer["hits"]] == [doc_id]
            assert str(escape(doc_id)) in made.get("search", "/", q=QUERY).text
            assert send(made, click(answer["query_id"], doc_id)).json() == {"accepted": 1}
            assert only(events(tables)).event_attributes.object.object_id == doc_id

    def test_a_list_of_them(self, local: ServingStack, tables: Database) -> None:
        assert send(local, [click("q-1"), click("q-1", "mean", 2)]).json() == {"accepted": 2}
        assert len({event.event_id for event in events(tables, 2)}) == 2

    def test_the_session_is_the_headers_or_the_cookies(self, local: ServingStack, tables: Database) -> None:
        cookie = uuid4().hex
        send(local, click("q-1"), headers={"x-session-id": "s-1"})
        send(local, click("q-2"), headers={"cookie": f"session={cookie}"})
        send(local, click("q-3"), headers={"cookie": "session=not-one-of-ours"})
        sessions = {event.query_id: event.session_id for event in events(tables, 3)}
        assert sessions["q-1"] == "s-1"
        assert sessions["q-2"] == cookie
        assert sessions["q-3"] not in ("not-one-of-ours", "s-1", cookie)

    def test_nothing_is_recorded_of_who_asks_for_privacy(self, local: ServingStack, tables: Database) -> None:
        private = {"sec-gpc": "1"}
        assert send(local, click("q-1"), headers=private).json() == {"accepted": 0}
        url = local.settings.url("search")
        page = local.client.get(url, params={"q": QUERY}, headers=private)
        assert page.status_code == 200 and "set-cookie" not in page.headers
        local.client.get(f"{url}/search", params={"q": QUERY}, headers=private).raise_for_status()
        send(local, click("q-2"))
        assert only(events(tables)).query_id == "q-2"
        assert stored(tables, "ubi_queries") == []

    def test_one_that_is_sent_again_counts_once(self, local: ServingStack, tables: Database) -> None:
        for _ in range(3):
            assert send(local, click("q-1", event_id="e-1")).status_code == 202
        send(local, click("q-1", event_id="e-2"))
        assert sorted(event.event_id for event in events(tables, 2)) == ["e-1", "e-2"]
        until(lambda: feedback(local)["waiting"] == 0)
        assert len(stored(tables, "ubi_events")) == 2

    def test_the_clients_time_is_taken_where_it_is_about_now(self, local: ServingStack, tables: Database) -> None:
        then = datetime.now(UTC) - timedelta(hours=2)
        send(local, click("q-1", timestamp=then.isoformat()))
        assert only(events(tables)).timestamp == then

    def test_a_beacon_may_come_as_plain_text(self, offline: ServingStack) -> None:
        content = b'{"action_name": "click", "query_id": "q", "event_attributes": {"object": {"object_id": "fft"}, '
        content += b'"position": {"ordinal": 1}}}'
        url = offline.settings.url("search") + "/events"
        for kind in ("text/plain;charset=UTF-8", "application/json"):
            answer = offline.client.post(url, content=content, headers={"content-type": kind})
            assert answer.status_code == 202


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    """The search app alone."""
    with stack(tmp_path_factory.mktemp("events")) as made:
        made.start("search")
        yield made


class TestBadEvents:
    @pytest.mark.parametrize(
        ("event", "word"),
        [
            (b"", "JSON"),
            (b"{", "JSON"),
            (b"7", "body"),
            (click(None), "query_id"),
            (click("a b"), "query_id"),
            (click("q", ""), "event_attributes.object.object_id"),
            (click("q", "x" * 1025), "event_attributes.object.object_id"),
            (click("q", "nul\0"), "NUL"),
            (click("q", position=0), "event_attributes.position.ordinal"),
            (click("q", action_name="<b>"), "action_name"),
            (click("q", event_id="e" * 101), "event_id"),
            (click("q", application="Not Valid"), "application"),
            (click("q", session_id="me@example.org"), "session_id"),
            (click("q", timestamp="2020-01-01T00:00:00Z"), "within a day"),
            (click("q", timestamp=datetime.now().isoformat()), "timestamp"),
            ({"action_name": "click", "query_id": "q"}, "event_attributes"),
            ([click("q"), click("q", position=-1)], "1.event_attributes.position.ordinal"),
            ([click("q")] * 101, "100"),
        ],
    )
    def test_each_is_a_422_that_names_what_is_wrong_and_nothing_is_taken(
        self, app: ServingStack, event: bytes | Click | list[Click], word: str
    ) -> None:
        how = {"content": event} if isinstance(event, bytes) else {"json": event}
        answer = app.client.post(app.settings.url("search") + "/events", **how)
        assert answer.status_code == 422
        assert word in answer.json()["error"]
        assert feedback(app)["waiting"] == 0

    def test_too_many_bytes(self, app: ServingStack) -> None:
        answer = send(app, click("q", more="x" * 70_000))
        assert answer.status_code == 413
        assert "64,000 bytes" in answer.json()["error"]

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "http://elsewhere.example"},
            {"origin": "null"},
            {"origin": "http://[::1"},
            {"referer": "http://elsewhere.example/page"},
        ],
    )
    def test_another_sites_page_cannot_send_any(self, app: ServingStack, headers: dict[str, str]) -> None:
        assert send(app, click("q"), headers=headers).status_code == 403

    def test_the_apps_own_page_can(self, tmp_path: Path) -> None:
        with stack(tmp_path) as app:
            app.start("search")
            own = {"origin": app.settings.url("search")}
            for headers in (own, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "same-origin", **own}):
                assert send(app, click("q"), headers=headers).status_code == 202


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    """A stack that answers; what it records waits on disk."""
    with stack(tmp_path_factory.mktemp("sites")) as made:
        start_all(made, made.snapshot())
        yield made


class TestAnotherSitesSearches:
    """A page may have its visitors' browsers send searches that no visitor wanted."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "http://elsewhere.example"},
            {"origin": "http://[::1"},
            {"referer": "http://elsewhere.example/page"},
        ],
        ids=str,
    )
    def test_are_answered_and_not_recorded(self, answering: ServingStack, headers: dict[str, str]) -> None:
        before = feedback(answering)["waiting"]
        assert search(answering, headers=headers)["hits"]
        page = answering.client.get(answering.settings.url("search"), params={"q": QUERY}, headers=headers)
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "set-cookie" not in page.headers
        assert feedback(answering)["waiting"] == before

    def test_and_a_head_is_nobodys_search(self, answering: ServingStack) -> None:
        before = feedback(answering)["waiting"]
        url = answering.settings.url("search") + "/search"
        assert answering.client.head(url, params={"q": QUERY}).status_code == 200
        assert feedback(answering)["waiting"] == before

    @pytest.mark.parametrize("headers", [{"sec-fetch-site": "none"}, {"sec-fetch-site": "same-origin"}, {}], ids=str)
    def test_those_of_the_own_page_of_the_address_bar_and_of_programs_are(
        self, answering: ServingStack, headers: dict[str, str]
    ) -> None:
        before = feedback(answering)["waiting"]
        search(answering, headers=headers)
        assert feedback(answering)["waiting"] == before + 1


class TestPrivacy:
    def test_neither_address_nor_browser_nor_other_headers_are_stored(
        self, local: ServingStack, tables: Database
    ) -> None:
        headers = {
            "user-agent": AGENT,
            "x-forwarded-for": "203.0.113.9",
            "accept-language": "tlh",
            "referer": local.settings.url("search") + "/secret",
            "cookie": "other=tracked",
        }
        query_id = search(local, headers=headers)["query_id"]
        personal: dict[str, Any] = {
            "user_id": "somebody",
            "ip": "203.0.113.9",
            "message": "my words",
            "user_agent": AGENT,
        }
        assert send(local, click(query_id, **personal), headers=headers).status_code == 202
        queries(tables)
        events(tables)
        for table in ("ubi_queries", "ubi_events"):
            text = only(tables.column(f"SELECT row_to_json(t)::text FROM {table} t"))
            for secret in (*headers.values(), *personal.values(), "tracked", "127.0.0.1"):
                assert secret not in text

    def test_without_a_session_every_search_is_somebody_elses(self, local: ServingStack, tables: Database) -> None:
        search(local)
        search(local)
        assert len({query.client_id for query in queries(tables, 2)}) == 2

    def test_switched_off_nothing_is_recorded_and_nobody_gets_a_cookie(self, tmp_path: Path) -> None:
        with stack(tmp_path, feedback=False) as local:
            start_all(local, local.snapshot())
            search(local)
            page = local.get("search", "/", q=QUERY)
            assert "set-cookie" not in page.headers
            assert "clicks.js" not in page.text
            assert send(local, click("q")).json() == {"accepted": 0}
            assert feedback(local) == {"on": False}
            assert not (local.settings.home / "outbox").exists()


class TestNothingIsLost:
    def test_postgres_killed_and_started_again(self, tmp_path: Path, tables: Database) -> None:
        with stack(tmp_path, postgres_url=tables.url) as local:
            start_all(local, local.snapshot())
            asked, clicked = [], []

            def use(times: int) -> None:
                for _ in range(times):
                    asked.append(search(local)["query_id"])
                    clicked.append(uuid4().hex)
                    assert send(local, click(asked[-1], event_id=clicked[-1])).status_code == 202

            use(10)
            tables.kill()
            use(10)
            until(lambda: feedback(local)["shipping"])
            assert feedback(local)["waiting"] >= 20
            assert "searchloop_feedback_seconds_behind" in local.get("search", "/metrics").text
            tables.start()
            use(10)
            until(lambda: feedback(local)["waiting"] == 0, seconds=20)
            assert feedback(local)["shipping"] is None
        assert sorted(stored(tables)) == sorted(asked)
        assert sorted(stored(tables, "ubi_events")) == sorted(clicked)

    def test_the_search_app_killed_with_events_on_disk(self, tmp_path: Path, tables: Database) -> None:
        with stack(tmp_path) as local:
            snapshot = local.snapshot()
            chosen = local.go_live(snapshot, **{each: local.release(each, "v1", snapshot) for each in FAMILIES})
            for family in FAMILIES:
                local.start(family)
                local.until_live(family, chosen)
            # Nothing listens there, so all of it waits on disk.
            with running(local, f"postgresql+psycopg2://nobody@/none?host={tmp_path}"):
                asked = [search(local)["query_id"] for _ in range(20)]
                clicked = [uuid4().hex for _ in asked]
                for query_id, event_id in zip(asked, clicked, strict=True):
                    assert send(local, click(query_id, event_id=event_id)).status_code == 202
            with running(local, tables.url):
                until(lambda: feedback(local)["waiting"] == 0, seconds=20)
            assert sorted(stored(tables)) == sorted(asked)
            assert sorted(stored(tables, "ubi_events")) == sorted(clicked)

    def test_a_batch_that_was_stored_without_our_knowing_is_stored_once(self, tmp_path: Path, tables: Database) -> None:
        class Disconnected(Store):
            """The connection breaks after the commit, before the answer: the first three times."""

            times = 0

            def add(self, queries: Sequence[UbiQuery], events: Sequence[UbiEvent]) -> None:
                super().add(queries, events)
                self.times += 1
                if self.times <= 3:
                    raise psycopg2.OperationalError("server closed the connection unexpectedly")

        outbox, store = Outbox(tmp_path / "outbox.sqlite"), Disconnected(tables.url)
        outbox.put([("event", made_event(number).model_dump_json()) for number in range(5)])
        with Shipper(outbox, store, every=0.05).running():
            until(lambda: outbox.levels().waiting == 0)
        assert store.times == 4
        assert len(stored(tables, "ubi_events")) == 5

    def test_tables_that_were_dropped_are_made_again(self, local: ServingStack, tables: Database) -> None:
        search(local)
        queries(tables)
        tables.rows("DROP TABLE ubi_queries, ubi_events")
        query_id = search(local)["query_id"]
        assert only(queries(tables)).query_id == query_id

    def test_without_a_database_all_waits(self, offline: ServingStack) -> None:
        search(offline)
        assert feedback(offline) == {
            "on": True,
            "waiting": 1,
            "set_aside": 0,
            "lost": 0,
            "recording": None,
            "shipping": "No database: SEARCHLOOP_POSTGRES_URL is not set.",
        }


class TestPoison:
    def test_what_postgres_refuses_is_set_aside_with_its_reason_and_the_rest_is_stored(
        self, tmp_path: Path, tables: Database
    ) -> None:
        outbox = Outbox(tmp_path / "outbox.sqlite")
        good = [made_event(number) for number in range(300)]
        poisoned = [
            ("event", made_event("nul", doc_id="a\0b").model_dump_json()),
            ("event", made_event("nul\0id").model_dump_json()),
            ("event", "{}"),
            ("unheard-of", "{}"),
        ]
        entries = [("event", event.model_dump_json()) for event in good]
        for place, entry in zip((0, 90, 91, 250), poisoned, strict=True):
            entries.insert(place, entry)
        outbox.put(entries)
        shipper = Shipper(outbox, Store(tables.url), every=0.05)
        with shipper.running():
            until(lambda: outbox.levels().waiting == 0)
        assert sorted(stored(tables, "ubi_events")) == sorted(event.event_id for event in good)
        assert shipper.stored == len(good)
        assert outbox.levels().set_aside == len(poisoned)
        reasons = set_aside(outbox.path)
        assert all(reasons)
        assert "NUL" in reasons[1]

    def test_metrics_count_them(self, local: ServingStack, tables: Database) -> None:
        outbox = Outbox(local.settings.home / "outbox" / "search.sqlite")
        outbox.put([("event", made_event("a\0b").model_dump_json())])
        search(local)
        queries(tables)
        until(lambda: feedback(local)["set_aside"] == 1)
        text = local.get("search", "/metrics").text
        assert "searchloop_feedback_set_aside 1.0" in text
        assert "searchloop_feedback_stored_total 1.0" in text
        assert "searchloop_feedback_waiting 0.0" in text
        assert "searchloop_feedback_seconds_behind 0.0" in text
        assert "searchloop_feedback_lost_total 0.0" in text


class TestDiskFails:
    def test_a_search_is_answered_and_what_was_lost_is_counted_until_the_disk_is_back(self, tmp_path: Path) -> None:
        with stack(tmp_path) as local:
            # A file where the folder would be: no outbox can be opened.
            (tmp_path / "outbox").write_text("")
            start_all(local, local.snapshot())
            assert search(local)["hits"]
            refused = send(local, click("q"))
            assert refused.status_code == 503
            assert "Send them again" in refused.json()["error"]
            assert "Exists" in feedback(local)["recording"]
            assert feedback(local)["lost"] == 2
            assert "searchloop_feedback_lost_total 2.0" in local.get("search", "/metrics").text
            (tmp_path / "outbox").unlink()
            search(local)
            assert feedback(local)["recording"] is None
            assert feedback(local)["waiting"] == 1

    def test_a_full_disk_takes_nothing_and_breaks_nothing(self, tmp_path: Path) -> None:
        outbox = Outbox(tmp_path / "outbox.sqlite")
        outbox.put([("event", "kept")])
        outbox._connection.execute("PRAGMA max_page_count = 20")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            outbox.put([("event", "small"), ("event", "x" * 1_000_000)])
        assert [entry.content for entry in outbox.first(10)] == ["kept"]
        outbox.put([("event", "after")])
        assert [entry.content for entry in outbox.first(10)] == ["kept", "after"]


def made_event(name: int | str, doc_id: str = "fft") -> UbiEvent:
    return UbiEvent(
        application="searchloop",
        event_id=f"event-{name}",
        action_name="click",
        query_id="q",
        session_id="s",
        client_id="s",
        timestamp=datetime.now(UTC),
        event_attributes=EventAttributes(object=ClickedObject(object_id=doc_id), position=Position(ordinal=1)),
    )


def set_aside(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [reason for (reason,) in connection.execute("SELECT reason FROM set_aside ORDER BY number")]


@contextmanager
def running(local: ServingStack, postgres_url: str) -> Iterator[None]:
    """The search app as a process of its own, killed when the block ends."""
    variables = {
        **os.environ,
        "SEARCHLOOP_HOME": str(local.settings.home),
        "SEARCHLOOP_PORT_BASE": str(local.settings.port_base),
        "SEARCHLOOP_POSTGRES_URL": postgres_url,
    }
    process = subprocess.Popen([sys.executable, "-m", "services.search"], cwd=ROOT, env=variables)
    try:
        until(lambda: local.answers("search", "/health"), seconds=60)
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
