import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from repos.semantic import train as module
from repos.semantic.bert import EncoderError
from repos.semantic.contrast import batches, mine
from repos.semantic.head import Head, Recipe, learn
from repos.semantic.model import Parameters, SemanticModel, load
from repos.semantic.tests.conftest import Tables
from repos.semantic.train import train
from shared_ops.judge.training import TrainingResult

QUICK = Parameters(passage_tokens=32, passages_per_document=20, epochs=3, batch=8, hard_negatives=4)
RECIPE = Recipe(learning_rate=3e-3, epochs=40, batch=32, negatives=4, temperature=0.05, weight_decay=0.0, seed=1)
Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of queries and of passages, and where each document starts."""


@pytest.fixture(scope="module")
def trained(tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult[SemanticModel]:
    return train(*tables, QUICK, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def rotated() -> Vectors:
    """60 documents of one passage, and queries that are their vectors turned by a fixed rotation."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    turn, _ = np.linalg.qr(random.normal(size=(32, 32)))
    queries = (0.5 * vectors + vectors @ turn).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, vectors.astype(np.float16), np.arange(60)


def accuracy(head: Head, queries: np.ndarray, vectors: np.ndarray) -> float:
    best = np.argmax(head.queries(queries) @ head.documents(vectors).T, axis=1)
    return float(np.mean(best == np.arange(len(queries))))


def test_every_split_is_answered_with_ranked_hits(trained: TrainingResult[SemanticModel], tables: Tables) -> None:
    documents, queries, _ = tables
    for split in ("train", "dev", "test"):
        hits = trained.hits[split]
        assert set(hits["query_id"]) == set(queries.filter(pl.col("split") == split)["query_id"])
        assert (hits.group_by("query_id").len()["len"] == len(documents)).all()


def test_the_right_document_is_found(trained: TrainingResult[SemanticModel], tables: Tables) -> None:
    best = trained.hits["test"].filter(pl.col("rank") == 1)
    assert np.mean([query == f"test-{doc}" for query, doc in best.select("query_id", "doc_id").iter_rows()]) > 0.9


def test_hyperparameters_say_what_was_chosen(trained: TrainingResult[SemanticModel]) -> None:
    chosen = trained.hyperparameters
    assert chosen["adapted"] in ("head", "none")
    assert chosen["tokens_encoded_share"] == 1.0
    assert all(isinstance(value, str | int | float | bool) for value in chosen.values())


@pytest.mark.slow
def test_the_same_input_and_seed_give_the_same_bytes(
    trained: TrainingResult[SemanticModel], tables: Tables, tmp_path: Path
) -> None:
    documents, queries, qrels = (table.sample(fraction=1.0, shuffle=True, seed=3) for table in tables)
    again = train(documents, queries, qrels, QUICK)
    trained.model.save(tmp_path / "one")
    again.model.save(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["documents.json", "head.safetensors", "model.json", "passages.safetensors"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    assert all(trained.hits[split].equals(again.hits[split]) for split in trained.hits)


@pytest.mark.parametrize("kept", [("train", "test"), ("dev", "test"), ("test",)])
def test_without_train_or_dev_queries_the_frozen_encoder_answers(tables: Tables, kept: tuple[str, ...]) -> None:
    documents, queries, qrels = tables
    queries = queries.filter(pl.col("split").is_in(kept))
    result = train(documents, queries, qrels.join(queries, on="query_id", how="semi"), QUICK)
    assert result.hyperparameters["adapted"] == "none"
    assert not result.model.head.query.any()
    assert len(result.hits["test"])


def test_no_documents_is_an_error(tables: Tables) -> None:
    documents, queries, qrels = tables
    with pytest.raises(ValueError, match="no documents"):
        train(documents.clear(), queries, qrels.clear(), QUICK)


@pytest.mark.slow
def test_unchanged_text_is_not_encoded_again(tables: Tables, tmp_path: Path) -> None:
    documents, queries, qrels = tables
    lines: list[str] = []
    train(documents, queries, qrels, QUICK.model_copy(update={"adapt": "none"}), tmp_path)
    changed = documents.with_columns(
        pl.when(pl.col("doc_id") == "dates-0").then(pl.lit("Another text.")).otherwise("text").alias("text")
    )
    train(changed, queries, qrels, QUICK.model_copy(update={"adapt": "none"}), tmp_path, lines.append)
    assert "Encoded 1 of 1 passages" in lines


def test_a_head_learns_what_the_frozen_encoder_lacks(rotated: Vectors) -> None:
    queries, vectors, starts = rotated
    examples = mine(queries, [{row: 1} for row in range(60)], vectors, starts, 4)
    head = learn(examples, np.arange(60), vectors, RECIPE)
    assert accuracy(Head.identity(32), queries, vectors) < 0.7
    assert accuracy(head, queries, vectors) > 0.95


def test_a_gain_that_may_be_chance_is_none() -> None:
    assert module._worth(np.array([0.1, 0.2, 0.1, 0.0]))
    assert not module._worth(np.array([0.9, -0.8, 0.7, -0.6]))
    assert not module._worth(np.zeros(5))
    assert not module._worth(np.array([0.5]))


def test_relevant_documents_are_never_negatives(rotated: Vectors) -> None:
    queries, vectors, starts = rotated
    relevant = [{row: 2, (row + 1) % 60: 1} for row in range(60)]
    examples = mine(queries, relevant, vectors, starts, 8)
    for batch in batches(examples, np.arange(60), 20, 8, np.random.default_rng(0)):
        for place, row in enumerate(batch.queries):
            compared = batch.passages[batch.hidden[place] == 0]
            assert batch.passages[place] in relevant[row]
            assert set(compared.tolist()) & set(relevant[row]) == {int(batch.passages[place])}


@pytest.mark.slow
def test_train_hits_come_from_models_that_did_not_learn_from_the_query(tables: Tables) -> None:
    """Every document's answers are moved to the next document: whoever learned a query's answer would find it.

    Each query is asked a second time, spelt otherwise: it is the same query, so who answers one learned from neither.
    """
    documents, queries, qrels = (table.sort(table.columns) for table in tables)
    again = queries.filter(pl.col("split") == "train").with_columns(
        query_id="again-" + pl.col("query_id"), text=pl.col("text").str.to_titlecase() + "?"
    )
    repeated = qrels.with_columns(query_id="again-" + pl.col("query_id")).join(again, on="query_id", how="semi")
    queries, qrels = pl.concat([queries, again]), pl.concat([qrels, repeated])
    following = dict(zip(documents["doc_id"], [*documents["doc_id"][1:], documents["doc_id"][0]], strict=True))
    wrong = qrels.with_columns(pl.col("doc_id").replace_strict(following))
    # Dev is as wrong as train, so the learned head is chosen, though nothing here carries over to an unseen query.
    strong = QUICK.model_copy(update={"epochs": 20, "learning_rate": 1e-2, "weight_decay": 0.0})
    result = train(documents, queries, wrong, strong)
    assert result.hyperparameters["adapted"] == "head"
    train_queries = queries.filter(pl.col("split") == "train")
    learned = result.model.search(train_queries["text"].to_list(), 1)
    answers = dict(wrong.select("query_id", "doc_id").iter_rows())
    wanted = [answers[query_id] for query_id in train_queries["query_id"]]
    by_final = np.mean([hits[0][0] == doc for hits, doc in zip(learned, wanted, strict=True)])
    first = dict(result.hits["train"].filter(pl.col("rank") == 1).select("query_id", "doc_id").iter_rows())
    out_of_fold = np.mean([first[q] == doc for q, doc in zip(train_queries["query_id"], wanted, strict=True)])
    assert by_final > 0.8
    assert out_of_fold < 0.3


@pytest.mark.slow
def test_the_whole_encoder_learns_and_is_saved_with_the_release(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A few steps need not help on dev; that they may be chosen all the same is what this test arranges.
    monkeypatch.setattr(module, "_worth", lambda gains: True)
    asked = QUICK.model_copy(update={"adapt": "encoder", "encoder_steps": 3, "encoder_batch": 4})
    result = train(*tables, asked)
    assert result.hyperparameters["adapted"] == "encoder"
    result.model.save(tmp_path)
    loaded = load(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["learned"]
    assert loaded.encoder.sha256 != result.hyperparameters["encoder_sha256"]
    assert loaded.search(["sort values"], 5) == result.model.search(["sort values"], 5)


def test_a_release_of_another_encoder_says_what_to_do(trained: TrainingResult[SemanticModel], tmp_path: Path) -> None:
    trained.model.origin, origin = replace(trained.model.origin, sha256="0" * 64), trained.model.origin
    trained.model.save(tmp_path)
    trained.model.origin = origin
    with pytest.raises(EncoderError, match="Put the encoder it was made with back"):
        load(tmp_path)


def test_a_release_of_another_format_is_refused(trained: TrainingResult[SemanticModel], tmp_path: Path) -> None:
    trained.model.save(tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(ValueError, match="not of format"):
        load(tmp_path)
