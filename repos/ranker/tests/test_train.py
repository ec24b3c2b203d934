import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from repos.ranker.fit import LIKENESS
from repos.ranker.model import Parameters, Ranker, load
from repos.ranker.tests.conftest import FAST, Collection, Search, unions
from repos.ranker.train import OptimismError, alone, optimism, train
from shared_ops.data import tables
from shared_ops.judge.fusion import min_max_fusion, reciprocal_rank_fusion
from shared_ops.judge.training import TrainingResult
from shared_ops.release.inputs import Asked


def quiet(line: str) -> None:
    pass


def fit(collection: Collection, hits: dict[str, pl.DataFrame], parameters: Parameters = FAST) -> TrainingResult[Ranker]:
    return train(collection.documents, collection.queries, collection.qrels, hits, parameters, quiet)


@pytest.fixture(scope="module")
def trained(collection: Collection, hits: dict[str, pl.DataFrame]) -> TrainingResult[Ranker]:
    return fit(collection, hits)


def fused(
    fusion: Callable[[Mapping[str, tables.Hits]], tables.Hits], collection: Collection, hits: dict[str, pl.DataFrame]
) -> float:
    ids = collection.ids("test")
    return collection.ndcg(tables.hits_table(ids, [fusion(union) for union in unions(hits, ids)]))


def test_the_order_is_better_than_each_model_and_than_fusing_without_learning(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    ranked = collection.ndcg(trained.hits["test"])
    assert ranked > max(collection.ndcg(table) for table in hits.values()) + 0.02
    assert ranked > fused(min_max_fusion, collection, hits) + 0.02
    assert ranked > fused(reciprocal_rank_fusion, collection, hits) + 0.02


@pytest.mark.slow
def test_each_split_is_ordered_and_train_out_of_fold(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    assert set(trained.hits) == {"train", "dev", "test"}
    for split, table in trained.hits.items():
        assert sorted(table["query_id"].unique()) == sorted(collection.ids(split))
        assert max(table["rank"]) <= 100
    texts, unions_of = zip(*((collection.text(i), unions(hits, [i])[0]) for i in collection.ids("train")), strict=True)
    learned = tables.hits_table(collection.ids("train"), trained.model.rank_many(texts, unions_of))
    assert not trained.hits["train"].equals(learned)


def test_rank_orders_all_documents_of_the_union(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    query_id = collection.ids("test")[0]
    union = unions(hits, [query_id])[0]
    ranked = trained.model.rank(collection.text(query_id), union)
    assert {doc_id for doc_id, _ in ranked} == {doc_id for hits_of in union.values() for doc_id, _ in hits_of}
    assert [score for _, score in ranked] == sorted((score for _, score in ranked), reverse=True)
    assert trained.model.rank_many([collection.text(query_id)], [union]) == [ranked]


def test_it_serves_what_it_was_evaluated_on(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    for query_id, union in zip(collection.ids("test")[:5], unions(hits, collection.ids("test")[:5]), strict=True):
        expected = trained.hits["test"].filter(pl.col("query_id") == query_id).sort("rank")["doc_id"].to_list()
        assert [doc_id for doc_id, _ in trained.model.rank(collection.text(query_id), union)][:100] == expected


def test_it_explains_the_order_that_it_gives_by_what_it_scored(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    query_id = collection.ids("test")[0]
    text, union = collection.text(query_id), unions(hits, [query_id])[0]
    order, features = trained.model.explain(text, union, 7)
    assert order == trained.model.rank(text, union)
    assert features.dtype == np.float32
    candidates = trained.model.space.candidates(text, union)
    rows = [candidates.doc_ids.index(doc_id) for doc_id, _ in order[:7]]
    np.testing.assert_array_equal(features, candidates.features[rows])
    everything, features = trained.model.explain(text, union, 10_000)
    assert len(features) == len(everything) == len(candidates.doc_ids)


def test_what_a_document_newer_than_the_release_lacks_is_explained_as_nan(trained: TrainingResult[Ranker]) -> None:
    _, features = trained.model.explain("sort", {"keyword": [("new", 9.0)]}, 1)
    assert np.isnan(features[0, trained.model.space.names.index("title covers")])


def test_no_hits_give_no_hits(trained: TrainingResult[Ranker]) -> None:
    assert trained.model.rank("sort", {}) == []
    assert trained.model.rank("sort", {"keyword": []}) == []
    order, features = trained.model.explain("sort", {}, 10)
    assert order == []
    assert features.shape == (0, len(trained.model.space.names))


@pytest.mark.parametrize("down", ["keyword", "semantic", "behavior"])
def test_without_one_family_the_rest_is_still_ordered_well(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame], down: str
) -> None:
    ids = collection.ids("test")
    rest = {family: table for family, table in hits.items() if family != down}
    texts = [collection.text(query_id) for query_id in ids]
    ranked = collection.ndcg(tables.hits_table(ids, trained.model.rank_many(texts, unions(rest, ids))))
    assert ranked >= fused(min_max_fusion, collection, rest)
    assert ranked > max(collection.ndcg(table) for table in rest.values())


def test_a_document_newer_than_the_release_is_ordered_by_its_hits(trained: TrainingResult[Ranker]) -> None:
    hits = {
        family: [("new", 9.0), ("sort-array", 3.0), ("plot-table", 1.0)]
        for family in ("keyword", "semantic", "behavior")
    }
    ranked = [doc_id for doc_id, _ in trained.model.rank("what is it", hits)]
    assert ranked.index("new") < ranked.index("plot-table")


def test_saved_and_loaded_it_ranks_the_same(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    trained.model.save(tmp_path)
    loaded = load(tmp_path)
    ids = collection.ids("test")[:10]
    texts = [collection.text(query_id) for query_id in ids]
    assert loaded.rank_many(texts, unions(hits, ids)) == trained.model.rank_many(texts, unions(hits, ids))


def test_another_format_is_refused(trained: TrainingResult[Ranker], tmp_path: Path) -> None:
    trained.model.save(tmp_path)
    (tmp_path / "ranker.json").write_text('{"format": 99, "kind": "network"}')
    with pytest.raises(ValueError, match="Expected a ranker in format 3, got 99"):
        load(tmp_path)


def test_the_same_input_gives_the_same_bytes(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    shuffled = {family: table.sample(fraction=1, shuffle=True, seed=5) for family, table in reversed(hits.items())}
    again = train(
        collection.documents.reverse(), collection.queries.reverse(), collection.qrels.reverse(), shuffled, FAST, quiet
    )
    for name, model in {"one": trained.model, "two": again.model}.items():
        (tmp_path / name).mkdir()
        model.save(tmp_path / name)
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1]
    assert trained.hits["test"].equals(again.hits["test"])


def test_another_seed_gives_other_weights(
    collection: Collection, hits: dict[str, pl.DataFrame], trained: TrainingResult[Ranker]
) -> None:
    other = fit(collection, hits, FAST.model_copy(update={"seed": 1, "kind": "network", "epochs": 1}))
    assert not np.array_equal(other.model.weights["hidden"].numpy(), trained.model.weights["hidden"].numpy())


@pytest.mark.parametrize("kind", ["fusion", "linear", "network"])
def test_a_kind_that_is_asked_for_is_taken(
    collection: Collection, hits: dict[str, pl.DataFrame], kind: str, tmp_path: Path
) -> None:
    parameters = FAST.model_copy(update={"kind": kind, "epochs": 2})
    model = fit(collection, hits, parameters).model
    assert model.kind == kind
    model.save(tmp_path)
    assert load(tmp_path).kind == kind


def test_the_linear_fusion_trusts_the_better_models(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    model = fit(collection, hits, FAST.model_copy(update={"kind": "linear"})).model
    weights = dict(zip(model.families, model.fusion, strict=False))
    assert weights["keyword"] > weights["behavior"]
    assert weights["semantic"] > weights["behavior"]
    assert min(weights.values()) > 0


def test_the_fewer_the_queries_the_more_a_family_weighs_what_it_is_worth_alone(
    collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    """All of them are only worth what each gives alone, with a prior of very many queries; with none, what is best."""
    by_prior = {
        prior: fit(collection, hits, FAST.model_copy(update={"kind": "linear", "prior": prior})).model.fusion
        for prior in (0.0, 30.0, 1e9)
    }
    values = {family: collection.ndcg(table, "train") for family, table in hits.items()}
    trusted = by_prior[1e9]
    assert trusted[-1] == pytest.approx(LIKENESS, abs=0.01)
    # Worth over train and dev queries: near what it is over train queries.
    assert trusted[:-1] / trusted[:-1].sum() == pytest.approx(
        np.array([values[family] for family in sorted(hits)]) / sum(values.values()), abs=0.03
    )
    between = (by_prior[0.0] + (trusted - by_prior[0.0]) * 30 / (30 + 150)).astype(np.float32)
    assert by_prior[30.0] == pytest.approx(between, abs=1e-5)


def test_with_too_little_to_learn_from_scores_are_fused(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    few = [*collection.ids("train")[:6], *collection.ids("test")]
    queries = collection.queries.filter(pl.col("query_id").is_in(few))
    trained = train(collection.documents, queries, collection.qrels, hits, FAST, quiet)
    assert trained.hyperparameters["kind_chosen"] == "fusion"
    assert collection.ndcg(trained.hits["test"]) == pytest.approx(fused(min_max_fusion, collection, hits))


def test_without_any_train_or_dev_query_scores_are_fused(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    queries = collection.queries.filter(pl.col("split") == "test")
    trained = train(collection.documents, queries, collection.qrels, hits, FAST, quiet)
    assert trained.hyperparameters["kind_chosen"] == "fusion"
    assert len(trained.hits["train"]) == len(trained.hits["dev"]) == 0


def test_without_dev_queries_the_choice_is_made_out_of_fold(
    collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    queries = collection.queries.filter(pl.col("split") != "dev")
    trained = train(collection.documents, queries, collection.qrels, hits, FAST, quiet)
    assert collection.ndcg(trained.hits["test"]) > fused(min_max_fusion, collection, hits)


def test_test_judgements_are_not_read(
    collection: Collection, hits: dict[str, pl.DataFrame], trained: TrainingResult[Ranker]
) -> None:
    learned = collection.qrels.filter(~pl.col("query_id").is_in(collection.ids("test")))
    again = train(collection.documents, collection.queries, learned, hits, FAST, quiet)
    assert again.hits["test"].equals(trained.hits["test"])


def test_one_family_alone_is_legal(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    trained = fit(collection, {"keyword": hits["keyword"]})
    assert trained.model.families == ("keyword",)
    assert collection.ndcg(trained.hits["test"]) > collection.ndcg(hits["keyword"])


def test_queries_without_hits_or_judgements_do_no_harm(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    bare = collection.ids("train")[:10] + collection.ids("test")[:10]
    fewer = {family: table.filter(~pl.col("query_id").is_in(bare)) for family, table in hits.items()}
    judged = collection.qrels.filter(~pl.col("query_id").is_in(collection.ids("train")[10:20]))
    trained = train(collection.documents, collection.queries, judged, fewer, FAST, quiet)
    assert set(trained.hits["train"]["query_id"]) == set(collection.ids("train")[10:])
    assert set(trained.hits["test"]["query_id"]) == set(collection.ids("test")[10:])


def test_no_families_are_refused(collection: Collection) -> None:
    with pytest.raises(ValueError, match="at least one family"):
        fit(collection, {})


# A model that memorises: perfect on the queries it has learned, of no use on others.


@pytest.fixture(scope="module")
def in_sample(hits: dict[str, pl.DataFrame], simulate: Search) -> dict[str, pl.DataFrame]:
    return {**hits, "behavior": simulate("memoriser", 0.0, known=("train",))}


@pytest.fixture(scope="module")
def out_of_fold(hits: dict[str, pl.DataFrame], simulate: Search) -> dict[str, pl.DataFrame]:
    return {**hits, "behavior": simulate("memoriser", 0.0)}


@pytest.mark.parametrize("kind", ["auto", "linear"])
def test_in_sample_hits_would_mislead_the_ranker_and_out_of_fold_hits_do_not(
    collection: Collection, in_sample: dict[str, pl.DataFrame], out_of_fold: dict[str, pl.DataFrame], kind: str
) -> None:
    unguarded = FAST.model_copy(update={"max_optimism": 1.0, "kind": kind})
    misled, sound = fit(collection, in_sample, unguarded), fit(collection, out_of_fold, unguarded)
    best_alone = max(collection.ndcg(table) for table in out_of_fold.values())
    assert collection.ndcg(sound.hits["test"]) > best_alone + 0.05
    assert collection.ndcg(misled.hits["test"]) < collection.ndcg(sound.hits["test"]) - 0.2


def test_in_sample_hits_would_put_the_memoriser_first_and_out_of_fold_hits_do_not(
    collection: Collection, in_sample: dict[str, pl.DataFrame], out_of_fold: dict[str, pl.DataFrame]
) -> None:
    unguarded = FAST.model_copy(update={"max_optimism": 1.0, "kind": "linear"})
    weights = []
    for hits in (in_sample, out_of_fold):
        model = fit(collection, hits, unguarded).model
        weights.append(dict(zip(model.families, model.fusion.tolist(), strict=False)))
    in_sample_weights, out_of_fold_weights = weights
    assert max(in_sample_weights, key=in_sample_weights.__getitem__) == "behavior"
    assert min(out_of_fold_weights, key=out_of_fold_weights.__getitem__) == "behavior"


def test_hits_of_a_memoriser_are_refused_before_anything_is_learned(
    collection: Collection, in_sample: dict[str, pl.DataFrame]
) -> None:
    with pytest.raises(OptimismError, match=r"behavior's hits reach nDCG@10 1\.000 on train queries and 0\.\d+ on dev"):
        fit(collection, in_sample)


def test_the_gap_is_reported_by_family(
    trained: TrainingResult[Ranker], collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    gaps = optimism(alone(collection.queries, collection.qrels, hits), bound=0.15)
    assert set(gaps) == {"keyword", "semantic", "behavior"}
    assert max(map(abs, gaps.values())) < 0.15
    assert {f"optimism/{family}": gap for family, gap in gaps.items()}.items() <= trained.hyperparameters.items()


def test_parameters_can_be_written_as_json() -> None:
    assert Parameters.model_validate_json(Parameters().model_dump_json()) == Parameters()


# Clicks: a visitor asks again what behavior knows, its score is far above any out-of-fold one, and that is clicked.

ASKED_AGAIN = 40.0
"""Behavior's raw score of a document that was clicked for the very same query."""


def asked_again(collection: Collection, number: int) -> tuple[str, str, dict[str, tables.Hits]]:
    """A query, the document that is clicked for it, and hits among which only behavior ranks that document high."""
    random = np.random.default_rng(1000 + number)
    doc_ids = random.permutation(collection.documents["doc_id"].sort().to_numpy())[:30].tolist()
    trend = doc_ids[number % 10 + 10]

    def found(scale: float) -> tables.Hits:
        scores = sorted(random.normal(1.0, 1.0, size=len(doc_ids)), reverse=True)
        return [(doc_id, float(scale * score)) for doc_id, score in zip(doc_ids, scores, strict=True)]

    behavior = [(trend, ASKED_AGAIN), *((doc_id, score) for doc_id, score in found(3.0) if doc_id != trend)]
    return f"visitors ask again {number}", trend, {"keyword": found(20.0), "semantic": found(0.1), "behavior": behavior}


@dataclass(frozen=True)
class ClickedPages:
    """What visitors clicked, and what was found for their queries."""

    judged: pl.DataFrame
    asked: list[Asked]


def feedback_of(*pages: tuple[str, str, dict[str, tables.Hits]]) -> ClickedPages:
    """What 40 sessions leave for each query, shown the first ten of a fusion of its hits, who click one."""
    rows = []
    for text, clicked, hits in pages:
        page = [doc_id for doc_id, _ in min_max_fusion(hits) if doc_id != clicked][:9]
        rows += [
            {"query_id": text, "text": text, "doc_id": doc_id, "fold": 0,
             "relevance": 0.95 if doc_id == clicked else 0.05, "examinations": 8.0}
            for doc_id in [*page, clicked]
        ]  # fmt: skip
    return ClickedPages(tables.make("judged", rows), [Asked(text, 0, text, hits) for text, _, hits in pages])


@pytest.fixture(scope="module")
def feedback(collection: Collection) -> ClickedPages:
    return feedback_of(*(asked_again(collection, number) for number in range(60)))


def fit_clicks(
    collection: Collection, hits: dict[str, pl.DataFrame], feedback: ClickedPages, parameters: Parameters = FAST
) -> TrainingResult[Ranker]:
    return train(
        collection.documents, collection.queries, collection.qrels, hits, parameters, quiet,
        judged=feedback.judged, asked=feedback.asked,
    )  # fmt: skip


@pytest.fixture(scope="module")
def clicked(collection: Collection, hits: dict[str, pl.DataFrame], feedback: ClickedPages) -> TrainingResult[Ranker]:
    return fit_clicks(collection, hits, feedback)


def weights(trained: TrainingResult[Ranker]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in trained.model.weights.items()}


def test_clicks_teach_how_far_behavior_can_be_trusted_on_queries_asked_again(
    collection: Collection, trained: TrainingResult[Ranker], clicked: TrainingResult[Ranker]
) -> None:
    new = [asked_again(collection, number) for number in range(100, 130)]
    first = [
        [model.rank(text, union)[0][0] == trend for text, trend, union in new]
        for model in (trained.model, clicked.model)
    ]
    assert sum(first[0]) < 5
    assert sum(first[1]) > 25


def test_what_clicks_teach_costs_no_quality_on_judged_queries(
    collection: Collection, trained: TrainingResult[Ranker], clicked: TrainingResult[Ranker]
) -> None:
    assert collection.ndcg(clicked.hits["test"]) > collection.ndcg(trained.hits["test"]) - 0.01


@pytest.mark.slow
def test_clicks_that_contradict_judgements_unlearn_next_to_nothing(
    collection: Collection, hits: dict[str, pl.DataFrame], trained: TrainingResult[Ranker]
) -> None:
    ids = collection.ids("train")
    vandalised = feedback_of(*(  # vandals, who click what all models put last
        (f"again {collection.text(query_id)}", min_max_fusion(union)[-1][0], union)
        for query_id, union in zip(ids, unions(hits, ids), strict=True)
    ))  # fmt: skip
    guarded = fit_clicks(collection, hits, vandalised)
    assert guarded.hyperparameters["clicked/lists"] == len(ids)
    careless = fit_clicks(
        collection,
        hits,
        vandalised,
        FAST.model_copy(update={"click_caution": 1000.0, "click_steps": 40, "kind": "network"}),
    )
    assert collection.ndcg(careless.hits["test"]) < 0.7
    assert collection.ndcg(guarded.hits["test"]) > collection.ndcg(trained.hits["test"]) - 0.02


def test_it_says_how_much_came_from_judgements_and_how_much_from_clicks(
    trained: TrainingResult[Ranker], clicked: TrainingResult[Ranker]
) -> None:
    told = clicked.hyperparameters
    assert (told["judged/lists"], told["clicked/lists"], told["clicked/documents"]) == (120, 60, 600)
    assert told["clicked/examinations"] == pytest.approx(600 * 8.0)
    assert trained.hyperparameters["clicked/lists"] == 0


@pytest.mark.slow
def test_the_same_clicks_in_another_order_give_the_same_bytes(
    collection: Collection, hits: dict[str, pl.DataFrame], feedback: ClickedPages, clicked: TrainingResult[Ranker]
) -> None:
    shuffled = ClickedPages(feedback.judged.sample(fraction=1, shuffle=True, seed=3), feedback.asked[::-1])
    assert weights(fit_clicks(collection, hits, shuffled)) == weights(clicked)


def test_clicks_for_dev_and_test_queries_teach_nothing(
    collection: Collection, hits: dict[str, pl.DataFrame], trained: TrainingResult[Ranker]
) -> None:
    held_out = [collection.text(query_id).upper() + "?" for query_id in collection.ids("dev") + collection.ids("test")]
    pages = ((text, *asked_again(collection, number)[1:]) for number, text in enumerate(held_out))
    again = fit_clicks(collection, hits, feedback_of(*pages))
    assert weights(again) == weights(trained)
    assert again.hyperparameters["clicked/left out: of dev or test"] == len(held_out)


def test_clicks_of_no_weight_and_of_unknown_hits_teach_nothing(
    collection: Collection, hits: dict[str, pl.DataFrame], feedback: ClickedPages, trained: TrainingResult[Ranker]
) -> None:
    weightless = FAST.model_copy(update={"click_weight": 0.0})
    assert weights(fit_clicks(collection, hits, feedback, weightless)) == weights(trained)
    unknown = fit_clicks(collection, hits, ClickedPages(feedback.judged, []))
    assert weights(unknown) == weights(trained)
    assert unknown.hyperparameters["clicked/left out: of unknown hits"] == 60


def test_a_train_query_is_ordered_by_a_member_that_learned_no_click_for_its_words(
    collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    asked = collection.ids("train")[7]
    text, twin = collection.text(asked), "twin of it"
    queries = pl.concat(
        [collection.queries, _renamed(collection.queries, asked, twin, text=pl.lit(f"{text.upper()}?"))]
    )
    qrels = pl.concat([collection.qrels, _renamed(collection.qrels, asked, twin)])
    both = {family: pl.concat([table, _renamed(table, asked, twin)]) for family, table in hits.items()}
    parameters = FAST.model_copy(update={"kind": "network", "epochs": 1, "click_steps": 1, "click_caution": 99.0})
    orders = []
    for number in (1, 2):  # what was clicked for the query differs, and nothing else does
        clicks = feedback_of((f"{text}!", *asked_again(collection, number)[1:]))
        trained = train(
            collection.documents, queries, qrels, both, parameters, quiet, judged=clicks.judged, asked=clicks.asked
        )
        assert trained.hyperparameters["click_epochs_kept"] == 1
        orders.append(trained.hits["train"])
    for same in (asked, twin):
        one, other = (order.filter(pl.col("query_id") == same) for order in orders)
        assert one.equals(other)
    assert not orders[0].equals(orders[1])


# Without judgements.


def fit_clicks_alone(
    collection: Collection, hits: dict[str, pl.DataFrame], feedback: ClickedPages, parameters: Parameters = FAST
) -> TrainingResult[Ranker]:
    return train(
        collection.documents, collection.queries, collection.qrels.clear(), hits, parameters, quiet,
        judged=feedback.judged, asked=feedback.asked,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unjudged(collection: Collection, hits: dict[str, pl.DataFrame], feedback: ClickedPages) -> TrainingResult[Ranker]:
    return fit_clicks_alone(collection, hits, feedback)


def test_without_judgements_and_clicks_it_is_the_fusion(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    trained = fit_clicks_alone(collection, hits, ClickedPages(tables.empty("judged"), []))
    assert trained.model.kind == "fusion"
    ids = collection.ids("test")
    fused_hits = tables.hits_table(ids, [min_max_fusion(union)[:100] for union in unions(hits, ids)])
    order = trained.hits["test"].sort("query_id", "rank").select("query_id", "doc_id")
    assert order.equals(fused_hits.sort("query_id", "rank").select("query_id", "doc_id"))


def test_without_a_query_it_is_the_fusion_too(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    nothing = {family: table.clear() for family, table in hits.items()}
    trained = train(collection.documents, collection.queries.clear(), collection.qrels.clear(), nothing, FAST, quiet)
    assert trained.model.kind == "fusion" and all(table.is_empty() for table in trained.hits.values())


def test_clicks_alone_teach_and_choose(collection: Collection, unjudged: TrainingResult[Ranker]) -> None:
    told = unjudged.hyperparameters
    assert unjudged.model.kind != "fusion" and told["judged/lists"] == 0
    assert told[f"out_of_fold/{unjudged.model.kind}"] > told["out_of_fold/fusion"] + 0.1
    new = [asked_again(collection, number) for number in range(100, 130)]
    first = [unjudged.model.rank(text, union)[0][0] == trend for text, trend, union in new]
    assert sum(first) > 25


def test_clicks_that_teach_nothing_leave_the_fusion(collection: Collection, hits: dict[str, pl.DataFrame]) -> None:
    random = np.random.default_rng(5)
    pages = []
    for number in range(60):
        text, _, union = asked_again(collection, number)
        page = [doc_id for doc_id, _ in min_max_fusion(union)[:9]]
        pages.append((text, page[random.integers(len(page))], union))
    trained = fit_clicks_alone(collection, hits, feedback_of(*pages))
    gain = trained.hyperparameters["out_of_fold/network"] - trained.hyperparameters["out_of_fold/fusion"]
    assert trained.model.kind == "fusion" or gain > 0


def test_the_same_clicks_alone_give_the_same_bytes(
    collection: Collection, hits: dict[str, pl.DataFrame], feedback: ClickedPages, unjudged: TrainingResult[Ranker]
) -> None:
    shuffled = ClickedPages(feedback.judged.sample(fraction=1, shuffle=True, seed=3), feedback.asked[::-1])
    assert weights(fit_clicks_alone(collection, hits, shuffled)) == weights(unjudged)


def test_clicks_alone_teach_nothing_of_dev_and_test_queries(
    collection: Collection, hits: dict[str, pl.DataFrame]
) -> None:
    held_out = [collection.text(query_id).upper() + "?" for query_id in collection.ids("dev") + collection.ids("test")]
    pages = ((text, *asked_again(collection, number)[1:]) for number, text in enumerate(held_out))
    again = fit_clicks_alone(collection, hits, feedback_of(*pages))
    assert again.model.kind == "fusion" and again.hyperparameters["clicked/lists"] == 0


def _renamed(table: pl.DataFrame, query_id: str, new: str, **columns: pl.Expr) -> pl.DataFrame:
    """The rows of a query under another query's id."""
    return table.filter(pl.col("query_id") == query_id).with_columns(query_id=pl.lit(new), **columns)
