"""Features that were served and those that training computes are compared bit by bit, through JSON and tables."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from repos.ranker.checks import logged_spaces
from repos.ranker.features import FeatureSpace
from repos.ranker.skew import Unequal, compare
from repos.ranker.tests.conftest import Collection, unions
from shared_ops.data import tables
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release.codes import code_version
from shared_ops.release.releases import ReleaseManifest, Staging

SHOWN = 10
NEW = "newer than the release"

Change = Callable[[str, list[list[float]]], object]
Requests = Callable[..., pl.DataFrame]


@pytest.fixture(scope="module")
def space(collection: Collection) -> FeatureSpace:
    return FeatureSpace.build(collection.documents, {"behavior": 0.1, "keyword": 0.5, "semantic": 0.4})


@pytest.fixture
def requests(space: FeatureSpace, collection: Collection, hits: dict[str, pl.DataFrame]) -> Requests:
    """requests(change) gives the `requests` table of some searches, each logged as JSON after `change`."""

    def make(change: Change = lambda query_id, features: None) -> pl.DataFrame:
        rows = []
        for query_id, union in zip(ids := collection.ids("test")[:5], unions(hits, ids), strict=True):
            union = union | {"behavior": [*union["behavior"], (NEW, 0.1 + 0.2)]}
            served = space.candidates(collection.text(query_id), union)
            shown = [served.doc_ids.index(NEW), *range(SHOWN - 1)]  # first the one of which nothing is known
            features = served.features[shown].tolist()
            change(query_id, features)
            rows.append({
                "query_id": query_id, "text": collection.text(query_id), "ranker": "ranker-1",
                "doc_ids": [served.doc_ids[row] for row in shown], "features": json.loads(json.dumps(features)),
                "hits": json.dumps({
                    family: {"doc_ids": [doc_id for doc_id, _ in best], "scores": [score for _, score in best]}
                    for family, best in union.items()
                }),
            })  # fmt: skip
        return tables.make("requests", rows)

    return make


def test_what_was_served_is_what_training_computes_to_the_last_bit(requests: Requests, space: FeatureSpace) -> None:
    skew = compare(requests(), {"ranker-1": space}.get)
    assert (skew.compared, skew.unequal, skew.skipped) == (5, 0, 0)
    assert skew.largest_difference == 0 and skew.examples == []


def test_what_was_not_known_may_be_logged_as_null(requests: Requests, space: FeatureSpace) -> None:
    def nulled(query_id: str, features: list[list[float]]) -> None:
        features[0] = [None if np.isnan(value) else value for value in features[0]]

    assert compare(requests(nulled), {"ranker-1": space}.get).unequal == 0


def test_one_changed_value_is_found_and_named(requests: Requests, space: FeatureSpace, collection: Collection) -> None:
    changed, column = collection.ids("test")[3], space.names.index("raw: keyword")

    def nudged(query_id: str, features: list[list[float]]) -> None:
        if query_id == changed:
            before.append(features[4][column])
            features[4][column] = float(np.nextafter(np.float32(before[0]), np.float32(np.inf)))

    before: list[float] = []
    table = requests(nudged)
    skew = compare(table, {"ranker-1": space}.get)
    assert (skew.compared, skew.unequal) == (5, 1)
    (difference,) = skew.examples
    assert (difference.query_id, difference.feature, difference.trained) == (changed, "raw: keyword", before[0])
    assert difference.doc_id == table.row(by_predicate=pl.col("query_id") == changed, named=True)["doc_ids"][4]
    assert 0 < skew.largest_difference == difference.served - difference.trained < 1e-5


def test_a_value_that_was_not_known_and_now_is_differs(requests: Requests, space: FeatureSpace) -> None:
    column = space.names.index("raw: keyword")
    skew = compare(requests(lambda _, features: features[1].__setitem__(column, float("nan"))), lambda _: space)
    assert skew.unequal == 5
    assert {(each.feature, each.served) for each in skew.examples} == {("raw: keyword", None)}
    assert skew.largest_difference == 0


def test_other_columns_and_documents_out_of_nowhere_differ(requests: Requests, space: FeatureSpace) -> None:
    short = compare(requests(lambda _, features: features[2].pop()), lambda _: space)
    assert {(each.feature, each.served) for each in short.examples} == {("number of features", len(space.names) - 1)}
    strange = requests().with_columns(hits=requests()["hits"].str.replace_all(NEW, "another"))
    assert compare(strange, lambda _: space).examples[0] == Unequal(
        strange["query_id"][0], NEW, "is among the hits", 1.0, 0.0
    )


def test_requests_of_a_ranker_that_is_gone_are_skipped_and_counted(requests: Requests) -> None:
    skew = compare(requests(), lambda release: None)
    assert (skew.compared, skew.unequal, skew.skipped) == (0, 0, 5)
    assert compare(tables.empty("requests"), lambda release: None).compared == 0


def test_examples_are_few(requests: Requests, space: FeatureSpace) -> None:
    skew = compare(requests(lambda _, features: features.__setitem__(1, [9.0] * len(space.names))), lambda _: space)
    assert skew.unequal == 5 and len(skew.examples) == 20


@pytest.mark.parametrize(
    ("family", "code", "counts"),
    [
        ("ranker", code_version("ranker"), (5, 0, 0)),
        ("ranker", "of before", (0, 0, 5)),
        ("another", code_version("ranker"), (0, 0, 5)),
    ],
)
def test_requests_of_other_code_or_another_ranker_are_skipped_whose_features_are_others_by_intent(
    requests: Requests, space: FeatureSpace, tmp_path: Path, family: str, code: str, counts: tuple[int, int, int]
) -> None:
    (folder := tmp_path / "release").mkdir()
    space.save(folder)
    staging = Staging((tmp_path / "staging").as_uri())
    staging.publish(
        folder,
        ReleaseManifest(
            family=family, version="ranker-1", created_at=datetime.now(UTC), snapshot=SnapshotRef(id="s", url="file:///s"),
            parameters={}, hyperparameters={}, metrics={}, gate={"accepted": True}, environment="", code_version=code,
            deployment="prod", run_id="r",
        ),
    )  # fmt: skip
    skew = compare(requests(), logged_spaces(["ranker-1"], staging.url).get)
    assert (skew.compared, skew.unequal, skew.skipped) == counts
