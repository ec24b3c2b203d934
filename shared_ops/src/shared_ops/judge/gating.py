"""The gate: whether a challenger may take the champion's place.

Knows no Dagster. One implementation for every family; docs/gate.md has the method, its error rate and its power.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shared_ops.judge import significance
from shared_ops.judge.evaluation import PRIMARY


class GatePolicy(BaseModel):
    """What a challenger must hold to. Differences are challenger minus champion, in nDCG@10."""

    floor: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="a first release must reach this share of the way from chance to the best order of as many hits, "
        "and this share of the best that it could find",
    )
    margin: float = Field(
        default=0.02, ge=0, lt=1, description="the loss that must be ruled out (non-inferiority); 0: any loss"
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="chance at which a loss of `margin` is let through")
    slice_bound: float = Field(default=0.05, gt=0, lt=1, description="the mean loss at which a slice rejects")
    slice_queries: int = Field(default=30, ge=1, description="slices with fewer queries are reported, not judged")
    resamples: int = Field(default=10_000, ge=100, description="random sign flips of the test")
    seed: int = 0
    max_slowdown: float = Field(default=3.0, gt=1, description="times the champion's latency at which it rejects")
    latency_floor_ms: float = Field(default=10.0, ge=0, description="milliseconds a query that are never too slow")
    max_latency_ms: float = Field(default=250.0, gt=0, description="milliseconds a query that a first release may take")

    @property
    def loss(self) -> str:
        """The loss that must be ruled out, in words."""
        return f"a loss of {self.margin:g} or more" if self.margin else "any loss"


class Latency(BaseModel):
    """Median milliseconds a query, both measured on one machine, one after the other."""

    model_config = ConfigDict(frozen=True)

    challenger_ms: float = Field(gt=0, allow_inf_nan=False)
    champion_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="None for a first release")


class SliceTest(BaseModel):
    """What the gate found in one slice."""

    queries: int
    difference: float
    p_value: float | None = Field(
        description="of the hypothesis that nothing is lost, corrected for the number of slices; None: not judged"
    )


class Verdict(BaseModel):
    """What the gate found. `reasons` holds one sentence for each bound that was not held.

    `notes` says what could not be judged, and what would change that.
    """

    accepted: bool
    reasons: list[str]
    notes: list[str] = []
    queries: int
    challenger: float
    floor: float | None = Field(default=None, description="mean nDCG@10 that a first release must not surely miss")
    champion: float | None = None
    champion_version: str | None = None
    difference: float | None = None
    effect_size: float | None = Field(
        default=None, description="Cohen's d of the paired differences; None where they do not vary"
    )
    confidence_low: float | None = Field(default=None, description="lower end of the 95 % bootstrap interval")
    confidence_high: float | None = None
    p_value: float | None = Field(default=None, description="of a loss of at least the margin")
    gained: int | None = Field(default=None, description="queries that the challenger answers better")
    lost: int | None = None
    unchanged: int | None = None
    slices: dict[str, float] = Field(default={}, description="slice to mean difference")
    slice_tests: dict[str, SliceTest] = {}
    latency: Latency | None = None
    policy: GatePolicy

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if not self.queries:
            compared = "nothing was judged"
        elif self.champion is None:
            compared = f"nDCG@10 {self.challenger:.4f} on {self.queries} queries, the first release"
        else:
            compared = (
                f"nDCG@10 {self.challenger:.4f} against {self.champion:.4f} of {self.champion_version} on "
                f"{self.queries} queries (difference {self.difference:+.4f}, 95 % interval "
                f"{self.confidence_low:+.4f} to {self.confidence_high:+.4f}, "
                f"p of {self.policy.loss} = {self.p_value:.4f}; "
                f"{self.gained} gained, {self.lost} lost, {self.unchanged} unchanged)"
            )
        remarks = " ".join([*self.reasons, *self.notes])
        return f"{'Accepted' if self.accepted else 'Rejected'}: {compared}. {remarks}".strip()


NOTHING_TO_JUDGE_BY = (
    "No test query has a judgement, and nobody has clicked yet: judgements of test queries in a source, or people's "
    "clicks, change that."
)
ABSTAINS = (
    "It abstains: there was nothing to learn from yet, so it finds no document and takes no part in the answers. "
    "Judgements of train queries in a source, or people's clicks, change that."
)
ALL_ALIKE = (
    "All documents hold the same words, so no order of them is better than another. Look at the source: is its text "
    "read from the right column?"
)


def verdict_without_judgements(
    why: str, policy: GatePolicy, *, hits: pl.DataFrame | None = None, latency: Latency | None = None
) -> Verdict:
    """The verdict on a challenger that cannot be judged: only unsound hits or a slow answer reject it.

    Args:
        why: why it cannot be judged, and what would change that, in a sentence or two.
        policy: the bounds.
        hits: hits of any queries; scores that are not numbers reject.
        latency: what a query takes.
    """
    reasons = [_not_finite(hits)] if hits is not None else []
    if latency is not None:
        reasons.append(_too_slow(latency, policy))
    objections = [reason for reason in reasons if reason]
    return Verdict(
        accepted=not objections,
        reasons=objections,
        notes=[why],
        queries=0,
        challenger=0,
        latency=latency,
        policy=policy,
    )


def judge_first(
    measured: pl.DataFrame,
    policy: GatePolicy,
    *,
    members: pl.DataFrame | None = None,
    attainable: pl.DataFrame | None = None,
    hits: pl.DataFrame | None = None,
    latency: Latency | None = None,
) -> Verdict:
    """The verdict on a first release: it is rejected where it surely misses a floor, is unsound or too slow.

    There are two floors (`_floors`), which suit a collection of three documents, and a family that can find only what
    it has learned of.

    Args:
        measured: columns query_id and PRIMARY, one row a query.
        policy: the bounds.
        members: which queries each slice holds (query_id, slice); those of `all` count. None: every query counts.
        attainable: of each query `chance`, `best` and `most` (`evaluation.attainable`); None: 0, 1 and 1.
        hits: its hits of the judged queries; what `unsound` finds in them rejects.
        latency: what a query takes.
    """
    counted = measured if members is None else measured.join(_overall(members), on="query_id", how="semi")
    if not len(counted):
        return verdict_without_judgements(NOTHING_TO_JUDGE_BY, policy, hits=hits, latency=latency)
    values, floors = _values(counted, PRIMARY), _floors(counted, attainable, policy)
    reasons = _objections(measured, hits, latency, policy)
    missed = [floor for floor in floors if _surely_below(values, floor.values, policy)]
    reasons += [floor.sentence for floor in missed[:1]]
    return Verdict(
        accepted=not reasons,
        reasons=reasons,
        queries=len(counted),
        challenger=float(values.mean()),
        floor=max(floor.mean for floor in floors),
        latency=latency,
        policy=policy,
    )


@dataclass(frozen=True)
class _Floor:
    """What a first release must reach for each query (queries,), and in words where that lies."""

    values: np.ndarray
    where: str

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def sentence(self) -> str:
        return f"A first release must reach {self.mean:.4f}: {self.where}."


def _floors(counted: pl.DataFrame, attainable: pl.DataFrame | None, policy: GatePolicy) -> tuple[_Floor, _Floor]:
    """The floors of a first release.

    One is of the order: it must do better than as many hits drawn at random, so a query without hits asks for nothing.
    The other is of what is found at all, over every query.
    """
    chance, best, most = _attainable(counted, attainable)
    share = f"{policy.floor:.0%} of"
    order = f"{share} the way from chance ({chance.mean():.4f}) to the best of as many hits ({best.mean():.4f})"
    found = f"{share} the best that it could find ({most.mean():.4f})"
    return _Floor(chance + policy.floor * (best - chance), order), _Floor(policy.floor * most, found)


def _attainable(counted: pl.DataFrame, attainable: pl.DataFrame | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns chance, best and most of `evaluation.attainable` for each query: three arrays (queries,)."""
    if attainable is None:
        return np.zeros(len(counted)), np.ones(len(counted)), np.ones(len(counted))
    joined = counted.select("query_id").join(attainable, on="query_id", how="left", maintain_order="left")
    return joined["chance"].to_numpy(), joined["best"].to_numpy(), joined["most"].to_numpy()


def _surely_below(values: np.ndarray, floors: np.ndarray, policy: GatePolicy) -> bool:
    """Whether the mean of `values` is below that of `floors`, and not by chance: a handful of queries proves nothing.

    For the reason that `loss_p_value` gives, one more query is counted, as far above its floor as the best one.
    """
    below = floors - values
    optimistic = np.append(below, min(0.0, below.min()))
    return bool(below.mean() > 0 and _p_values(optimistic[:, None], policy)[0] <= policy.alpha)


def judge(
    challenger: pl.DataFrame,
    champion: pl.DataFrame,
    members: pl.DataFrame,
    policy: GatePolicy,
    version: str,
    *,
    hits: pl.DataFrame | None = None,
    latency: Latency | None = None,
) -> Verdict:
    """The verdict on a challenger, query by query against the champion.

    A paired randomisation test (Smucker, Allan and Carterette, CIKM 2007) of the hypothesis that the challenger loses
    at least `margin`; it is accepted when that is refuted at `alpha` and no slice surely loses more than `slice_bound`.
    With the margin 0 it has to be surely better, and is rejected where there is nothing to judge by.

    Args:
        challenger: columns query_id and PRIMARY, one row a query. A value that is not a number counts as 0.
        champion: the same for the champion, on the same queries.
        members: which queries each slice holds (query_id, slice). Those of `all` make the overall comparison; a query
            outside it is judged within its slices alone.
        policy: the bounds.
        version: the champion's version.
        hits: the challenger's hits of the test queries; what `unsound` finds in them rejects.
        latency: what a query takes.
    """
    paired = challenger.join(champion, on="query_id", suffix="_champion").sort("query_id")
    overall = paired.select(pl.col("query_id").is_in(_overall(members)["query_id"].implode())).to_series().to_numpy()
    if not overall.any():
        verdict = verdict_without_judgements(NOTHING_TO_JUDGE_BY, policy, hits=hits, latency=latency)
        if not policy.margin:
            verdict.accepted, verdict.reasons = False, [*verdict.reasons, _not_ruled_out(0, policy)]
        return verdict
    ours, theirs = _values(paired, PRIMARY), _values(paired, f"{PRIMARY}_champion")
    differences = (ours - theirs)[overall]
    p_value = loss_p_value(differences, policy)
    interval = significance.bootstrap_interval(differences, policy.resamples, policy.seed)
    slices = _slices(paired["query_id"], ours - theirs, members, policy)
    reasons = _objections(challenger, hits, latency, policy)
    if p_value > policy.alpha:
        reasons.append(_not_ruled_out(float(differences.mean()), policy))
    reasons += _losing(slices, policy)
    deviation = float(differences.std(ddof=1)) if np.ptp(differences) else 0.0
    return Verdict(
        accepted=not reasons,
        reasons=reasons,
        queries=len(differences),
        challenger=float(ours[overall].mean()),
        champion=float(theirs[overall].mean()),
        champion_version=version,
        difference=float(differences.mean()),
        effect_size=float(differences.mean()) / deviation if deviation else None,
        confidence_low=interval[0],
        confidence_high=interval[1],
        p_value=p_value,
        gained=int((differences > 0).sum()),
        lost=int((differences < 0).sum()),
        unchanged=int((differences == 0).sum()),
        slices={name: test.difference for name, test in slices.items()},
        slice_tests=slices,
        latency=latency,
        policy=policy,
    )


def _not_ruled_out(difference: float, policy: GatePolicy) -> str:
    loss = policy.margin or "any size"
    message = f"A loss of {loss} is not ruled out at {policy.alpha}"
    worse = difference <= -policy.margin
    return f"{message}." if worse else f"{message}: more judgements, or more people's clicks, would tell."


def unsound(hits: pl.DataFrame) -> str | None:
    """Why no release may answer with these hits (a `hits` table, not yet checked), or None where they are sound."""
    if not len(hits):
        return "There is no hit for any test query."
    if reason := _not_finite(hits):
        return reason
    if hits["query_id"].n_unique() < len(hits) and hits["score"].n_unique() == 1:
        return "Every hit of every test query has the same score: this model tells nothing apart."
    return None


def _not_finite(hits: pl.DataFrame) -> str | None:
    wrong = hits.filter(~pl.col("score").is_finite().fill_null(False))
    if not len(wrong):
        return None
    return (
        f"{len(wrong)} of {len(hits)} scores are not finite numbers, in the hits of "
        f"{wrong['query_id'].n_unique()} queries."
    )


def _objections(
    measured: pl.DataFrame, hits: pl.DataFrame | None, latency: Latency | None, policy: GatePolicy
) -> list[str]:
    """The reasons to reject a challenger whatever its quality, a sentence each."""
    reasons = []
    if hits is not None and (reason := unsound(hits)):
        reasons.append(reason)
    if wrong := len(measured.filter(~pl.col(PRIMARY).is_finite().fill_null(False))):
        reasons.append(f"{PRIMARY} of {wrong} of {len(measured)} queries is not a finite number.")
    if latency is not None and (reason := _too_slow(latency, policy)):
        reasons.append(reason)
    return reasons


def _too_slow(latency: Latency, policy: GatePolicy) -> str | None:
    took, champion = latency.challenger_ms, latency.champion_ms
    if champion is None:
        if took <= policy.max_latency_ms:
            return None
        return f"Takes {took:.1f} ms a query, more than the {policy.max_latency_ms:g} ms that a first release may take."
    if took <= policy.latency_floor_ms or took <= policy.max_slowdown * champion:
        return None
    return (
        f"Takes {took / champion:.1f} times as long as the champion ({took:.1f} ms a query against {champion:.1f} ms), "
        f"more than {policy.max_slowdown:g} times."
    )


def loss_p_value(differences: np.ndarray, policy: GatePolicy) -> float:
    """How surely a mean loss of `margin` is ruled out: the p-value of the paired randomisation test.

    Differences are skewed: most queries stay as they are, and a sample that happens to miss the rare great losses
    looks both better and surer than it is. So one more query is counted, which loses as much as the worst one; without
    it up to 8 % of the challengers that lose the margin pass at 5 % (bench/gate.py).

    Args:
        differences: challenger minus champion, one a query (queries,).
        policy: margin, resamples and seed.
    """
    pessimistic = np.append(differences, min(0.0, differences.min()))
    return float(_p_values(pessimistic[:, None] + policy.margin, policy)[0])


def _p_values(columns: np.ndarray, policy: GatePolicy) -> np.ndarray:
    return significance.randomisation(columns, policy.resamples, policy.seed)


def _slices(
    query_ids: pl.Series, differences: np.ndarray, members: pl.DataFrame, policy: GatePolicy
) -> dict[str, SliceTest]:
    """Every slice's difference; for slices of enough queries also the p-value of a loss, corrected (Holm 1979)."""
    places = pl.DataFrame({"query_id": query_ids, "place": np.arange(len(query_ids))})
    grouped = members.filter(pl.col("slice") != "all").join(places, on="query_id").group_by("slice").agg("place")
    rows = {name: np.array(place) for name, place in grouped.sort("slice").iter_rows()}
    judged = [name for name, place in rows.items() if len(place) >= policy.slice_queries]
    losses = np.zeros((len(differences), len(judged)))
    for column, name in enumerate(judged):
        losses[rows[name], column] = -differences[rows[name]]
    p_values = dict(zip(judged, significance.holm(_p_values(losses, policy)).tolist(), strict=True))
    return {
        name: SliceTest(queries=len(place), difference=float(differences[place].mean()), p_value=p_values.get(name))
        for name, place in rows.items()
    }


def _losing(slices: dict[str, SliceTest], policy: GatePolicy) -> list[str]:
    return [
        f"Slice {name} loses {-test.difference:.4f} on {test.queries} queries (p of no loss = {test.p_value:.4f}), "
        f"more than {policy.slice_bound}."
        for name, test in slices.items()
        if test.p_value is not None and test.p_value <= policy.alpha and test.difference < -policy.slice_bound
    ]


def _overall(members: pl.DataFrame) -> pl.DataFrame:
    return members.filter(pl.col("slice") == "all").select("query_id")


def _values(measured: pl.DataFrame, column: str) -> np.ndarray:
    """A measure of every query; what is not a number answered nothing, and counts as 0."""
    found = measured[column].cast(pl.Float64).to_numpy()
    numbers: np.ndarray = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
    return numbers
