"""Compares two periods of searches: whether people search for other things than before, or click less.

Pure statistics: knows no Dagster, no database and no model. What each measure reaches by chance comes from permuting
whole sessions between the periods: on unchanged traffic a look raises a false alarm at most once in 1 / `alpha` looks,
however few or many sessions there are. A session weighs the same however often it searches, so that no bot decides.
Own code, because the libraries of the field (evidently, NannyML, Frouros) compare with fixed thresholds or permute
single rows, and the searches of one session are not independent of each other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shared_ops.data.text import normalise

TERMS = 200
"""How many terms have a bin of their own: the most frequent ones of both periods. All others share one."""
AXES = 8
QUANTILES = 10
EMBEDDED = 300
"""How many sessions of each period have embeddings compared at most: the service that embeds also answers searches."""
POSITIONS = 10
"""How many positions have their clicks compared, from the first on."""
SMOOTHING = 0.5
"""Added to each bin's count, so that a bin that is empty in one period adds much to the index, but not infinity."""


@dataclass(frozen=True)
class SearchOutline:
    """What comparing periods needs of a search."""

    session: str
    text: str
    shown: int
    """How many results stood on the page."""
    clicked: tuple[int, ...] = ()
    """The positions that were clicked, 1 for the first."""


class Measure(BaseModel):
    """One number that compares two periods, and what chance alone makes of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    threshold: float = Field(description="the value that permuted sessions reach too rarely to be chance")
    p_value: float = Field(description="how often permuted sessions reach the value")
    alarm: bool


class Look(BaseModel):
    """A comparison of two periods."""

    model_config = ConfigDict(frozen=True)

    sessions: int = Field(description="in each period")
    searches: tuple[int, int] = Field(description="before, and now")
    alpha: float = Field(description="the chance of a false alarm of all measures together")
    measures: list[Measure]

    @property
    def alarms(self) -> list[str]:
        """The measures that moved by more than chance."""
        return [measure.name for measure in self.measures if measure.alarm]

    @property
    def sentence(self) -> str:
        """The numbers in one sentence."""
        numbers = "; ".join(
            f"{each.name} {each.value:.3f} (by chance up to {each.threshold:.3f}, p = {each.p_value:.3f})"
            for each in self.measures
        )
        return f"{self.sessions} sessions ({self.searches[1]} searches) against as many before: {numbers}."


def compare(
    before: Sequence[SearchOutline],
    now: Sequence[SearchOutline],
    vectors: Mapping[str, np.ndarray] | None = None,
    *,
    alpha: float = 0.05,
    permutations: int = 999,
    seed: int = 0,
) -> Look:
    """Compare two periods, each in the order of time: their newest sessions, equally many of each.

    A session that is in both belongs to the period that it began in. `vectors` holds a vector for each text that
    `to_embed` gives; without it embeddings are not compared. Each measure is tested at `alpha` divided by the number of
    measures (Bonferroni).

    Raises:
        ValueError: when a period holds no session of its own.
    """
    periods = _periods(before, now)
    compared: list[tuple[str, _Periods, np.ndarray, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
        ("query terms", periods, _terms(periods), stability),
        ("click-through", periods, _clicks(periods), fall),
    ]
    if vectors is not None:
        newest = periods.newest(EMBEDDED)
        compared.insert(1, ("query embeddings", newest, _bins(newest, vectors), _mean_stability))
    late = int((periods.of >= periods.size).sum())
    return Look(
        sessions=periods.size,
        searches=(len(periods.searches) - late, late),
        alpha=alpha,
        measures=[
            _measure(name, statistic, counts / of.lengths, _labels(of.size, permutations, seed), alpha / len(compared))
            for name, of, counts, statistic in compared
        ],
    )


def to_embed(before: Sequence[SearchOutline], now: Sequence[SearchOutline]) -> set[str]:
    """The texts whose vectors `compare` needs: those of the newest EMBEDDED sessions of each period.

    Raises:
        ValueError: when a period holds no session of its own.
    """
    return {search.text for search in _periods(before, now).newest(EMBEDDED).searches}


class _Periods(NamedTuple):
    """The searches of equally many sessions of two periods; `of` holds the number of each search's session.

    Sessions 0 to size - 1 are of the period before, size to 2 * size - 1 of the period now; each from the newest on.
    """

    searches: Sequence[SearchOutline]
    of: np.ndarray
    size: int

    @property
    def lengths(self) -> np.ndarray:
        """How many searches each session made. [sessions, 1]"""
        return np.bincount(self.of)[:, None]

    def newest(self, most: int) -> "_Periods":
        """The newest sessions of each period, `most` of each at most."""
        size = min(most, self.size)
        rows = np.flatnonzero(self.of % self.size < size)  # in both periods the newest is the first
        place = self.of[rows]
        return _Periods(
            [self.searches[row] for row in rows.tolist()], place - (self.size - size) * (place >= self.size), size
        )


def _periods(before: Sequence[SearchOutline], now: Sequence[SearchOutline]) -> _Periods:
    began = {search.session for search in before}
    later = [search for search in now if search.session not in began]
    earlier = [*before, *(search for search in now if search.session in began)]
    chosen = newest_sessions(before), newest_sessions(later)
    size = min(map(len, chosen))
    if not size:
        raise ValueError("Expected sessions in both periods, and one has none. Compare longer periods.")
    rows = {session: row for row, session in enumerate([*chosen[0][:size], *chosen[1][:size]])}
    searches = [search for search in [*earlier, *later] if search.session in rows]
    return _Periods(searches, np.array([rows[search.session] for search in searches]), size)


def newest_sessions(searches: Sequence[SearchOutline]) -> list[str]:
    """The sessions of searches that are in the order of time; the session that began last is the first."""
    return list(dict.fromkeys(search.session for search in searches))[::-1]


def stability(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The population stability index of counts [..., bins]: 0 for equal shares.

    Siddiqi 2006, "Credit Risk Scorecards".
    """
    shares = [
        (counts + SMOOTHING) / (counts.sum(axis=-1, keepdims=True) + SMOOTHING * counts.shape[-1])
        for counts in (before, now)
    ]
    index: np.ndarray = np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0]), axis=-1)
    return index


def fall(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The share of clicks that is missing now: of those expected, had each position been clicked as often as before.

    Counts are [..., positions shown, then positions clicked]. Below 0 where there are more clicks than expected.
    """
    (shown_before, clicked_before), (shown_now, clicked_now) = (np.split(each, 2, axis=-1) for each in (before, now))
    comparable = shown_before > 0  # a position that nobody was shown before has no rate to fall from
    rates = np.divide(clicked_before, shown_before, out=np.zeros_like(shown_before), where=comparable)
    expected = (shown_now * rates).sum(axis=-1)
    missing = expected - (clicked_now * comparable).sum(axis=-1)
    share: np.ndarray = np.divide(missing, expected, out=np.zeros_like(expected), where=expected > 0)
    return share


def _mean_stability(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    by_axis = [counts.reshape(*counts.shape[:-1], -1, QUANTILES) for counts in (before, now)]
    mean: np.ndarray = stability(*by_axis).mean(axis=-1)
    return mean


def _labels(size: int, permutations: int, seed: int) -> np.ndarray:
    """Which sessions are taken for now's (1), and which for those before (0). [1 + permutations, sessions]

    Row 0 takes them for what they are; in each of the other rows the labels are permuted.
    """
    labels = np.repeat([0.0, 1.0], size)[None].repeat(1 + permutations, axis=0)
    labels[1:] = np.random.default_rng(seed).permuted(labels[1:], axis=1)
    return labels


def _measure(
    name: str,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    counts: np.ndarray,
    is_now: np.ndarray,
    alpha: float,
) -> Measure:
    """One permutation test. `counts` [sessions, bins] must not depend on the labels: then the test is exact."""
    now = is_now @ counts
    values = statistic(counts.sum(axis=0) - now, now)
    # Values that are equal but for rounding count as reached: ties must not raise an alarm.
    reached = values >= values[0] - 1e-9
    p_value = float(reached.mean())
    return Measure(
        name=name,
        value=float(values[0]),
        threshold=float(np.sort(values)[::-1][int(alpha * len(values))]),
        p_value=p_value,
        alarm=p_value <= alpha,
    )


def _terms(periods: _Periods) -> np.ndarray:
    """How many of each session's searches hold each term. [sessions, terms]"""
    words = {text: set(normalise(text).split()) for text in {search.text for search in periods.searches}}
    by_session = zip(periods.of, periods.searches, strict=True)
    pairs = [(row, word) for row, search in by_session for word in words[search.text]]
    vocabulary, index, totals = np.unique([word for _, word in pairs], return_inverse=True, return_counts=True)
    place = np.full(len(vocabulary), TERMS)
    place[np.argsort(-totals, kind="stable")[:TERMS]] = np.arange(min(TERMS, len(vocabulary)))
    return _count(periods, TERMS + 1, np.array([row for row, _ in pairs], dtype=np.intp), place[index])


def _bins(periods: _Periods, vectors: Mapping[str, np.ndarray]) -> np.ndarray:
    """How many of each session's searches fall into each quantile of each principal axis. [sessions, axes x quantiles]

    Axes and quantiles are those of both periods together. Those of one period would fit it better than the other, and
    would not fit permuted sessions so, which the test supposes.
    """
    points = np.stack([vectors[search.text] for search in periods.searches]).astype(np.float64)
    points -= points.mean(axis=0)
    _, axes = np.linalg.eigh(points.T @ points)
    projected = points @ axes[:, ::-1][:, :AXES]
    edges = np.quantile(projected, np.linspace(0, 1, QUANTILES + 1)[1:-1], axis=0)
    places = [
        axis * QUANTILES + np.searchsorted(edges[:, axis], projected[:, axis], side="right")
        for axis in range(projected.shape[1])
    ]
    counts = [_count(periods, len(places) * QUANTILES, periods.of, bins) for bins in places]
    return np.asarray(np.sum(counts, axis=0))


def _clicks(periods: _Periods) -> np.ndarray:
    """How often each session was shown each position, then how often it clicked each. [sessions, 2 x positions]"""
    shown = np.array([search.shown for search in periods.searches])[:, None] >= np.arange(1, POSITIONS + 1)
    clicked = np.zeros_like(shown)
    for row, search in enumerate(periods.searches):
        for position in search.clicked:
            if position <= POSITIONS:
                clicked[row, position - 1] = True
    rows, places = np.nonzero(np.concatenate([shown, clicked & shown], axis=1))
    return _count(periods, 2 * POSITIONS, periods.of[rows], places)


def _count(periods: _Periods, bins: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    counts = np.bincount(rows * bins + columns, minlength=2 * periods.size * bins)
    return counts.reshape(2 * periods.size, bins).astype(np.float64)
