"""The gate lets through what is as good, stops what is worse, and says why with its numbers."""

import numpy as np
import polars as pl
import pytest

from shared_ops.data.tables import hits_table
from shared_ops.judge import evaluation
from shared_ops.judge.evaluation import per_query
from shared_ops.judge.gating import (
    GatePolicy,
    Latency,
    Verdict,
    judge,
    judge_first,
    unsound,
    verdict_without_judgements,
)

POLICY = GatePolicy(resamples=2_000)


def measured(values: list[float] | np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"query_id": [f"q{i:04}" for i in range(len(values))], "nDCG@10": values})


def members(values: np.ndarray, name: str = "all", where: slice = slice(None)) -> pl.DataFrame:
    return measured(values)[where].select("query_id", pl.lit(name).alias("slice"))


@pytest.fixture
def champion() -> np.ndarray:
    return np.random.default_rng(0).beta(2, 2, 400)


def test_a_first_release_must_reach_the_floor() -> None:
    assert judge_first(measured([0.3, 0.5] * 10), GatePolicy(floor=0.4)).accepted
    verdict = judge_first(measured([0.1, 0.2] * 10), GatePolicy(floor=0.4))
    assert not verdict.accepted and "must reach 0.4000" in verdict.sentence and verdict.floor == pytest.approx(0.4)


@pytest.mark.parametrize("queries", [1, 2, 4])
def test_a_handful_of_queries_does_not_reject_a_first_release(queries: int) -> None:
    assert judge_first(measured([0.0] * queries), POLICY).accepted


@pytest.mark.parametrize("queries", [6, 30, 1000])
def test_who_answers_none_of_more_queries_is_rejected(queries: int) -> None:
    assert not judge_first(measured([0.0] * queries), POLICY).accepted


def attainable(chance: list[float], best: list[float]) -> pl.DataFrame:
    columns = (pl.Series("chance", chance), pl.Series("best", best), pl.Series("most", best))
    return measured(best).select("query_id", *columns)


def searched(documents: int, ranks: list[int | None], given: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What a search measures that gives so many hits, and what it could: each query has one relevant document.

    It is found at this rank; None: the query has no hits.
    """
    queries = [f"q{place:04}" for place in range(len(ranks))]
    qrels = pl.DataFrame({"query_id": queries, "doc_id": "d1", "grade": 1})
    places = range(1, given + 1)
    orders = [[f"d{1 if place == rank else place + 1}" for place in places if rank] for rank in ranks]
    found = hits_table(queries, [[(doc_id, -float(place)) for place, doc_id in enumerate(each)] for each in orders])
    return per_query(found, qrels), evaluation.attainable(qrels, documents, hits=found)


SANE = {
    "one document, and one query in four that shares no word with it": (1, [1, 1, 1, None] * 5, 1),
    "three documents, and one query in three that shares a word with one": (3, [1, None, None] * 10, 1),
    "three documents, one of them in every answer, half of the time the right one": (3, [1, 2] * 30, 1),
    "three documents, all of them in every answer": (3, [1, 1, 2] * 20, 3),
}


@pytest.mark.parametrize("collection", SANE)
def test_a_sane_search_of_a_tiny_collection_reaches_the_floor(collection: str) -> None:
    values, could = searched(*SANE[collection])
    verdict = judge_first(values, POLICY, attainable=could)
    assert verdict.accepted, verdict.sentence


def test_a_random_order_of_many_documents_misses_the_floor() -> None:
    ranks = np.random.default_rng(3).integers(1, 1_001, 200)
    values, could = searched(1_000, [int(rank) for rank in ranks], 100)
    verdict = judge_first(values, POLICY, attainable=could)
    assert not verdict.accepted and "of the way from chance (0.0045)" in verdict.sentence


def test_who_answers_next_to_nothing_misses_the_floor_however_good_that_is() -> None:
    values, could = searched(1_000, [1] + [None] * 299, 100)
    verdict = judge_first(values, POLICY, attainable=could)
    assert verdict.reasons == ["A first release must reach 0.0200: 2% of the best that it could find (1.0000)."]


def test_the_floor_lies_between_chance_and_the_best_of_as_many_hits() -> None:
    worse = judge_first(measured([0.5] * 30), POLICY, attainable=attainable([0.6] * 30, [1.0] * 30))
    assert not worse.accepted and worse.floor == pytest.approx(0.608)
    assert "must reach 0.6080: 2% of the way from chance (0.6000) to the best of as many hits" in worse.sentence
    limited = judge_first(measured([0.02] * 30), POLICY, attainable=attainable([0.001] * 30, [0.1] * 30))
    assert limited.accepted and limited.floor == pytest.approx(0.00298)


def test_what_it_could_not_have_answered_counts_against_nobody() -> None:
    """Each query has an answer of its own, and nobody clicked those of the test queries."""
    assert judge_first(measured([0.0] * 187), POLICY, attainable=attainable([0.0] * 187, [0.0] * 187)).accepted


@pytest.mark.parametrize("rate", [0.02, 0.05])
def test_who_reaches_the_floor_is_rejected_no_more_often_than_stated(rate: float) -> None:
    random = np.random.default_rng(7)
    answered = [(random.random(187) < rate).astype(float) for _ in range(200)]
    policy = GatePolicy(floor=rate, resamples=500)
    assert np.mean([not judge_first(measured(values), policy).accepted for values in answered]) <= 0.05


def test_what_cannot_be_judged_is_not_rejected_for_it_and_says_what_would_change_that(champion: np.ndarray) -> None:
    for verdict in (
        judge_first(measured([]), POLICY),
        judge(measured([]), measured([]), members(champion), POLICY, "v1"),
    ):
        assert verdict.accepted and verdict.queries == 0
        assert verdict.sentence.startswith("Accepted: nothing was judged. No test query has a judgement")
        assert "judgements of test queries in a source, or people's clicks, change that" in verdict.sentence


def test_what_cannot_be_judged_must_still_be_sound_and_fast() -> None:
    wrong = pl.DataFrame({"query_id": ["q"], "doc_id": ["d"], "score": [float("nan")]})
    slow = Latency(challenger_ms=900, champion_ms=None)
    verdict = verdict_without_judgements("It abstains.", POLICY, hits=wrong, latency=slow)
    assert not verdict.accepted and len(verdict.reasons) == 2 and verdict.notes == ["It abstains."]
    assert verdict_without_judgements("It abstains.", POLICY, hits=wrong.clear()).accepted


def test_the_same_order_passes(champion: np.ndarray) -> None:
    verdict = judge(measured(champion), measured(champion), members(champion), POLICY, "v1")
    assert verdict.accepted and verdict.difference == 0 and verdict.champion_version == "v1"


def test_a_worse_one_is_rejected_with_its_numbers(champion: np.ndarray) -> None:
    worse = np.clip(champion - 0.1, 0, 1)
    verdict = judge(measured(worse), measured(champion), members(champion), POLICY, "v1")
    assert not verdict.accepted
    assert verdict.confidence_low < verdict.difference < verdict.confidence_high < 0
    assert "A loss of 0.02 is not ruled out" in verdict.sentence and "v1" in verdict.sentence
    assert f"p of a loss of 0.02 or more = {verdict.p_value:.4f}; 0 gained" in verdict.sentence


def test_one_that_too_few_queries_tell_from_its_champion_is_rejected_with_what_would_tell(champion: np.ndarray) -> None:
    ours, theirs = measured(champion[:12] * 0 + [0.4, 0.6] * 6), measured(champion[:12] * 0 + 0.5)
    verdict = judge(ours, theirs, members(champion[:12]), POLICY, "v1")
    assert verdict.difference == pytest.approx(0)
    assert verdict.reasons[0].endswith(": more judgements, or more people's clicks, would tell.")


def test_where_any_loss_must_be_ruled_out_only_the_surely_better_passes(champion: np.ndarray) -> None:
    policy = GatePolicy(margin=0, resamples=2_000)

    def judged(values: np.ndarray) -> Verdict:
        return judge(measured(values), measured(champion), members(champion), policy, "v1")

    assert judged(champion).reasons == ["A loss of any size is not ruled out at 0.05."]
    better = judged(np.clip(champion + 0.05, 0, 1))
    assert better.accepted and f"p of any loss = {better.p_value:.4f}" in better.sentence
    one_better = champion.copy()
    one_better[0] += 0.01
    assert not judged(one_better).accepted
    nothing = judge(measured([]), measured([]), members(champion), policy, "v1")
    assert nothing.sentence.startswith("Rejected: nothing was judged. A loss of any size is not ruled out at 0.05. No")


def test_a_better_one_with_noise_passes(champion: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(0.03, 0.1, len(champion))
    verdict = judge(measured(np.clip(champion + noise, 0, 1)), measured(champion), members(champion), POLICY, "v1")
    assert verdict.accepted and verdict.p_value < 0.05


def test_a_slice_that_loses_rejects_what_is_better_overall(champion: np.ndarray) -> None:
    better = champion + 0.05
    better[:40] -= 0.2
    slices = pl.concat([members(champion), members(champion, "source:small", slice(0, 40))])
    verdict = judge(measured(better), measured(champion), slices, POLICY, "v1")
    assert not verdict.accepted and "Slice source:small loses 0.1500 on 40 queries" in verdict.sentence


def test_a_slice_that_may_have_lost_by_chance_does_not_reject(champion: np.ndarray) -> None:
    better = champion + 0.05
    better[:40] += np.where(np.arange(40) < 10, -0.7, 0.05)  # a mean loss of 0.0875, of ten queries of forty
    slices = pl.concat([members(champion), members(champion, "source:small", slice(0, 40))])
    verdict = judge(measured(better), measured(champion), slices, POLICY, "v1")
    slice_test = verdict.slice_tests["source:small"]
    assert verdict.accepted and slice_test.difference < -POLICY.slice_bound
    assert slice_test.queries == 40 and 0.05 < slice_test.p_value < 0.5


def test_slices_are_held_to_account_together(champion: np.ndarray) -> None:
    one = champion + 0.05
    one[:40] += np.where(np.arange(40) < 16, -0.5, 0.0)
    alone = pl.concat([members(champion), members(champion, "first", slice(0, 40))])
    others = [members(champion, f"slice {start}", slice(start, start + 40)) for start in range(40, 400, 40)]
    judged = [
        judge(measured(one), measured(champion), slices, POLICY, "v1").slice_tests["first"].p_value
        for slices in (alone, pl.concat([alone, *others]))
    ]
    assert judged[1] == pytest.approx(10 * judged[0], rel=0.3)


def test_only_queries_of_the_slice_all_are_counted_overall(champion: np.ndarray) -> None:
    worse = champion.copy()
    worse[:100] = 0
    slices = pl.concat([members(champion, "all", slice(100, 400)), members(champion, "newest clicks", slice(0, 100))])
    verdict = judge(measured(worse), measured(champion), slices, POLICY, "v1")
    assert verdict.queries == 300 and verdict.difference == 0 and verdict.slice_tests["newest clicks"].queries == 100
    assert [reason.split(" loses")[0] for reason in verdict.reasons] == ["Slice newest clicks"]
    assert judge_first(measured(worse), POLICY, members=slices).queries == 300


def test_a_slice_of_few_queries_is_reported_and_not_judged(champion: np.ndarray) -> None:
    better = champion + 0.05
    better[:5] -= 0.5
    slices = pl.concat([members(champion), members(champion, "tiny", slice(0, 5))])
    verdict = judge(measured(better), measured(champion), slices, POLICY, "v1")
    assert verdict.accepted and verdict.slices["tiny"] == pytest.approx(-0.45)
    assert verdict.slice_tests["tiny"].p_value is None


def test_only_queries_that_both_answered_are_compared(champion: np.ndarray) -> None:
    verdict = judge(measured(champion[:100]), measured(champion), members(champion), POLICY, "v1")
    assert verdict.queries == 100


def test_equal_seeds_give_equal_verdicts(champion: np.ndarray) -> None:
    challenger = measured(np.clip(champion + np.random.default_rng(2).normal(0, 0.1, 400), 0, 1))
    verdicts = [judge(challenger, measured(champion), members(champion), POLICY, "v1") for _ in range(2)]
    assert verdicts[0] == verdicts[1]


def test_the_verdict_says_how_large_the_difference_is_and_whom_it_met(champion: np.ndarray) -> None:
    changed = champion.copy()
    changed[:40] += 0.1
    changed[40:50] -= 0.1
    verdict = judge(measured(changed), measured(champion), members(champion), POLICY, "v1")
    differences = changed - champion
    assert (verdict.gained, verdict.lost, verdict.unchanged) == (40, 10, 350)
    assert verdict.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert "40 gained, 10 lost, 350 unchanged" in verdict.sentence


def test_a_verdict_survives_json(champion: np.ndarray) -> None:
    verdict = judge(measured(champion + 0.1), measured(champion), members(champion), POLICY, "v1")
    assert type(verdict).model_validate_json(verdict.model_dump_json()) == verdict


def hits(scores: list[float | None]) -> pl.DataFrame:
    rows = [(f"q{place // 2}", f"d{place % 2}", score, place % 2 + 1) for place, score in enumerate(scores)]
    return pl.DataFrame(rows, schema=["query_id", "doc_id", "score", "rank"], orient="row")


UNSOUND = {
    "no hit": ([], "There is no hit for any test query."),
    "NaN": ([2.0, 1.0, float("nan"), 1.0], "1 of 4 scores are not finite numbers, in the hits of 1 queries."),
    "infinite": ([float("inf"), 1.0, float("inf"), 1.0], "2 of 4 scores are not finite numbers"),
    "missing": ([2.0, None], "1 of 2 scores are not finite numbers"),
    "constant": ([1.0, 1.0, 1.0, 1.0], "Every hit of every test query has the same score"),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_unsound_hits_reject_whatever_they_measure(champion: np.ndarray, kind: str) -> None:
    scores, reason = UNSOUND[kind]
    bad = hits(scores).cast({"score": pl.Float64})
    first = judge_first(measured(champion), POLICY, hits=bad)
    later = judge(measured(champion + 0.1), measured(champion), members(champion), POLICY, "v1", hits=bad)
    for verdict in (first, later):
        assert not verdict.accepted and len(verdict.reasons) == 1 and verdict.reasons[0].startswith(reason)


def test_one_hit_a_query_may_have_one_score() -> None:
    assert unsound(hits([1.0, 0.5, 1.0, 0.5])) is None
    assert unsound(hits([1.0, 0.5, 1.0, 0.5]).filter(pl.col("rank") == 1)) is None


def test_measures_that_are_not_numbers_reject_and_count_as_nothing(champion: np.ndarray) -> None:
    broken = champion.copy()
    broken[:3] = np.nan
    for verdict in (
        judge(measured(broken), measured(champion), members(champion), POLICY, "v1"),
        judge_first(measured(broken), POLICY),
    ):
        assert verdict.reasons == ["nDCG@10 of 3 of 400 queries is not a finite number."]
        assert verdict.challenger == pytest.approx(np.nan_to_num(broken).mean())


def test_ten_times_as_slow_is_rejected_for_that(champion: np.ndarray) -> None:
    latency = Latency(challenger_ms=102.0, champion_ms=10.0)
    verdict = judge(measured(champion + 0.1), measured(champion), members(champion), POLICY, "v1", latency=latency)
    assert verdict.reasons == [
        "Takes 10.2 times as long as the champion (102.0 ms a query against 10.0 ms), more than 3 times."
    ]


@pytest.mark.parametrize(("took", "champions"), [(9.9, 0.1), (30.0, 10.0)])
def test_slowness_that_nobody_notices_passes(champion: np.ndarray, took: float, champions: float) -> None:
    latency = Latency(challenger_ms=took, champion_ms=champions)
    assert judge(measured(champion), measured(champion), members(champion), POLICY, "v1", latency=latency).accepted


def test_a_first_release_has_a_limit_of_its_own() -> None:
    assert judge_first(measured([0.5]), POLICY, latency=Latency(challenger_ms=250)).accepted
    verdict = judge_first(measured([0.5]), POLICY, latency=Latency(challenger_ms=251))
    assert verdict.reasons == ["Takes 251.0 ms a query, more than the 250 ms that a first release may take."]
