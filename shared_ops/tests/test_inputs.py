"""What people asked reaches the ranker with hits of models that had not learned from the same sessions."""

import json
from datetime import UTC, datetime

import pytest

from shared_ops import tables
from shared_ops.feedback import HELD_BACK, TABLES, FeedbackManifest, Feedbacks
from shared_ops.inputs import Inputs, asked_id
from shared_ops.releases import ReleaseManifest, Staging
from shared_ops.training import fold_of

SERVED = {
    "keyword": [("numpy.mean", 3.0), ("gone", 2.0)],
    "behavior": [("numpy.std", 1.0)],
    "retired": [("numpy.sort", 1.0)],
}


@pytest.fixture
def inputs(tmp_path, snapshot) -> Inputs:
    """A ranker's, whose behavior release knows what was asked in fold 1, and not yet what was asked last."""
    hits = {
        family: dict(zip(("doc_ids", "scores"), zip(*found, strict=True), strict=True))
        for family, found in SERVED.items()
    }
    content = {name: tables.empty(name) for name in TABLES}
    content["asked"] = tables.make(
        "asked",
        [{"query_id": "q", "text": "mean", "fold": fold, "hits": json.dumps(hits)} for fold in (1, HELD_BACK)],
    )
    manifest = FeedbackManifest(
        applications={}, left_out={}, propensities=[], held_back_sessions=1, oldest=None, newest=None, watermark=1
    )
    feedback = Feedbacks((tmp_path / "feedback").as_uri()).publish(content, manifest)
    staging = Staging((tmp_path / "staging").as_uri())
    for family in ("keyword", "behavior"):
        folder = tmp_path / family / "hits"
        folder.mkdir(parents=True)
        answered = [("numpy.median", 9.0), ("gone", 8.0)]
        if family == "behavior":
            tables.hits_table([asked_id("q", 1)], [answered]).write_parquet(folder / "asked.parquet")
        (folder.parent / "model.json").write_text("{}")
        staging.publish(folder.parent, _manifest(family, snapshot))
    releases = {"keyword": "v1", "behavior": "v1"}
    return Inputs(family="ranker", snapshot=snapshot, feedback=feedback, releases=releases, staging=staging.url)


def _manifest(family, snapshot) -> ReleaseManifest:
    return ReleaseManifest(
        family=family, version="v1", created_at=datetime(2026, 1, 1, tzinfo=UTC), snapshot=snapshot, parameters={},
        hyperparameters={}, metrics={}, gate={"accepted": True, "reasons": []}, environment="e", code_version="c",
        deployment="dev", run_id="r",
    )  # fmt: skip


def test_who_learns_from_clicks_is_asked_again_and_of_the_others_it_is_what_was_served(inputs):
    asked = {each.fold: each for each in inputs.asked()}
    assert asked[1].text == "mean"
    assert asked[1].hits == {"keyword": [("numpy.mean", 3.0)], "behavior": [("numpy.median", 9.0)]}


def test_what_a_release_does_not_know_yet_is_what_was_served(inputs):
    asked = {each.fold: each for each in inputs.asked()}
    assert asked[HELD_BACK].hits["behavior"] == [("numpy.std", 1.0)]


def test_without_feedback_nothing_was_asked(inputs):
    assert inputs.model_copy(update={"feedback": None}).asked() == []


def test_equal_texts_are_in_one_fold_and_many_texts_fill_all():
    folds = [fold_of(f"query {number}", 5) for number in range(200)]
    assert folds == [fold_of(f"query {number}", 5) for number in range(200)]
    assert set(folds) == set(range(5))
