import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from repos.behavior.model import BehaviorModel, Parameters, load
from repos.behavior.simulation import SimulationParameters, simulate_clicks
from repos.behavior.tests.conftest import click
from repos.behavior.train import FEWEST_DEV_QUERIES, train
from shared_ops.data import tables
from shared_ops.data.feedback import HELD_BACK
from shared_ops.judge import evaluation
from shared_ops.judge.training import TrainingResult, answer
from shared_ops.release.inputs import asked_id
from shared_ops.settings import ROOT

COLLECTIONS = ROOT.parent / "shared" / "collections"
BOOTSTRAP = "bootstrap (simulated)"
NO_TRIALS = Parameters(trials=0)


def run(
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
    clicks: pl.DataFrame | None = None,
    parameters: Parameters = NO_TRIALS,
) -> TrainingResult[BehaviorModel]:
    if clicks is None:
        clicks = simulate_clicks(documents, queries, qrels, SimulationParameters(distractors=3, page_size=4))
    return train(documents, queries, qrels, {BOOTSTRAP: clicks}, parameters, log=lambda line: None)


def answers(frame: pl.DataFrame, query_id: str) -> list[str]:
    return frame.filter(pl.col("query_id") == query_id).sort("rank")["doc_id"].to_list()


def test_training_answers_every_split_and_says_what_it_learned_from(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    trained = run(documents, queries, qrels)
    assert set(trained.hits) == {"train", "dev", "test"}
    assert answers(trained.hits["test"], "q-test")[0] == "d-inv"
    for split, hits in trained.hits.items():
        tables.check("hits", hits)
        assert set(hits["query_id"]) <= set(queries.filter(pl.col("split") == split)["query_id"])
    told = trained.hyperparameters
    assert told["past_queries"] == told["learned_from"][BOOTSTRAP]["queries"] == 4
    assert 0 < told["learned_from"][BOOTSTRAP]["clicks"] < told["learned_from"][BOOTSTRAP]["impressions"]


def test_a_training_query_is_answered_by_a_model_that_saw_none_of_its_clicks(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    text = "unheard-of gadget"  # alike to no other query: only its own clicks can answer it
    asked = tables.make(
        "queries",
        [{"query_id": name, "text": text.upper() if name == "twin" else text, "split": "train", "source": "s"}
         for name in ("one", "twin")],
    )  # fmt: skip
    clicks = tables.make("clicks", [click("one", text, "d-plot"), click("twin", text.upper(), "d-plot")])
    trained = run(documents, pl.concat([queries, asked]), qrels, clicks)
    assert [doc_id for doc_id, _ in trained.model.search([text], 10)[0]] == ["d-plot"]
    assert answers(trained.hits["train"], "one") == []
    assert answers(trained.hits["train"], "twin") == []


def test_what_was_asked_is_answered_by_a_model_that_saw_the_clicks_of_all_other_sessions(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    text = "unheard-of gadget"
    rows = [click("one", text, "d-plot", fold=0), click("one", text, "d-fft", fold=1)]
    asked = tables.make(
        "asked", [{"query_id": "one", "text": text, "fold": fold, "hits": "{}"} for fold in (0, 1, HELD_BACK)]
    )
    feedback = {"feedback": tables.make("clicks", rows)}
    hits = train(documents, queries, qrels, feedback, NO_TRIALS, lambda line: None, asked=asked).hits["asked"]
    tables.check("hits", hits)
    assert answers(hits, asked_id("one", 0)) == ["d-fft"]
    assert answers(hits, asked_id("one", 1)) == ["d-plot"]
    assert set(answers(hits, asked_id("one", HELD_BACK))) == {"d-plot", "d-fft"}


def test_what_was_made_up_is_known_whatever_session_asks(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    bootstrap = simulate_clicks(documents, queries, qrels, SimulationParameters(distractors=3, page_size=4))
    text = queries.filter(pl.col("query_id") == "q-sort")["text"].item()
    asked = tables.make("asked", [{"query_id": "a", "text": text, "fold": 3, "hits": "{}"}])
    trained = train(documents, queries, qrels, {BOOTSTRAP: bootstrap}, NO_TRIALS, lambda line: None, asked=asked)
    doc_ids = [doc_id for doc_id, _ in trained.model.search([text], 100)[0]]
    assert doc_ids and answers(trained.hits["asked"], asked_id("a", 3)) == doc_ids


def test_a_training_query_is_still_answered_by_the_others(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    asked = tables.make(
        "queries", [{"query_id": "near", "text": "matrix to invert", "split": "train", "source": "library"}]
    )
    others = [click(f"v{n}", f"invert matrix {n}", "d-inv") for n in range(9)]
    clicks = tables.make("clicks", [click("near", "matrix to invert", "d-plot"), *others])
    assert answers(run(documents, pl.concat([queries, asked]), qrels, clicks).hits["train"], "near") == ["d-inv"]


def test_clicks_of_held_out_queries_teach_nothing(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    clicks = tables.make(
        "clicks",
        [
            click("q-inverse", "invert a matrix", "d-inv"),
            click("q-test", "inverting a square matrix", "d-plot"),
            click("visitor", "Put the values of an array in order", "d-plot"),
        ],
    )
    trained = run(documents, queries, qrels, clicks)
    assert trained.hyperparameters["click_rows_of_held_out_queries"] == 2
    assert answers(trained.hits["test"], "q-test") == ["d-inv"]


YEAR = 365.0
QUERY, ANSWER, TREND = "invert a matrix", "d-inv", "d-plot"


@pytest.mark.parametrize(
    "looked_at", [40 / 5, 40.0], ids=["as few as the first position's fifth", "as many as the first's"]
)
@pytest.mark.parametrize("shown_above", [False, True])
def test_what_people_click_now_rises_above_what_the_bootstrap_clicked(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, looked_at: float, shown_above: bool
) -> None:
    """40 sessions clicked a document at position 5, while 50 of the bootstrap clicked another, which may be above it.

    However few of them are thought to have looked there.
    """
    bootstrap = simulate_clicks(documents, queries, qrels, SimulationParameters(distractors=3, page_size=4))
    feedback = [click("v", QUERY, TREND, 40, 40, position=5.0, looked_at=looked_at, days_ago=-YEAR)]
    if shown_above:
        feedback.append(click("v", QUERY, ANSWER, 4, 40, days_ago=-YEAR))
    origins = {BOOTSTRAP: bootstrap, "feedback": tables.make("clicks", feedback)}
    before = train(documents, queries, qrels, {BOOTSTRAP: bootstrap}, NO_TRIALS, log=lambda line: None)
    after = train(documents, queries, qrels, origins, NO_TRIALS, log=lambda line: None)
    assert answer_order(before.model, QUERY)[0] == ANSWER
    assert answer_order(after.model, QUERY)[0] == TREND
    assert after.hyperparameters["learned_from"]["feedback"] == {
        "clicks": 44 if shown_above else 40,
        "impressions": 80 if shown_above else 40,
        "queries": 1,
    }


def test_one_click_does_not_overturn_what_fifty_sessions_clicked(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    bootstrap = simulate_clicks(documents, queries, qrels, SimulationParameters(distractors=3, page_size=4))
    once = tables.make("clicks", [click("v", QUERY, TREND, 1, 1, position=2.0, looked_at=0.5, days_ago=-YEAR)])
    trained = train(
        documents, queries, qrels, {BOOTSTRAP: bootstrap, "feedback": once}, NO_TRIALS, log=lambda line: None
    )
    assert answer_order(trained.model, QUERY)[:2] == [ANSWER, TREND]


def answer_order(model: BehaviorModel, text: str) -> list[str]:
    return [doc_id for doc_id, _ in model.search([text], 10)[0]]


def test_test_judgements_are_never_read(documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame) -> None:
    swapped = qrels.with_columns(
        doc_id=pl.when(pl.col("query_id") == "q-test").then(pl.lit("d-plot")).otherwise(pl.col("doc_id"))
    )
    first, second = run(documents, queries, qrels), run(documents, queries, swapped)
    assert first.hyperparameters == second.hyperparameters
    assert all(first.hits[split].equals(second.hits[split]) for split in first.hits)


def test_two_trainings_write_the_same_bytes(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, tmp_path: Path
) -> None:
    many = with_dev_queries(queries, qrels, FEWEST_DEV_QUERIES)
    trained = [run(documents, *many, parameters=Parameters(trials=12, seed=3)) for _ in range(2)]
    for number, each in enumerate(trained):
        (tmp_path / str(number)).mkdir()
        each.model.save(tmp_path / str(number))
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("0", "1"))
    assert first == second
    assert trained[0].hyperparameters == trained[1].hyperparameters
    assert load(tmp_path / "0").parameters == trained[0].model.parameters


def test_parameters_are_chosen_on_enough_dev_queries_where_they_gain(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    wrong = Parameters(neighbours=1, exponent=0.1, clicked_text=1.0, characters=0.0, trials=40)
    few = run(documents, *with_dev_queries(queries, qrels, FEWEST_DEV_QUERIES - 2), parameters=wrong)
    assert few.model.parameters == wrong
    many = run(documents, *with_dev_queries(queries, qrels, FEWEST_DEV_QUERIES), parameters=wrong)
    assert many.model.parameters != wrong
    assert many.hyperparameters["dev_ndcg"] > few.hyperparameters["dev_ndcg"]


def with_dev_queries(queries: pl.DataFrame, qrels: pl.DataFrame, more: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Dev queries that ask as the training queries do: close to those, and not to the texts of what was clicked."""
    asked = [(f"dev-{n}", ("array values order", "group the similar points")[n % 2], n) for n in range(more)]
    rows = [{"query_id": name, "text": f"{text} {n}", "split": "dev", "source": "library"} for name, text, n in asked]
    judged = [{"query_id": name, "doc_id": ("d-sort", "d-kmeans")[n % 2], "grade": 1} for name, _, n in asked]
    return pl.concat([queries, tables.make("queries", rows)]), pl.concat([qrels, tables.make("qrels", judged)])


@pytest.mark.parametrize("absent", ["train", "dev", "test"])
def test_a_collection_may_lack_a_split(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, absent: str
) -> None:
    fewer = queries.filter(pl.col("split") != absent)
    trained = run(documents, fewer, qrels.join(fewer, on="query_id", how="semi"), parameters=Parameters(trials=3))
    assert trained.hits[absent].is_empty()
    assert trained.hits["test"].is_empty() == (absent in ("train", "test"))


def test_without_clicks_everything_is_answered_with_nothing(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    trained = run(documents, queries, qrels, tables.empty("clicks"), Parameters())
    assert all(hits.equals(tables.empty("hits")) for hits in trained.hits.values())
    assert trained.hyperparameters["dev_ndcg"] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "floor"), [("cranfield", 0.20), ("cisi", 0.10)])
def test_public_collections_are_answered_as_well_as_measured(name: str, floor: float) -> None:
    folder = COLLECTIONS / name
    if not folder.is_dir():
        pytest.skip(f"the public collection {name} is not beside this checkout")
    documents, queries, qrels = read_beir(folder)
    clicks = simulate_clicks(documents, queries, qrels, SimulationParameters())
    trained = run(documents, queries, qrels, clicks, Parameters())
    assert ndcg(trained.hits["test"], queries, qrels, "test") > floor
    # What the final model knows of its own training queries flatters it: out of fold it must not.
    memorised = answer(trained.model, queries.filter(pl.col("split") == "train"))
    assert ndcg(trained.hits["train"], queries, qrels, "train") < 0.5 * ndcg(memorised, queries, qrels, "train")


def ndcg(hits: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, split: str) -> float:
    judged = qrels.join(queries.filter(pl.col("split") == split), on="query_id", how="semi")
    mean: float = evaluation.per_query(hits, judged).select(pl.mean("nDCG@10")).item()
    return mean


def read_beir(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    def lines(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / name).read_text().splitlines()]

    ids = {"query-id": pl.String, "corpus-id": pl.String}
    splits = {
        split: pl.read_csv(folder / "qrels" / f"{split}.tsv", separator="\t", schema_overrides=ids)
        for split in ("train", "test")
    }
    split_of = {query_id: split for split, rows in splits.items() for query_id in rows["query-id"]}
    documents = [
        {"doc_id": row["_id"], "source": folder.name, "title": row["title"], "text": row["text"], "url": None,
         "metadata": "{}"} for row in lines("corpus.jsonl") if row["text"]
    ]  # fmt: skip
    queries = [
        {"query_id": row["_id"], "text": row["text"], "split": split_of[row["_id"]], "source": folder.name}
        for row in lines("queries.jsonl")
        if row["_id"] in split_of
    ]
    judged = pl.concat(splits.values()).rename({"query-id": "query_id", "corpus-id": "doc_id", "score": "grade"})
    return tables.make("documents", documents), tables.make("queries", queries), judged.filter(pl.col("grade") >= 1)
