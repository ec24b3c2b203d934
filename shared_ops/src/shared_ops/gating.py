"""The gate: whether a challenger may take the champion's place.

Knows no Dagster. One implementation for every family.
"""

from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from shared_ops.evaluation import PRIMARY


class GatePolicy(BaseModel):
    """What a challenger must hold to. Differences are challenger minus champion, in nDCG@10."""

    floor: float = Field(default=0.02, ge=0, le=1, description="mean nDCG@10 that a first release must reach")
    margin: float = Field(default=0.02, gt=0, lt=1, description="the loss that must be ruled out (non-inferiority)")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="chance at which a loss of `margin` is let through")
    slice_bound: float = Field(default=0.05, gt=0, lt=1, description="the mean loss at which a slice rejects")
    slice_queries: int = Field(default=30, ge=1, description="slices with fewer queries are reported, not judged")
    resamples: int = Field(default=10_000, ge=100, description="random sign flips of the test")
    seed: int = 0


class Verdict(BaseModel):
    """What the gate found. `reasons` holds one sentence for each bound that was not held."""

    accepted: bool
    reasons: list[str]
    queries: int
    challenger: float
    champion: float | None = None
    champion_version: str | None = None
    difference: float | None = None
    confidence_low: float | None = Field(default=None, description="lower end of the 95 % bootstrap interval")
    confidence_high: float | None = None
    p_value: float | None = Field(default=None, description="of a loss of at least the margin")
    slices: dict[str, float] = Field(default={}, description="slice to mean difference")
    policy: GatePolicy

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.champion is None:
            compared = f"nDCG@10 {self.challenger:.4f} on {self.queries} queries, the first release"
        else:
            compared = (
                f"nDCG@10 {self.challenger:.4f} against {self.champion:.4f} of {self.champion_version} on "
                f"{self.queries} queries (difference {self.difference:+.4f}, 95 % interval "
                f"{self.confidence_low:+.4f} to {self.confidence_high:+.4f}, p = {self.p_value:.4f})"
            )
        return f"{'Accepted' if self.accepted else 'Rejected'}: {compared}. {' '.join(self.reasons)}".strip()


def judge_first(measured: pl.DataFrame, policy: GatePolicy) -> Verdict:
    """The verdict on a first release: its mean must reach the floor.

    Args:
        measured: columns query_id and PRIMARY, one row a query.
        policy: the bounds.
    """
    mean = float(measured[PRIMARY].to_numpy().mean()) if len(measured) else 0.0
    reasons = []
    if not len(measured):
        reasons.append("No judged test query: there is nothing to judge by; add qrels to a source.")
    elif not mean >= policy.floor:
        reasons.append(f"A first release must reach {policy.floor:.4f}.")
    return Verdict(accepted=not reasons, reasons=reasons, queries=len(measured), challenger=mean, policy=policy)


def judge(
    challenger: pl.DataFrame, champion: pl.DataFrame, members: pl.DataFrame, policy: GatePolicy, version: str
) -> Verdict:
    """The verdict on a challenger, query by query against the champion.

    A paired randomisation test (Smucker, Allan and Carterette, CIKM 2007) of the hypothesis that the challenger loses
    at least `margin`; it is accepted when that is refuted at `alpha` and no slice loses more than `slice_bound`.

    Args:
        challenger: columns query_id and PRIMARY, one row a query.
        champion: the same for the champion, on the same queries.
        members: which queries each slice holds (query_id, slice).
        policy: the bounds.
        version: the champion's version.
    """
    paired = challenger.join(champion, on="query_id", suffix="_champion").with_columns(
        (pl.col(PRIMARY) - pl.col(f"{PRIMARY}_champion")).alias("difference")
    )
    if not len(paired):
        return judge_first(paired, policy)
    differences = paired["difference"].to_numpy()
    p_value, interval = _randomisation(differences, policy)
    slices, worse = _slices(paired, members, policy)
    reasons = list(worse)
    if p_value > policy.alpha:
        reasons.insert(0, f"A loss of {policy.margin} is not ruled out at {policy.alpha}.")
    return Verdict(
        accepted=not reasons,
        reasons=reasons,
        queries=len(paired),
        challenger=float(paired[PRIMARY].to_numpy().mean()),
        champion=float(paired[f"{PRIMARY}_champion"].to_numpy().mean()),
        champion_version=version,
        difference=float(differences.mean()),
        confidence_low=interval[0],
        confidence_high=interval[1],
        p_value=p_value,
        slices=slices,
        policy=policy,
    )


def _randomisation(differences: np.ndarray, policy: GatePolicy) -> tuple[float, tuple[float, float]]:
    """The p-value of a loss of `margin`, and the 95 % interval of the mean difference. `differences`: (queries,)."""
    from scipy import stats

    generator = np.random.default_rng(policy.seed)
    test: Any = stats.permutation_test(
        (differences + policy.margin,),
        np.mean,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=policy.resamples,
        batch=1_000,
        rng=generator,
    )
    if np.ptp(differences) == 0:
        return float(test.pvalue), (float(differences[0]), float(differences[0]))
    interval: Any = stats.bootstrap(
        (differences,), np.mean, method="percentile", n_resamples=policy.resamples, batch=1_000, rng=generator
    ).confidence_interval
    return float(test.pvalue), (float(interval.low), float(interval.high))


def _slices(paired: pl.DataFrame, members: pl.DataFrame, policy: GatePolicy) -> tuple[dict[str, float], list[str]]:
    grouped = (
        paired.join(members.filter(pl.col("slice") != "all"), on="query_id")
        .group_by("slice")
        .agg(pl.len().alias("queries"), pl.col("difference").mean())
        .sort("slice")
    )
    losing = grouped.filter((pl.col("queries") >= policy.slice_queries) & (pl.col("difference") < -policy.slice_bound))
    reasons = [
        f"Slice {row['slice']} loses {-row['difference']:.4f} on {row['queries']} queries, more than "
        f"{policy.slice_bound}."
        for row in losing.to_dicts()
    ]
    return dict(grouped.select("slice", "difference").iter_rows()), reasons
