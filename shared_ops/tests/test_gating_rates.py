"""How often the gate errs, by simulation: real per-query differences, challengers of a known true difference.

bench/gate.py prints the same rates with more trials, for docs/gate.md.
"""

import time

import numpy as np
import pytest
from scipy import stats  # noqa: TID253 - no code server loads a test

from bench._challengers import challengers, frames, pairs
from shared_ops.judge.gating import GatePolicy, judge, loss_p_value
from shared_ops.judge.significance import randomisation

POLICY = GatePolicy(resamples=500)
PAIRS = pairs()
TYPICAL = PAIRS["title counts 3"]


def passing(pair: np.ndarray, true: float, queries: int, trials: int) -> int:
    """The number of challengers for which a loss of the margin is ruled out."""
    drawn = challengers(pair, true, queries, trials, seed=3)
    policies = (POLICY.model_copy(update={"seed": seed}) for seed in range(trials))
    return sum(loss_p_value(row, policy) <= policy.alpha for row, policy in zip(drawn, policies, strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_the_pairs_are_what_search_engines_differ_by(name: str) -> None:
    pair = PAIRS[name]
    assert len(pair) > 1_000 and np.abs(pair).max() <= 1
    assert (pair == 0).mean() > 0.6 and stats.kurtosis(pair) > 3


@pytest.mark.parametrize("true", [-0.02, 0.0, 0.02])
def test_a_challengers_true_difference_is_the_one_asked_for(true: float) -> None:
    drawn = challengers(TYPICAL, true, 1_000, 400, seed=0)
    assert drawn.mean() == pytest.approx(true, abs=4 * drawn.std() / np.sqrt(drawn.size))


@pytest.mark.parametrize("queries", [100, 200, 1_000])
@pytest.mark.parametrize("name", PAIRS)
def test_a_loss_of_the_margin_passes_at_most_at_the_stated_rate(name: str, queries: int) -> None:
    trials = 500
    passed = passing(PAIRS[name], -POLICY.margin, queries, trials)
    assert stats.binomtest(passed, trials, POLICY.alpha, alternative="greater").pvalue > 0.01, passed / trials


def test_without_the_pessimistic_query_rare_losses_would_pass_more_often_than_stated() -> None:
    trials, pair = 500, PAIRS["title counts 1.5"]
    drawn = challengers(pair, -POLICY.margin, 200, trials, seed=3) + POLICY.margin
    passed = sum(randomisation(row[:, None], POLICY.resamples, POLICY.seed)[0] <= POLICY.alpha for row in drawn)
    assert stats.binomtest(passed, trials, POLICY.alpha, alternative="greater").pvalue < 0.01, passed / trials


@pytest.mark.parametrize(("queries", "least"), [(200, 0.95), (1_000, 0.99)])
def test_a_true_gain_of_two_points_passes(queries: int, least: float) -> None:
    trials = 200
    passed = passing(TYPICAL, 0.02, queries, trials)
    assert stats.binomtest(passed, trials, least, alternative="less").pvalue > 0.01, passed / trials


def test_of_equal_challengers_ten_slices_reject_few() -> None:
    trials = 150
    verdicts = [judge(*frames(row, 10), POLICY, "v1") for row in challengers(TYPICAL, 0.0, 1_000, trials, seed=4)]
    by_slice = sum(any(reason.startswith("Slice") for reason in verdict.reasons) for verdict in verdicts)
    accepted = sum(verdict.accepted for verdict in verdicts)
    assert stats.binomtest(by_slice, trials, POLICY.alpha, alternative="greater").pvalue > 0.01, by_slice / trials
    assert accepted / trials > 0.9


def test_a_slice_that_collapses_is_caught() -> None:
    caught = 0
    for row in challengers(TYPICAL, 0.02, 1_000, 50, seed=5):
        challenger, champion, members = frames(row, 10)
        lost = challengers(TYPICAL, 0.0, 1_000, 1, seed=6)[0] - 0.15
        challenger, champion, _ = frames(np.where(np.arange(1_000) % 10 == 3, np.clip(lost, -1, 1), row), 10)
        verdict = judge(challenger, champion, members, POLICY, "v1")
        caught += any(reason.startswith("Slice slice 3 loses") for reason in verdict.reasons)
    assert caught == 50


def test_p_values_are_scipys() -> None:
    policy = GatePolicy()
    for differences in challengers(TYPICAL, -0.005, 200, 5, seed=7):
        shifted = differences + policy.margin
        theirs = stats.permutation_test(
            (shifted,), np.mean, permutation_type="samples", alternative="greater", n_resamples=10_000, rng=8
        ).pvalue
        ours = randomisation(shifted[:, None], policy.resamples, policy.seed)[0]
        assert ours == pytest.approx(theirs, abs=5 * np.sqrt(theirs * (1 - theirs) / 5_000) + 2e-4)


def test_a_judgement_of_a_thousand_queries_costs_no_wait() -> None:
    differences = challengers(TYPICAL, 0.0, 1_000, 1, seed=9)[0]

    def seconds() -> float:
        start = time.process_time()
        loss_p_value(differences, GatePolicy())
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 0.05
