"""Drift, by simulation: unchanged traffic seldom alarms whatever its size; changed traffic does.

Sessions keep to a topic and click more or less than others: their searches are not independent of each other.
"""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom  # noqa: TID253

from repos.feedback.drift.comparison import EMBEDDED, SearchOutline, compare, fall, stability, to_embed

TOPICS, QUERIES, WIDTH = 20, 15, 32
TRIALS = 200
PERMUTATIONS = 199


class Traffic:
    """Sessions of an invented world: topics have queries with words of their own, and some are far more popular."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.texts = [
            [f"t{topic}w{a} t{topic}w{b} w{c}" for a, b, c in random.integers(0, 12, (QUERIES, 3))]
            for topic in range(2 * TOPICS)
        ]
        centres = random.normal(size=(2 * TOPICS, 1, WIDTH))
        points = centres + 0.5 * random.normal(size=(2 * TOPICS, QUERIES, WIDTH))
        self.vectors = {
            text: point for texts, of_texts in zip(self.texts, points, strict=True)
            for text, point in zip(texts, of_texts, strict=True)
        }  # fmt: skip
        self.popularity = 1 / np.arange(1, TOPICS + 1)
        self.popularity /= self.popularity.sum()

    def period(
        self,
        random: np.random.Generator,
        name: str,
        sessions: int,
        new: float = 0.0,
        new_topics: int = TOPICS,
        click_share: float = 1.0,
    ) -> list[SearchOutline]:
        """Searches of `sessions` sessions; the share `new` of these is about topics that nobody asked about before."""
        topics = random.choice(TOPICS, sessions, p=self.popularity)
        topics = np.where(random.random(sessions) < new, TOPICS + random.integers(0, new_topics, sessions), topics)
        lengths = random.geometric(0.4, sessions)
        eagerness = random.beta(2, 2, sessions) * click_share
        session = np.repeat(np.arange(sessions), lengths)
        queries = random.integers(0, QUERIES, len(session))
        clicked: list[list[int]] = [[] for _ in session]
        examined = random.random((len(session), 10)) < eagerness[session, None] / np.arange(1, 11)
        for row, place in zip(*np.nonzero(examined), strict=True):
            clicked[row].append(int(place) + 1)
        return [
            SearchOutline(f"{name}{of}", self.texts[topics[of]][query], 10, tuple(positions))
            for of, query, positions in zip(session, queries, clicked, strict=True)
        ]


TRAFFIC = Traffic()


def alarms(sessions: int, trials: int = TRIALS, **change: Any) -> dict[str, int]:
    """How often each measure alarms, and how often any does, over seeded trials."""
    counted = {"any": 0, "query terms": 0, "query embeddings": 0, "click-through": 0}
    for seed in range(trials):
        random = np.random.default_rng(seed)
        before = TRAFFIC.period(random, "before", sessions)
        now = TRAFFIC.period(random, "now", sessions, **change)
        look = compare(before, now, TRAFFIC.vectors, permutations=PERMUTATIONS, seed=seed)
        for name in look.alarms:
            counted[name] += 1
        counted["any"] += bool(look.alarms)
    return counted


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [100, 1000])
def test_unchanged_traffic_alarms_at_most_once_in_twenty_looks(sessions: int) -> None:
    """A rate of 1 in 20 gives no more alarms in 99.9% of such tests; without any alarm the measures would be dead."""
    counts = alarms(sessions)["any"]
    assert 0 < counts <= binom.ppf(0.999, TRIALS, 0.05)


@pytest.mark.parametrize(("sessions", "new_topics"), [(100, 1), (1000, TOPICS)])
def test_new_topics_in_three_of_ten_sessions_alarm(sessions: int, new_topics: int) -> None:
    """One new topic is noticed in a hundred sessions; twenty, each of a few searches, are noticed in a thousand.

    Of the thousand sessions three hundred are embedded, which is enough in nine looks of ten.
    """
    counts = alarms(sessions, trials=10, new=0.3, new_topics=new_topics)
    assert counts["query terms"] == 10 and counts["query embeddings"] >= (10 if sessions <= EMBEDDED else 8)


@pytest.mark.slow
def test_clicks_falling_by_a_third_alarm() -> None:
    assert alarms(300, trials=20, click_share=2 / 3)["click-through"] == 20
    assert alarms(100, trials=20, click_share=2 / 3)["click-through"] >= 14


def test_more_clicks_are_no_fall() -> None:
    assert alarms(300, trials=20, click_share=4 / 3)["click-through"] <= 2


def test_a_change_of_topics_alone_is_no_fall_of_clicks() -> None:
    assert alarms(100, trials=50, new=0.3)["click-through"] <= binom.ppf(0.999, 50, 0.05)


def test_a_look_tells_its_numbers() -> None:
    random = np.random.default_rng(4)
    before, now = TRAFFIC.period(random, "a", 80), TRAFFIC.period(random, "b", 60, new=0.5, new_topics=1)
    look = compare(before, now, TRAFFIC.vectors)
    assert look.sessions == 60 and look.searches[1] == len(now) and look.searches[0] < len(before)
    terms, embeddings, clicks = look.measures
    assert terms.alarm and terms.value > terms.threshold and terms.p_value == pytest.approx(0.001)
    assert embeddings.alarm and embeddings.value > embeddings.threshold
    assert not clicks.alarm and clicks.value <= clicks.threshold and clicks.p_value > 0.05 / 3
    assert look.alarms == ["query terms", "query embeddings"]
    assert look.sentence.startswith(f"60 sessions ({len(now)} searches) against as many before: query terms ")
    assert compare(before, now, TRAFFIC.vectors) == look


def test_without_vectors_two_measures_share_the_chance_of_a_false_alarm() -> None:
    random = np.random.default_rng(2)
    look = compare(TRAFFIC.period(random, "a", 20), TRAFFIC.period(random, "b", 20), permutations=PERMUTATIONS)
    assert [measure.name for measure in look.measures] == ["query terms", "click-through"]


def test_the_newest_sessions_alone_are_embedded_the_others_compared_all_the_same() -> None:
    """The older sessions have no vectors, and leave the measure of embeddings as it is without them."""
    random = np.random.default_rng(1)
    before, now = (TRAFFIC.period(random, name, 3 * EMBEDDED) for name in ("before", "now"))
    sessions = {name: list(dict.fromkeys(each.session for each in of)) for name, of in (("b", before), ("n", now))}
    newest = {session for of in sessions.values() for session in of[-EMBEDDED:]}
    texts = to_embed(before, now)
    assert texts == {search.text for search in [*before, *now] if search.session in newest}
    vectors = {text: TRAFFIC.vectors[text] for text in texts}
    alone = [[search for search in of if search.session in newest] for of in (before, now)]
    whole, part = compare(before, now, vectors), compare(alone[0], alone[1], vectors)
    assert whole.sessions == 3 * EMBEDDED and part.sessions == EMBEDDED
    assert whole.measures[1] == part.measures[1] and whole.measures[0] != part.measures[0]


def test_a_session_belongs_to_the_period_that_it_began_in() -> None:
    before, now = [SearchOutline("a", "x", 10)], [SearchOutline("a", "y", 10), SearchOutline("b", "z", 10)]
    look = compare(before, now, permutations=PERMUTATIONS)
    assert (look.sessions, look.searches) == (1, (2, 1))


@pytest.mark.parametrize("now", [[], [SearchOutline("a", "x", 10)]])
def test_a_period_without_sessions_is_told(now: list[SearchOutline]) -> None:
    with pytest.raises(ValueError, match="Expected sessions in both periods"):
        compare([SearchOutline("a", "x", 10)], now)


def test_searches_without_words_results_or_clicks_are_compared_too() -> None:
    empty = compare([SearchOutline("a", "", 0)], [SearchOutline("b", "", 0)], {"": np.zeros(4)})
    assert empty.alarms == [] and [measure.value for measure in empty.measures] == [0, 0, 0]


def test_equal_shares_are_stable_and_a_bin_that_one_period_lacks_is_finite() -> None:
    assert stability(np.array([10.0, 20, 30]), np.array([10.0, 20, 30])) == 0
    assert stability(np.array([0.0, 100]), np.array([50.0, 50])) == pytest.approx(2.625, abs=0.001)


def test_the_fall_is_the_share_of_clicks_missing_at_the_positions_shown() -> None:
    before = np.array([100.0, 100, 40, 20])
    assert fall(before, np.array([50.0, 50, 20, 10])) == pytest.approx(0)
    assert fall(before, np.array([100.0, 100, 20, 10])) == pytest.approx(0.5)
    assert fall(before, np.array([100.0, 0, 40, 0])) == pytest.approx(0)
