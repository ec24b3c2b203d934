"""What sessions of a single query can move, against a real PostgreSQL: invented ones, and people in a trend."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from dagster import DagsterInstance

from repos.feedback.checks import feedback_checks
from repos.feedback.graph import feedback_prod
from repos.feedback.sessions import BURST, Bounds
from repos.feedback.tests import recorded
from repos.feedback.tests.recorded import START, click, in_all
from shared_ops.data.feedback import Feedback
from shared_ops.pipeline.lineage import feedback_key
from shared_ops.pipeline.resources import PROD

PAGE = [f"d{i}" for i in range(1, 11)]
PUSHED = "d9"
QUERY = "sort an array"
HOUR = 3600.0


def search(text, page, session, at):
    """A search so many seconds after the beginning of an hour."""
    return recorded.search(text, page, session, at=at + HOUR - START.timestamp() % HOUR)


@pytest.fixture
def learned(store):
    """learned(searches, clicks) runs the feedback job: its feedback, its asset check, and its metadata in Dagit."""

    def learn(searches, clicks):
        store.add(searches, clicks)
        with DagsterInstance.ephemeral() as instance:
            result = feedback_prod.execute_in_process(instance=instance)
            (check,) = result.get_asset_check_evaluations()
            materialization = instance.get_latest_materialization_event(feedback_key("prod")).asset_materialization
        return Feedback(PROD.feedback.latest()), check, materialization.metadata

    return learn


def people(number, asking=QUERY, best="d1"):
    """Sessions that ask `asking` and click `best`, one a minute; two of three ask something else too."""
    searches = [search(asking, PAGE, f"person{i}", at=60 * i) for i in range(number)]
    others = [search(f"other {i}", PAGE, f"person{i}", at=60 * i + 20) for i in range(number) if i % 3]
    return [*searches, *others], [click(each, best) for each in searches]


def invented(number, queries=(QUERY,), seconds=240.0, start=0.0):
    """Invented sessions: each asks a single query, once, and clicks the document PUSHED."""
    searches = [
        search(queries[i % len(queries)], PAGE, f"invented{start}.{i}", at=start + seconds * i / number)
        for i in range(number)
    ]
    return searches, [click(each, PUSHED) for each in searches]


def best_document(feedback):
    """The document with the highest relevance to QUERY."""
    relevance = feedback.judged().filter(text=QUERY).group_by("doc_id").agg(pl.mean("relevance"))
    return relevance.sort("relevance", descending=True)["doc_id"][0]


def test_hundreds_of_invented_sessions_make_no_document_the_best(learned):
    searches, clicks = people(12)
    pushing, pushed = invented(220)
    feedback, check, metadata = learned([*searches, *pushing], [*clicks, *pushed])
    assert best_document(feedback) == "d1"
    assert in_all(feedback.clicks().filter(text=QUERY)).filter(doc_id=PUSHED)["clicks"].sum() == 0
    manifest = feedback.manifest()
    # 4 people are left out too: they asked nothing else, and honest clicks cannot be told from others
    assert manifest.left_out == {BURST: 2 * (220 + 4)}
    assert [(burst.sessions, burst.clicks) for burst in manifest.bursts] == [(224, 224)]
    assert not check.passed and "448 searches and clicks teach nothing" in check.description
    assert f"`{QUERY}`" in check.description and metadata["events left out for their number"].value == 448
    assert f"| `{QUERY}` |" in metadata["left out for their number"].value


def test_whatever_is_invented_an_hour_moves_no_more_than_a_few_people_would(learned):
    """As many sessions as count for a query in an hour, whoever else comes, are not noticed; one more is."""
    few = Bounds().alone
    searches, clicks = invented(few, seconds=60.0)
    feedback, check, _ = learned(searches, clicks)
    assert check.passed and in_all(feedback.clicks()).filter(doc_id=PUSHED)["clicks"].sum() == few
    more, clicked = invented(few + 1, seconds=60.0, start=2 * HOUR)
    feedback, check, _ = learned(more, clicked)
    assert not check.passed and in_all(feedback.clicks()).filter(doc_id=PUSHED)["clicks"].sum() <= few


def test_a_trend_is_learned_as_before(learned):
    """As `make simulate TREND=3` does: within minutes, sessions of 1 to 4 of 9 queries, a fourth of them of one."""
    random, searches, clicks = np.random.default_rng(0), [], []
    for session in range(1_000):
        for query in random.choice(9, random.integers(1, 5), replace=False):
            searches.append(search(f"news {query}", PAGE, f"s{session}", at=session / 5))
            clicks.append(click(searches[-1], PUSHED))
    feedback, check, _ = learned(searches, clicks)
    assert check.passed and feedback.manifest().left_out == {}
    counts = feedback.manifest().applications["searchloop"]
    assert (counts.searches, counts.clicks) == (len(searches), len(clicks))


def test_people_who_ask_a_single_thing_teach_in_normal_amounts(learned):
    """77.6% of sessions are of a single query, as at AltaVista; of 500 an hour, a fourth ask the same query."""
    random, searches, clicks = np.random.default_rng(1), [], []
    share = 1 / np.arange(1, 51)
    for session, query in enumerate(random.choice(50, 500, p=share / share.sum())):
        searches.append(search(f"query {query}", PAGE, f"s{session}", at=7 * session))
        clicks.append(click(searches[-1], "d1"))
        if random.random() > 0.776:
            searches.append(search(f"query {query} again", PAGE, f"s{session}", at=7 * session + 3))
    feedback, _, _ = learned(searches, clicks)
    assert feedback.manifest().applications["searchloop"].clicks >= 0.98 * len(clicks)


def test_the_latest_feedbacks_bursts_can_be_read_again_from_the_ui(learned):
    bursts: Any = next(check for check in feedback_checks() if "prod" in next(iter(check.check_keys)).asset_key.path)
    assert bursts().passed
    learned(*invented(220))
    assert not bursts().passed
