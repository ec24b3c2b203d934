"""The model's contract: train, search, save and load."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from repos.keyword.model import MAX_QUERY, KeywordModel, Parameters, load, train
from repos.keyword.tests.conftest import TEXTS, library
from repos.keyword.tests.docstrings import collection
from repos.keyword.tuning import _surely_better
from shared_ops.data import tables
from shared_ops.data.text import SPLITS
from shared_ops.judge.training import TrainingResult

FEW = Parameters(trials=5)
BAD = Parameters(trials=12, k1=0.01, b=0.0, title_weight=0.01)
"""A start that any trial betters."""


def run(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, parameters: Parameters = FEW
) -> TrainingResult[KeywordModel]:
    return train(documents, queries, qrels, parameters, log=lambda line: None)


@pytest.fixture
def model(documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame) -> KeywordModel:
    return run(documents, queries, qrels).model


def found(model: KeywordModel, text: str) -> list[str]:
    return [doc_id for doc_id, _ in model.search([text], 10)[0]]


def test_training_answers_every_split_and_reports_its_choice(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    trained = run(documents, queries, qrels)
    for split in SPLITS:
        hits = tables.check("hits", trained.hits[split])
        asked = queries.filter(pl.col("split") == split)
        best = hits.filter(pl.col("rank") == 1).join(qrels, on=["query_id", "doc_id"])
        assert best.height == asked.height
    assert set(trained.hyperparameters) == {
        "language", "stem", "stop_words", "identifiers", "k1", "b", "title_weight"
    }  # fmt: skip


def test_without_dev_queries_the_given_parameters_stand(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    trained = run(documents, queries.filter(pl.col("split") != "dev"), qrels, Parameters(k1=1.7))
    assert trained.hyperparameters == Parameters(k1=1.7).choice().flat()
    assert trained.hits["dev"].is_empty()
    nothing = run(documents, tables.empty("queries"), tables.empty("qrels"))
    assert all(hits.is_empty() for hits in nothing.hits.values())


def test_parameters_move_only_where_the_dev_queries_make_sure() -> None:
    import numpy as np

    assert not _surely_better(np.array([0.5, -0.2, 0.0]))
    assert not _surely_better(np.zeros(20))
    assert _surely_better(np.array([0.1, 0.2, 0.15]))


def test_a_handful_of_dev_queries_does_not_move_the_parameters() -> None:
    documents, queries, qrels = collection("numpy.lib")
    few = queries.with_columns(split=pl.Series(["dev"] * 19 + ["test"] * (queries.height - 19)))
    assert run(documents, few, qrels, BAD).hyperparameters == BAD.choice().flat()


def test_enough_dev_queries_choose_better_parameters_than_a_bad_start() -> None:
    documents, queries, qrels = collection("numpy.lib")
    queries = queries.with_columns(split=pl.Series(["dev", "test"] * queries.height).head(queries.height))
    before = run(documents, queries, qrels, BAD.model_copy(update={"trials": 0}))
    after = run(documents, queries, qrels, BAD)
    assert after.hyperparameters != before.hyperparameters

    def reciprocal_rank(hits: pl.DataFrame) -> float:
        total: float = hits.join(qrels, on=["query_id", "doc_id"]).select((1 / pl.col("rank")).sum()).item()
        return total

    assert reciprocal_rank(after.hits["test"]) > reciprocal_rank(before.hits["test"])


def test_test_and_train_judgements_change_nothing() -> None:
    documents, queries, qrels = collection("numpy.lib")
    queries = queries.with_columns(split=pl.Series(list(SPLITS) * queries.height).head(queries.height))
    dev = queries.filter(pl.col("split") == "dev")["query_id"].to_list()
    only_dev = run(documents, queries, qrels.filter(pl.col("query_id").is_in(dev)), BAD)
    everything = run(documents, queries, qrels, BAD)
    assert everything.hyperparameters != BAD.choice().flat()  # something was chosen
    assert only_dev.hyperparameters == everything.hyperparameters
    for split in SPLITS:
        assert only_dev.hits[split].equals(everything.hits[split])


def test_the_same_input_gives_the_same_bytes_in_any_row_order(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame, tmp_path: Path
) -> None:
    run(documents, queries, qrels).model.save(tmp_path / "a")
    run(documents.reverse(), queries.reverse(), qrels.reverse()).model.save(tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["documents.json", "index.safetensors", "model.json", "terms.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_loaded_model_answers_as_the_saved_one(model: KeywordModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    texts = ["sorted arrays", "read a file", "nothing-of-this-kind", "where"]
    assert loaded.search(texts, 5) == model.search(texts, 5)
    assert loaded.choice == model.choice


def test_another_format_is_refused(model: KeywordModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(ValueError, match="not of format 1"):
        load(tmp_path)


def test_names_are_found_by_their_parts(model: KeywordModel) -> None:
    assert found(model, "csv")[0] == "d-csv"
    assert found(model, "pandas.DataFrame.groupby")[0] == "d-group"
    assert found(model, "numpy where")[0] == "d-where"
    assert found(model, "where") == ["d-where"]


def test_hits_are_best_first_at_most_k_and_tied_by_id(
    documents: pl.DataFrame, queries: pl.DataFrame, qrels: pl.DataFrame
) -> None:
    twins = library(TEXTS | {"d-csv-b": TEXTS["d-csv"], "d-csv-a": TEXTS["d-csv"]})
    model = run(twins, queries, qrels).model
    [hits] = model.search(["comma separated values"], 2)
    assert [doc_id for doc_id, _ in hits] == ["d-csv", "d-csv-a"]
    [hits] = model.search(["read file"], 100)
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
    assert all(score > 0 for _, score in hits)
    assert model.search([], 10) == []
    with pytest.raises(ValueError, match="k must be at least 1"):
        model.search(["file"], 0)


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x07\ud800", "!!!", "_", "поиск", "信息检索", "<script></script>"])
def test_a_text_that_matches_nothing_gives_nothing(model: KeywordModel, text: str) -> None:
    assert model.search([text], 10) == [[]]


@pytest.mark.parametrize(
    "text", ["file " * 20_000, "read_" * 20_000, "a" * 100_000, " ".join(map(str, range(18_000))), "信" * 100_000]
)
def test_a_text_of_100_kilobytes_is_answered_at_once(model: KeywordModel, text: str) -> None:
    start = time.process_time()
    [hits] = model.search([text], 10)
    assert time.process_time() - start < 0.5
    assert len(hits) <= 10
    assert model.search([text[:MAX_QUERY]], 10) == [hits]


def test_text_of_any_language_is_searched(queries: pl.DataFrame, qrels: pl.DataFrame) -> None:
    documents = library({"d-ru": ("Поиск", "Поиск документов по словам"), "d-zh": ("检索", "信息检索系统")})
    model = run(documents, queries, qrels.clear()).model
    assert found(model, "документов") == ["d-ru"]
    assert found(model, "信息系统") == ["d-zh"]


def test_many_threads_at_once_get_the_answers_of_one(model: KeywordModel) -> None:
    texts = [f"{text} {number}" for number in range(30) for _, text in TEXTS.values()]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: model.search([text], 5)[0], texts))
    assert together == model.search(texts, 5)
