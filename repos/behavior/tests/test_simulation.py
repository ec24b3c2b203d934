import polars as pl
import pytest
from pydantic import ValidationError

from repos.behavior.simulation import SimulationParameters, simulate_clicks
from shared_ops.data import tables

MANY = SimulationParameters(sessions=400, distractors=5, page_size=4)


def rate(rows: pl.DataFrame) -> float:
    share: float = rows.select(pl.col("clicks").sum() / pl.col("impressions").sum()).item()
    return share


def test_the_same_seed_gives_the_same_clicks(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    first = simulate_clicks(documents, queries, qrels, MANY)
    assert first.equals(simulate_clicks(documents.reverse(), queries.reverse(), qrels.reverse(), MANY))
    assert not first.equals(simulate_clicks(documents, queries, qrels, MANY.model_copy(update={"seed": 1})))
    tables.check("clicks", first)


def test_a_new_query_changes_no_other_querys_clicks(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    without = simulate_clicks(documents, queries.filter(pl.col("query_id") != "q-fft"), qrels, MANY)
    assert without.equals(simulate_clicks(documents, queries, qrels, MANY).filter(pl.col("query_id") != "q-fft"))


def test_only_judgements_of_training_queries_and_known_documents_are_read(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    clicks = simulate_clicks(documents, queries, qrels, MANY)
    assert set(clicks["query_id"]) == {"q-sort", "q-inverse", "q-cluster", "q-fft"}
    fewer = documents.filter(pl.col("doc_id") != "d-inv")
    assert "d-inv" not in set(simulate_clicks(fewer, queries, qrels, MANY)["doc_id"])


def test_every_page_is_full_and_every_click_was_an_impression(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    clicks = simulate_clicks(documents, queries, qrels, MANY)
    shown = clicks.group_by("query_id").agg(pl.col("impressions").sum())
    assert set(shown["impressions"]) == {MANY.sessions * MANY.page_size}
    assert clicks.select((pl.col("clicks") <= pl.col("impressions")).all()).item()
    assert clicks["mean_position"].is_between(1, MANY.page_size).all()


def test_examinations_are_the_chances_that_somebody_looked(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    certain = MANY.model_copy(update={"eta": 0.0})
    looked_at_all = simulate_clicks(documents, queries, qrels, certain)
    assert looked_at_all["examinations"].to_list() == looked_at_all["impressions"].to_list()
    clicks = simulate_clicks(documents, queries, qrels, MANY)
    pages = clicks.group_by("query_id").agg(pl.col("examinations").sum())["examinations"]
    assert pages.to_list() == pytest.approx([MANY.sessions * (1 + 1 / 2 + 1 / 3 + 1 / 4)] * 4)
    best = clicks.join(qrels.filter(pl.col("grade") == 2), on=["query_id", "doc_id"], how="semi")
    looked = best.select(pl.col("clicks").sum() / pl.col("examinations").sum()).item()
    assert looked == pytest.approx(1.0, rel=0.1)  # who looks, clicks


def test_higher_grades_are_clicked_more_and_noise_is_clicked_too(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    clicks = simulate_clicks(documents, queries, qrels, MANY).join(qrels, on=["query_id", "doc_id"], how="left")
    by_grade = [rate(clicks.filter(pl.col("grade").fill_null(0) == grade)) for grade in (0, 1, 2)]
    assert 0 < by_grade[0] < by_grade[1] < by_grade[2]


@pytest.mark.slow
def test_lower_positions_are_clicked_less(documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame) -> None:
    once = MANY.model_copy(update={"sessions": 1})
    seeds = (once.model_copy(update={"seed": seed}) for seed in range(200))
    clicks = pl.concat([simulate_clicks(documents, queries, qrels, parameters) for parameters in seeds])
    by_rank = [rate(clicks.filter(pl.col("mean_position") == rank)) for rank in (1, 2, 4)]
    # Examination is 1 / rank: half at 2, a quarter at 4.
    assert by_rank[0] / by_rank[1] == pytest.approx(2, rel=0.35)
    assert by_rank[0] / by_rank[2] == pytest.approx(4, rel=0.35)


@pytest.mark.parametrize(
    "changes", [{"distractors": 0}, {"relevant_share": 1.0}, {"page_size": 1}, {"distractors": 500}]
)
def test_pages_hold_what_there_is(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, changes: dict[str, float]
) -> None:
    clicks = simulate_clicks(documents, queries, qrels, MANY.model_copy(update=changes))
    assert set(clicks["query_id"]) == {"q-sort", "q-inverse", "q-cluster", "q-fft"}


def test_without_judged_training_queries_there_are_no_clicks(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    held_out = queries.filter(pl.col("split") != "train")
    assert simulate_clicks(documents, held_out, qrels, MANY).equals(tables.empty("clicks"))


def test_an_impossible_share_is_refused() -> None:
    with pytest.raises(ValidationError, match="relevant_share"):
        SimulationParameters(relevant_share=0.0)
