"""What searches and clicks teach, and what of them does not count."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count, islice
from typing import Any

import numpy as np
import polars as pl
import pytest

from repos.feedback.learning import FeedbackContent, LearningParameters, learn
from repos.feedback.parts import CLICKS, SEARCHES, Events, flat
from repos.feedback.sessions import (
    CLICKED_ALL,
    FAST,
    MANY,
    NOT_SHOWN,
    OTHER_POSITION,
    REPEATED_CLICK,
    REPEATED_QUERY,
    UNKNOWN_SEARCH,
)
from repos.feedback.tests.recorded import START, click, in_all, search
from shared_ops.data import tables
from shared_ops.data.feedback import FOLDS, HELD_BACK, TABLES, EventCounts
from shared_ops.data.tables import served_hits
from shared_ops.data.text import fold_of, text_id
from shared_ops.data.ubi import UbiEvent, UbiQuery

PAGE = ["a", "b", "c", "d"]


def rules(**changed: Any) -> LearningParameters:
    """Parameters without a limit for sessions of one query, as most of these tests have, within minutes."""
    return LearningParameters(**{"narrow_sessions": 100_000, "narrow_clicks": 100_000, **changed})


ALL = rules(newest_share=0.0)
"""Nothing held back."""


def learned(
    queries: Sequence[UbiQuery], events: Sequence[UbiEvent], parameters: LearningParameters = ALL
) -> FeedbackContent:
    feedback = learn(flat(queries, events), 7, parameters)
    for name in TABLES:
        tables.check(name, feedback.tables[name])
    return feedback


def one_fold(number: int) -> list[str]:
    """Ids of sessions that are all in one fold."""
    sessions = (f"s{i}" for i in count())
    return list(islice((session for session in sessions if fold_of(session, FOLDS) == 0), number))


def clicks_of(feedback: FeedbackContent, doc_id: str) -> dict[str, Any]:
    return in_all(feedback.tables["clicks"]).row(by_predicate=pl.col("doc_id") == doc_id, named=True)


def test_documents_shown_are_counted_with_their_clicks() -> None:
    first = search("sort an array", PAGE, "s1")
    second = search("Sort an array!", ["b", "a"], "s2", at=60)
    feedback = learned([first, second], [click(first, "b"), click(second, "b")])
    assert feedback.tables["clicks"]["query_id"].unique().to_list() == [f"asked:{text_id('sort an array')}"]
    row = clicks_of(feedback, "b")
    assert (row["clicks"], row["impressions"], row["mean_position"]) == (2, 2, 1.5)
    assert row["last_seen"] == START + timedelta(seconds=60)
    assert clicks_of(feedback, "d")["clicks"] == 0
    assert feedback.manifest.applications == {"searchloop": EventCounts(sessions=2, searches=2, clicks=2)}
    assert (feedback.manifest.oldest, feedback.manifest.newest) == (START, START + timedelta(seconds=60))
    assert feedback.manifest.watermark == 7 and feedback.manifest.left_out == {}


@pytest.mark.parametrize("doc_id", ["a document with  spaces", "long " * 60 + "id"])
def test_whatever_the_id_of_a_document_its_clicks_are_learned(doc_id: str) -> None:
    one = search("sort an array", ["a", doc_id], "s1", hits=True)
    feedback = learned([one], [click(one, doc_id)])
    assert clicks_of(feedback, doc_id)["clicks"] == 1
    assert feedback.tables["judged"].filter(doc_id=doc_id)["relevance"].item() > 0


def test_the_text_is_the_one_asked_most_often() -> None:
    searches = [search(text, PAGE, f"s{i}") for i, text in enumerate(["ndarray.T", "NDARRAY T", "ndarray.T"])]
    assert learned(searches, []).tables["clicks"]["text"].unique().to_list() == ["ndarray.T"]


def test_clicks_on_what_was_not_shown_are_left_out_and_counted() -> None:
    searched = search("sort", PAGE, "s1")
    unknown = search("sort", PAGE, "s1")
    events = [
        click(searched, "a"),
        click(searched, "elsewhere", position=1),
        click(searched, "b", position=1),
        click(searched, "b", position=900),
        click(unknown, "c"),
        click(searched, "c", action="impression"),
    ]
    feedback = learned([searched], events)
    assert feedback.tables["clicks"]["clicks"].sum() == 1
    assert feedback.manifest.left_out == {NOT_SHOWN: 1, OTHER_POSITION: 2, UNKNOWN_SEARCH: 1}


def test_a_session_clicks_once_on_a_document_of_a_query() -> None:
    one, again, other = (search("sort", PAGE, session) for session in ("s1", "s1", "s2"))
    feedback = learned([one, again, other], [click(one, "a"), click(one, "a"), click(again, "a"), click(other, "a")])
    assert clicks_of(feedback, "a")["clicks"] == 2 and clicks_of(feedback, "a")["impressions"] == 3
    assert feedback.manifest.left_out == {REPEATED_CLICK: 2}


def test_a_session_sees_a_query_a_few_times_at_most() -> None:
    searches = [search("sort", PAGE, "s1", at=100 * i) for i in range(5)]
    feedback = learned(searches, [click(searches[4], "a")], rules(impressions_of_a_query=2))
    assert clicks_of(feedback, "a")["impressions"] == 2 and clicks_of(feedback, "a")["clicks"] == 0
    assert feedback.manifest.left_out == {REPEATED_QUERY: 4}


@pytest.mark.parametrize(
    ("apart", "clicked", "why"),
    [(5.0, 1, FAST), (60.0, 1, MANY), (30.0, 4, CLICKED_ALL), (30.0, 1, None)],
)
def test_sessions_that_do_more_than_a_person_does_are_left_out_whole(
    apart: float, clicked: int, why: str | None
) -> None:
    searches = 12 if why == MANY else 10
    bot = [search(f"query {i}", PAGE, "bot", at=apart * i) for i in range(searches)]
    person = search("query 1", PAGE, "person")
    events = [click(each, doc_id) for each in bot for doc_id in PAGE[:clicked]]
    bounds = rules(searches_a_minute=5, searches_in_all=11, clicked_share=0.6, newest_share=0.0)
    feedback = learned([*bot, person], events, bounds)
    assert feedback.manifest.left_out == ({why: len(bot) + len(events)} if why else {})
    assert feedback.manifest.applications["searchloop"].sessions == (1 if why else 2)


def test_a_made_up_click_is_made_up_whatever_it_is_on() -> None:
    people, made_up = search("sort", PAGE, "s1"), search("sort", PAGE, "s2", application="simulation")
    events = [
        click(people, "a"),
        click(people, "b", application="simulation"),
        click(made_up, "a", application="searchloop"),
    ]
    assert learned([people, made_up], events).manifest.applications == {
        "searchloop": EventCounts(sessions=1, searches=1, clicks=1),
        "simulation": EventCounts(sessions=1, searches=1, clicks=2),
    }


def test_the_newest_sessions_are_held_back_and_in_no_other_table() -> None:
    searches = [search("sort", PAGE, f"s{i}", at=i, features=[[1.0]] * 4) for i in range(50)]
    late = search("sort", PAGE, "s0", at=1000)  # an old session goes on: it stays where its first search is
    feedback = learned(
        [*searches, late], [click(each, "a" if i < 40 else "b") for i, each in enumerate([*searches, late])], rules()
    )
    assert feedback.manifest.held_back_sessions == 10
    assert clicks_of(feedback, "a")["impressions"] == 41 and clicks_of(feedback, "a")["clicks"] == 40
    assert clicks_of(feedback, "b")["clicks"] == 1
    assert feedback.tables["judged"].filter(doc_id="a")["examinations"].sum() == pytest.approx(41)
    for name in ("clicks", "judged"):
        assert HELD_BACK not in feedback.tables[name]["fold"]
    assert feedback.tables["newest"].select("doc_id", "grade").rows() == [("b", 20)]  # 10 sessions at propensity 1/2


def test_however_many_come_what_people_want_now_is_learned_but_for_the_newest_few() -> None:
    searches = [search("sort", PAGE, f"s{i}", at=i) for i in range(500)]
    feedback = learned(searches, [click(each, "a" if i < 400 else "b") for i, each in enumerate(searches)], rules())
    assert feedback.manifest.held_back_sessions == LearningParameters().most_newest < 100
    assert clicks_of(feedback, "b")["clicks"] == 100 - LearningParameters().most_newest


def test_what_searches_and_never_clicks_holds_back_nobody_who_does() -> None:
    """A program that asks all day: otherwise its sessions alone would be held back, or learned from."""
    people = [search("sort", PAGE, f"s{i}", at=i) for i in range(50)]
    program = [search("sort", PAGE, f"p{i}", at=100 + i) for i in range(1000)]
    feedback = learned([*people, *program], [click(each, "a") for each in people], rules())
    assert feedback.manifest.held_back_sessions == 10 and clicks_of(feedback, "a")["clicks"] == 40


def test_with_few_sessions_nothing_is_held_back() -> None:
    searches = [search("sort", PAGE, f"s{i}", at=i) for i in range(19)]
    feedback = learned(searches, [click(each, "a") for each in searches], rules(fewest_sessions=20))
    assert feedback.manifest.held_back_sessions == 0 and not len(feedback.tables["newest"])


def test_a_low_propensity_is_raised_to_the_floor() -> None:
    page = [f"d{i}" for i in range(1, 21)]
    searches = [search("sort", page, f"s{i}", at=i) for i in range(100)]
    two = [click(searches[-2], "d20"), click(searches[-1], "d20")]
    feedback = learned(searches, two, rules(propensity_floor=0.25, newest_share=0.5, fewest_sessions=2))
    assert feedback.manifest.propensities[19] == pytest.approx(1 / 20)
    assert clicks_of(feedback, "d20")["examinations"] == pytest.approx(0.25 * 99)
    assert clicks_of(feedback, "d2")["examinations"] == pytest.approx(0.5 * 99)
    assert feedback.tables["newest"]["grade"].to_list() == [4]


def test_relevance_is_what_was_clicked_of_what_was_looked_at_and_never_certain() -> None:
    searches = [search("sort", PAGE, session) for session in one_fold(10)]
    events = [click(each, "a") for each in searches] + [click(searches[0], "d")]
    judged = {row["doc_id"]: row for row in learned(searches, events, ALL).tables["judged"].iter_rows(named=True)}
    rate = 11 / (10 * (1 + 1 / 2 + 1 / 3 + 1 / 4))
    assert judged["a"]["relevance"] == pytest.approx((10 + 2 * rate) / (10 + 2))
    assert judged["d"]["relevance"] == pytest.approx((1 + 2 * rate) / (2.5 + 2))
    assert judged["b"]["relevance"] == pytest.approx(2 * rate / (5 + 2))


def test_one_click_at_one_look_is_no_certainty() -> None:
    once = search("rare", PAGE, "once", features=[[1.0]] * 4)
    others = [search("sort", PAGE, f"s{i}", features=[[1.0]] * 4) for i in range(50)]
    feedback = learned([once, *others], [click(once, "a"), *(click(each, "b") for each in others[:5])])
    rare = feedback.tables["judged"].filter(text="rare", doc_id="a")["relevance"].item()
    assert 0.2 < rare < 0.5


def test_sessions_are_in_folds_and_stay_there_when_others_come() -> None:
    searches = [search("sort", PAGE, f"s{i}", at=i, features=[[1.0]] * 4, hits=True) for i in range(60)]
    few, all_of_them = learned(searches[:30], []), learned(searches, [])
    for feedback, sessions in ((few, 30), (all_of_them, 60)):
        shown = feedback.tables["clicks"].filter(doc_id="a")
        assert shown["impressions"].sum() == sessions and set(shown["fold"]) == set(range(FOLDS))
        assert (
            feedback.tables["judged"]
            .select("doc_id", "fold")
            .sort("doc_id", "fold")
            .equals(feedback.tables["clicks"].select("doc_id", "fold").sort("doc_id", "fold"))
        )
    before, after = (
        dict(feedback.tables["clicks"].filter(doc_id="a").select("fold", "impressions").rows())
        for feedback in (few, all_of_them)
    )
    assert all(after[fold] >= before[fold] for fold in range(FOLDS))


def test_of_each_query_the_newest_search_of_a_fold_whose_hits_are_known_is_kept() -> None:
    old = search("sort", ["a", "b"], "s1", at=0, hits=True)
    new = search("Sort!", ["b", "c"], "s1", at=100, hits=True)
    without = search("sort", ["a", "b", "d"], "s1", at=200)
    held_back = [search("sort", ["d"], f"n{i}", at=300 + i, hits=True) for i in range(2)]
    events = [click(new, "b"), *(click(each, "d") for each in held_back)]
    table = learned([old, new, without, *held_back], events, rules(newest_share=0.67, fewest_sessions=2)).tables[
        "asked"
    ]
    shown = {fold: served_hits(hits)["keyword"] for fold, hits in table.select("fold", "hits").iter_rows()}
    assert shown.pop(HELD_BACK) == [("d", 1.0)]
    assert list(shown.values()) == [[("b", 1.0), ("c", 1.0)]]


def test_requests_are_the_newest_searches_that_can_be_computed_again() -> None:
    searches = [
        search("sort", PAGE, f"s{i}", at=i, features=[[1.0]] * 4, hits=i % 2 == 0, search_id=f"q{i}") for i in range(10)
    ]
    requests = learned(searches, [], rules(requests=3)).tables["requests"]
    assert sorted(requests["query_id"]) == ["q4", "q6", "q8"]
    assert requests["hits"][0] == '{"keyword": {"doc_ids": ["a", "b", "c", "d"], "scores": [1.0, 1.0, 1.0, 1.0]}}'


def test_no_event_at_all_gives_empty_tables() -> None:
    feedback = learned([], [])
    assert all(not len(feedback.tables[name]) for name in TABLES)
    assert feedback.manifest.oldest is None and feedback.manifest.applications == {}


def test_the_order_in_which_events_come_changes_nothing() -> None:
    random = np.random.default_rng(0)
    searches = [
        search(f"q {i % 7}", random.permutation(PAGE), f"s{i % 30}", at=i, features=[[1.0]] * 4) for i in range(90)
    ]
    events = [click(each, random.choice(PAGE)) for each in searches]
    both = [learned(searches, events), learned(searches[::-1], events[::-1])]
    assert both[0].manifest == both[1].manifest
    for name in TABLES:
        one, other = (each.tables[name].sort(tables.key(name)) for each in both)
        assert tables.json_lines(one) == tables.json_lines(other)


def simulated(
    searches: int, seed: int = 0, documents: int = 20, queries: int = 200, sessions_of: int = 3
) -> tuple[Events, np.ndarray]:
    """Events of a position-based model with propensities 1/k^0.7, as flat tables, and the attractiveness of documents.

    A ranker that errs by query and day orders the documents: the best ones stand on top more often than not.
    """
    random = np.random.default_rng(seed)
    attractive = random.beta(0.6, 2.0, (queries, documents))
    query = random.integers(0, queries, searches)
    order = np.argsort(-(attractive[query] + random.normal(0, 0.35, (searches, documents))), axis=1)[:, :10]
    looked = 1 / np.arange(1, 11) ** 0.7
    clicked = random.random((searches, 10)) < looked * np.take_along_axis(attractive[query], order, axis=1)
    names = np.array([f"doc{i:02}" for i in range(documents)])
    ids = [f"q{i}" for i in range(searches)]
    times = pl.datetime_range(START, START + timedelta(seconds=searches - 1), "1s", time_zone="UTC", eager=True)
    shown = pl.DataFrame(
        {
            "search_id": ids, "application": "simulation", "session": [f"s{i // sessions_of}" for i in range(searches)],
            "text": [f"query {i}" for i in query], "timestamp": times, "doc_ids": names[order].tolist(), "ranker": "r1",
            "features": np.zeros((searches, 10, 12), dtype=np.float32).tolist(), "hits": None,
        },
        schema=SEARCHES,
    )  # fmt: skip
    search_index, position = np.nonzero(clicked)
    events = pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(len(position))], "application": "simulation",
            "search_id": [ids[i] for i in search_index], "doc_id": names[order[search_index, position]],
            "position": position + 1, "timestamp": times.gather(search_index),
        },
        schema=CLICKS,
    )  # fmt: skip
    return Events(shown, events), attractive


def test_corrected_relevance_orders_documents_rightly_where_raw_click_through_does_not() -> None:
    """A bad ranker shows the better document of each query at the end of its page, and at times on top."""
    random = np.random.default_rng(0)
    searches, events = [], []
    for i in range(3000):
        page = ["worse", "x", "y", "z", "better"] if random.random() < 0.9 else ["better", "x", "y", "z", "worse"]
        searches.append(search(f"query {i % 20}", page, f"s{i}", at=i, features=[[1.0]] * 5))
        for position, doc_id in enumerate(page, start=1):
            if random.random() < {"better": 0.6, "worse": 0.3}.get(doc_id, 0.05) / position:
                events.append(click(searches[-1], doc_id))
    feedback = learned(searches, events)
    totals = feedback.tables["clicks"].group_by("doc_id").agg(pl.sum("clicks", "impressions"))
    raw = {doc_id: clicks / impressions for doc_id, clicks, impressions in totals.iter_rows()}
    assert raw["worse"] > raw["better"]
    judged = feedback.tables["judged"].pivot("doc_id", index="query_id", values="relevance", aggregate_function="mean")
    assert (judged["better"] > judged["worse"]).sum() > 0.9 * len(judged)
    assert judged["better"].mean() == pytest.approx(0.6, abs=0.1)
    assert judged["worse"].mean() == pytest.approx(0.3, abs=0.06)


def test_propensities_and_relevance_come_near_the_truth_of_a_simulation() -> None:
    events, attractive = simulated(20_000, queries=40)
    feedback = learn(events, 1, rules())
    assert feedback.manifest.propensities == pytest.approx(1 / np.arange(1, 11) ** 0.7, abs=0.06)
    judged = feedback.tables["judged"].filter(pl.col("examinations") > 50)
    truth = [attractive[int(row["text"][6:]), int(row["doc_id"][3:])] for row in judged.iter_rows(named=True)]
    assert np.abs(judged["relevance"].to_numpy() - truth).mean() < 0.07
