"""What sessions of one query or one document can move: invented ones, and those of people, in a trend and without."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pytest
from dagster import AssetCheckEvaluation, DagsterInstance

from repos.feedback.checks import feedback_checks
from repos.feedback.graph import feedback_prod
from repos.feedback.learning import FeedbackContent, LearningParameters, learn
from repos.feedback.ops import burst_check
from repos.feedback.parts import flat
from repos.feedback.sessions import BURST, BURST_REASONS, Bounds
from repos.feedback.tests import recorded
from repos.feedback.tests.recorded import START, click, in_all
from shared_ops.data.feedback import Feedback
from shared_ops.data.ubi import Store, UbiEvent, UbiQuery
from shared_ops.pipeline.lineage import feedback_key
from shared_ops.pipeline.resources import PROD

PAGE = [f"d{i}" for i in range(1, 11)]
PUSHED = "d9"
QUERY = "sort an array"
SPELLINGS = [f"{QUERY} {number}" for number in range(20)]
HOUR = 3600.0
INVENTED = 220

Recorded = tuple[list[UbiQuery], list[UbiEvent]]
"""Searches, and clicks on what they showed."""
Learn = Callable[..., tuple[Feedback, AssetCheckEvaluation, Mapping[str, Any]]]


def search(text: str, page: Sequence[str], session: str, at: float) -> UbiQuery:
    """A search so many seconds after the beginning of an hour."""
    return recorded.search(text, page, session, at=at + HOUR - START.timestamp() % HOUR)


@pytest.fixture
def learned(store: Store) -> Learn:
    """learned(searches, clicks) runs the feedback job: its feedback, its asset check, and its metadata in Dagit."""

    def learn_all(
        searches: list[UbiQuery], clicks: list[UbiEvent]
    ) -> tuple[Feedback, AssetCheckEvaluation, Mapping[str, Any]]:
        store.add(searches, clicks)
        with DagsterInstance.ephemeral() as instance:
            result = feedback_prod.execute_in_process(instance=instance)
            (check,) = result.get_asset_check_evaluations()
            materialization = instance.get_latest_materialization_event(feedback_key("prod")).asset_materialization
        return Feedback(PROD.feedback.latest()), check, materialization.metadata

    return learn_all


def content_of(*groups: Recorded, **parameters: Any) -> FeedbackContent:
    """What all of these searches and clicks teach, with nothing held back to measure by."""
    searches, clicks = (chain.from_iterable(rows) for rows in zip(*groups, strict=True))
    return learn(flat(searches, clicks), 1, LearningParameters(newest_share=0.0, **parameters))


def clicks_on(content: FeedbackContent, doc_id: str = PUSHED) -> int:
    return int(content.tables["clicks"].filter(doc_id=doc_id)["clicks"].sum())


def people(number: int, asking: str = QUERY, best: str = "d1") -> Recorded:
    """Sessions that ask `asking` and click `best`, one a minute; two of three ask and click something else too."""
    searches = [search(asking, PAGE, f"person{i}", at=60 * i) for i in range(number)]
    others = [search(f"other {i}", [f"other{i}"], f"person{i}", at=60 * i + 20) for i in range(number) if i % 3]
    clicks = [click(each, best) for each in searches] + [click(each, each.query_response_hit_ids[0]) for each in others]
    return [*searches, *others], clicks


def invented(
    number: int = INVENTED,
    queries: Sequence[str] = (QUERY,),
    also_ask: int = 0,
    also_click: int = 0,
    start: float = 0.0,
) -> Recorded:
    """Invented sessions of four minutes, each of which asks one of `queries` and clicks the document PUSHED.

    The first `also_ask` of them ask something else as well, and click nothing of it; the first `also_click` click the
    first document on the page as well.
    """
    searches, clicks = [], []
    for i in range(number):
        session, at = f"invented{start}.{i}", start + 240 * i / number
        pushing = search(queries[i % len(queries)], PAGE, session, at)
        searches += [pushing, *([search(f"random {i}", PAGE, session, at + 0.5)] if i < also_ask else [])]
        clicks += [click(pushing, PUSHED), *([click(pushing, PAGE[0])] if i < also_click else [])]
    return searches, clicks


def best_document(feedback: Feedback) -> str:
    """The document with the highest relevance to QUERY."""
    relevance = feedback.judged().filter(text=QUERY).group_by("doc_id").agg(pl.mean("relevance"))
    best: str = relevance.sort("relevance", descending=True)["doc_id"][0]
    return best


def test_hundreds_of_invented_sessions_make_no_document_the_best(learned: Learn) -> None:
    searches, clicks = people(12)
    pushing, pushed = invented()
    feedback, check, metadata = learned([*searches, *pushing], [*clicks, *pushed])
    assert best_document(feedback) == "d1"
    assert in_all(feedback.clicks().filter(text=QUERY)).filter(doc_id=PUSHED)["clicks"].sum() == 0
    manifest = feedback.manifest()
    # 4 people are left out too: they asked nothing else, and honest clicks cannot be told from others
    assert manifest.left_out == {BURST: 2 * (INVENTED + 4)}
    assert [(burst.sessions, burst.clicks) for burst in manifest.bursts] == [(224, 224)]
    assert not check.passed and "448 searches and clicks teach nothing" in check.description
    assert f"`{QUERY}`" in check.description and metadata["events left out for their number"].value == 448
    assert f"| `{QUERY}` |" in metadata["left out for their number"].value


@pytest.mark.parametrize(
    "sessions",
    [
        {"also_ask": 22},
        {"also_ask": INVENTED},
        {"also_click": INVENTED},
        {"queries": SPELLINGS},
        {"queries": SPELLINGS, "also_ask": 22},
        {"queries": SPELLINGS, "also_ask": INVENTED},
        {"queries": [QUERY, *SPELLINGS[:2]], "also_ask": 110},
        {"queries": SPELLINGS, "also_click": 22},
    ],
    ids=str,
)
def test_what_else_invented_sessions_ask_or_click_or_in_which_spelling_lifts_no_limit(sessions: dict[str, Any]) -> None:
    content = content_of(people(12), invented(**sessions))
    assert clicks_on(content) == 0 and clicks_on(content, "d1") >= 8
    assert sum(burst.clicks for burst in content.manifest.bursts) >= INVENTED
    assert content.manifest.left_out[BURST] >= 2 * INVENTED


def test_fuller_sessions_beside_invented_ones_count_themselves_and_lift_no_limit() -> None:
    """Those that ask and click several things are as people's, whoever sent them: 22 of them bring 22 clicks."""
    fuller = [search(text, PAGE, f"fuller{i}", at=i) for i in range(22) for text in (QUERY, f"another {i}")]
    clicks = [click(each, PUSHED if each.user_query == QUERY else "d2") for each in fuller]
    assert clicks_on(content_of(invented(198), (fuller, clicks))) == 22


def test_one_session_that_asks_in_many_spellings_counts_as_often_as_it_clicks() -> None:
    """Else 15 sessions would bring a document 300 clicks, and none of its queries would have too many of them."""
    sessions = Bounds().narrow_sessions
    searches = [
        search(text, PAGE, f"s{i}", at=60 * i + 3 * place)
        for i in range(sessions)
        for place, text in enumerate(SPELLINGS)
    ]
    content = content_of((searches, [click(each, PUSHED) for each in searches]))
    assert clicks_on(content) == 0 and content.manifest.left_out[BURST] == 2 * len(searches)


def test_sessions_that_only_look_are_limited_as_those_that_click() -> None:
    """Hundreds that see a document and pass it by would bring it down."""
    searches, _ = invented()
    content = content_of(people(12), (searches, []))
    shown = content.tables["clicks"].filter(text=QUERY, doc_id="d1")
    assert shown["impressions"].sum() == 8 and content.manifest.left_out[BURST] == INVENTED + 2 * 4


def test_whatever_is_invented_an_hour_moves_no_more_than_a_few_people_would(learned: Learn) -> None:
    """As many sessions as count for a query in an hour, whoever else comes, are not noticed; one more is."""
    few = Bounds().narrow_sessions
    feedback, check, _ = learned(*invented(few))
    assert check.passed and in_all(feedback.clicks()).filter(doc_id=PUSHED)["clicks"].sum() == few
    feedback, check, _ = learned(*invented(few + 1, start=2 * HOUR))
    assert not check.passed and in_all(feedback.clicks()).filter(doc_id=PUSHED)["clicks"].sum() <= few


def test_of_a_document_as_many_clicks_count_an_hour_by_whatever_queries() -> None:
    most = Bounds().narrow_clicks
    assert clicks_on(content_of(invented(most, SPELLINGS))) == most
    assert clicks_on(content_of(invented(most + 1, SPELLINGS))) == 0


def test_a_trend_is_learned(learned: Learn) -> None:
    """As `make simulate TREND=3` does: within minutes, sessions of 1 to 4 of 9 queries, three for each document.

    They click it where it stands, and other results as these attract and are looked at.
    """
    random, searches, clicks = np.random.default_rng(0), [], []
    page = [f"d{i}" for i in range(50)]
    for session in range(1_000):
        for query in random.choice(9, random.integers(1, 5), replace=False):
            searches.append(search(f"news {query}", page, f"s{session}", at=session / 5))
            looked_at = random.random(50) < 0.1 / np.arange(1, 51)
            looked_at[20 + query % 3] = random.random() < 0.95
            clicks += [click(searches[-1], page[place]) for place in np.flatnonzero(looked_at)]
    feedback, _, _ = learned(searches, clicks)
    total = sum(clicked.event_attributes.object.object_id in ("d20", "d21", "d22") for clicked in clicks)
    assert feedback.manifest().applications["searchloop"].clicks >= 0.85 * len(clicks)
    per_document = feedback.clicks().filter(pl.col("doc_id").is_in(["d20", "d21", "d22"]))["clicks"].sum()
    held_back = feedback.newest().filter(pl.col("doc_id").is_in(["d20", "d21", "d22"]))
    assert per_document >= 0.8 * total and len(held_back)
    best = feedback.judged().sort("relevance", descending=True).unique("query_id", keep="first")
    assert set(best["doc_id"]) == {"d20", "d21", "d22"}


def hours(number: int, sessions: int) -> list[Recorded]:
    """So many narrow sessions an hour, for so many hours."""
    return [invented(sessions, start=hour * HOUR) for hour in range(number)]


def test_what_comes_every_hour_counts_once_it_is_usual() -> None:
    """More than a new query may have from the first hour on, but no more than three times what it has all the week."""
    pace, patient = Bounds().narrow_sessions + 1, 12
    content = content_of(*hours(patient, pace), narrow_clicks=1_000)
    left_out = {burst.hour for burst in content.manifest.bursts}
    assert 0 < len(left_out) < patient and max(left_out) < content.manifest.newest
    assert clicks_on(content) == (patient - len(left_out)) * pace


def test_a_burst_does_not_make_the_next_one_usual() -> None:
    content = content_of(invented(), invented(start=2 * HOUR), invented(start=24 * HOUR))
    assert clicks_on(content) == 0 and len(content.manifest.bursts) == 3


def test_people_who_ask_a_single_thing_teach_in_normal_amounts() -> None:
    """77.6% of sessions are of a single query, as at AltaVista; of 60 an hour, a fourth ask the same query.

    An hour is lost in which by chance too many of these come, before a week tells what is usual.
    """
    random, searches, clicks = np.random.default_rng(1), [], []
    share = 1 / np.arange(1, 51)
    for session, query in enumerate(random.choice(50, 600, p=share / share.sum())):
        searches.append(search(f"query {query}", [f"answer{query}", *PAGE], f"s{session}", at=60 * session))
        clicks.append(click(searches[-1], f"answer{query}"))
        if random.random() > 0.776:
            searches.append(search(f"query {query} again", PAGE, f"s{session}", at=60 * session + 30))
            clicks.append(click(searches[-1], "d1"))
    content = content_of((searches, clicks))
    assert content.manifest.applications["searchloop"].clicks >= 0.95 * len(clicks)


def test_the_latest_feedbacks_bursts_can_be_read_again_from_the_ui(learned: Learn) -> None:
    bursts: Any = next(check for check in feedback_checks() if "prod" in next(iter(check.check_keys)).asset_key.path)
    assert bursts().passed
    learned(*invented())
    assert not bursts().passed


def test_bursts_of_feedback_that_was_published_under_another_rule_are_still_told() -> None:
    manifest = content_of(invented()).manifest
    earlier = manifest.model_copy(update={"left_out": {BURST_REASONS[1]: 440}})
    assert "440 searches and clicks teach nothing" in burst_check(earlier)["description"]
