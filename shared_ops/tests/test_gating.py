"""The gate lets through what is as good, stops what is worse, and says why with its numbers."""

import numpy as np
import polars as pl
import pytest

from shared_ops.gating import GatePolicy, judge, judge_first

POLICY = GatePolicy(resamples=2_000)


def measured(values) -> pl.DataFrame:
    return pl.DataFrame({"query_id": [f"q{i:04}" for i in range(len(values))], "nDCG@10": values})


def members(values, name="all", where=slice(None)) -> pl.DataFrame:
    return measured(values)[where].select("query_id", pl.lit(name).alias("slice"))


@pytest.fixture
def champion() -> np.ndarray:
    return np.random.default_rng(0).beta(2, 2, 400)


def test_a_first_release_must_reach_the_floor():
    assert judge_first(measured([0.3, 0.5]), GatePolicy(floor=0.4)).accepted
    verdict = judge_first(measured([0.1, 0.2]), GatePolicy(floor=0.4))
    assert not verdict.accepted and "must reach 0.4000" in verdict.sentence


def test_without_judged_queries_nothing_passes():
    verdict = judge_first(measured([]), POLICY)
    assert not verdict.accepted and "No judged test query" in verdict.sentence


def test_the_same_order_passes(champion):
    verdict = judge(measured(champion), measured(champion), members(champion), POLICY, "v1")
    assert verdict.accepted and verdict.difference == 0 and verdict.champion_version == "v1"


def test_a_worse_one_is_rejected_with_its_numbers(champion):
    worse = np.clip(champion - 0.1, 0, 1)
    verdict = judge(measured(worse), measured(champion), members(champion), POLICY, "v1")
    assert not verdict.accepted
    assert verdict.confidence_low < verdict.difference < verdict.confidence_high < 0
    assert "A loss of 0.02 is not ruled out" in verdict.sentence and "v1" in verdict.sentence


def test_a_better_one_with_noise_passes(champion):
    noise = np.random.default_rng(1).normal(0.03, 0.1, len(champion))
    verdict = judge(measured(np.clip(champion + noise, 0, 1)), measured(champion), members(champion), POLICY, "v1")
    assert verdict.accepted and verdict.p_value < 0.05


def test_a_slice_that_loses_rejects_what_is_better_overall(champion):
    better = champion + 0.05
    better[:40] -= 0.2
    slices = pl.concat([members(champion), members(champion, "source:small", slice(0, 40))])
    verdict = judge(measured(better), measured(champion), slices, POLICY, "v1")
    assert not verdict.accepted and "Slice source:small loses 0.1500 on 40 queries" in verdict.sentence


def test_a_slice_of_few_queries_is_reported_and_not_judged(champion):
    better = champion + 0.05
    better[:5] -= 0.5
    slices = pl.concat([members(champion), members(champion, "tiny", slice(0, 5))])
    verdict = judge(measured(better), measured(champion), slices, POLICY, "v1")
    assert verdict.accepted and verdict.slices["tiny"] == pytest.approx(-0.45)


def test_only_queries_that_both_answered_are_compared(champion):
    verdict = judge(measured(champion[:100]), measured(champion), members(champion), POLICY, "v1")
    assert verdict.queries == 100


def test_equal_seeds_give_equal_verdicts(champion):
    challenger = measured(np.clip(champion + np.random.default_rng(2).normal(0, 0.1, 400), 0, 1))
    verdicts = [judge(challenger, measured(champion), members(champion), POLICY, "v1") for _ in range(2)]
    assert verdicts[0] == verdicts[1]
