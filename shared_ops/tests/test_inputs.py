"""The queries that people asked reach the ranker with hits of models that had not learned from the same sessions."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared_ops.data import storage, tables
from shared_ops.data.feedback import HELD_BACK, TABLES, FeedbackManifest, Feedbacks
from shared_ops.data.snapshots import SnapshotRef, Snapshots
from shared_ops.data.text import fold_of
from shared_ops.release.inputs import Inputs, MissingInputError, asked_id, find
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import search_families

SERVED = {
    "keyword": [("numpy.mean", 3.0), ("gone", 2.0)],
    "behavior": [("numpy.std", 1.0)],
    "retired": [("numpy.sort", 1.0)],
}


@pytest.fixture
def inputs(tmp_path: Path, snapshot: SnapshotRef) -> Inputs:
    """A ranker's inputs, whose behavior release knows the query of fold 1, but not yet that of the newest sessions."""
    hits = {
        family: dict(zip(("doc_ids", "scores"), zip(*pairs, strict=True), strict=True))
        for family, pairs in SERVED.items()
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
        if family == "behavior":
            pairs = [("numpy.median", 9.0), ("gone", 8.0)]
            tables.hits_table([asked_id("q", 1)], [pairs]).write_parquet(folder / "asked.parquet")
        (folder.parent / "model.json").write_text("{}")
        staging.publish(folder.parent, _manifest(family, snapshot))
    releases = {"keyword": "v1", "behavior": "v1"}
    return Inputs(family="ranker", snapshot=snapshot, feedback=feedback, releases=releases, staging=staging.url)


def _manifest(family: str, snapshot: SnapshotRef) -> ReleaseManifest:
    return ReleaseManifest(
        family=family, version="v1", created_at=datetime(2026, 1, 1, tzinfo=UTC), snapshot=snapshot, parameters={},
        hyperparameters={}, metrics={}, gate={"accepted": True, "reasons": []}, environment="e", code_version="c",
        deployment="dev", run_id="r",
    )  # fmt: skip


def test_who_learns_from_clicks_is_asked_again_and_of_the_others_it_is_what_was_served(inputs: Inputs) -> None:
    queries = {each.fold: each for each in inputs.asked()}
    assert queries[1].text == "mean"
    assert queries[1].hits == {"keyword": [("numpy.mean", 3.0)], "behavior": [("numpy.median", 9.0)]}


def test_what_a_release_does_not_know_yet_is_what_was_served(inputs: Inputs) -> None:
    queries = {each.fold: each for each in inputs.asked()}
    assert queries[HELD_BACK].hits["behavior"] == [("numpy.std", 1.0)]


def test_hits_that_somebody_put_into_a_release_teach_nobody(inputs: Inputs) -> None:
    folder = storage.local_path(Staging(inputs.staging).release_url("keyword", "v1")) / "hits"
    folder.mkdir(exist_ok=True)
    tables.hits_table([asked_id("q", 1)], [[("numpy.sort", 9.0)]]).write_parquet(folder / "asked.parquet")
    with pytest.raises(ReleaseError, match=r"keyword/v1 .* does not name: hits/asked\.parquet"):
        inputs.asked()


def test_a_release_s_files_are_hashed_once_for_a_process(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs.asked()
    monkeypatch.setattr(storage, "sha256", lambda path: pytest.fail(f"{path} is read once more"))
    assert len(inputs.asked()) == 2


def test_without_feedback_nothing_was_asked(inputs: Inputs) -> None:
    assert inputs.model_copy(update={"feedback": None}).asked() == []


def test_equal_texts_are_in_one_fold_and_many_texts_fill_all() -> None:
    folds = [fold_of(f"query {number}", 5) for number in range(200)]
    assert folds == [fold_of(f"query {number}", 5) for number in range(200)]
    assert set(folds) == set(range(5))


# The message where something is missing.


@pytest.fixture
def missing(tmp_path: Path, snapshots: Snapshots, snapshot: SnapshotRef) -> tuple[Staging, Callable[[], str]]:
    """A staging area for the search families' releases, and a function: why `find` has no inputs for the ranker."""
    snapshots.point_to(snapshot)
    staging = Staging((tmp_path / "releases").as_uri())

    def message() -> str:
        with pytest.raises(MissingInputError) as error:
            find("ranker", snapshots, None, staging)
        return str(error.value)

    return staging, message


def published(
    staging: Staging, tmp_path: Path, snapshot: SnapshotRef, family: str, **gate: bool | list[str]
) -> ReleaseManifest:
    manifest = ReleaseManifest(
        family=family, version="v1", created_at=datetime.now(UTC), snapshot=snapshot, parameters={},
        hyperparameters={}, metrics={}, gate=gate, environment="e", code_version="c", deployment="prod", run_id="r",
    )  # fmt: skip
    folder = tmp_path / f"made-{family}"
    folder.mkdir()
    return staging.publish(folder, manifest)


def test_who_has_no_release_is_to_be_trained(missing: tuple[Staging, Callable[[], str]]) -> None:
    _, message = missing
    assert "keyword has no accepted release" in message() and "make train REPO=keyword" in message()


def test_who_was_rejected_is_told_why_and_not_to_try_the_same_again(
    missing: tuple[Staging, Callable[[], str]], tmp_path: Path, snapshot: SnapshotRef
) -> None:
    staging, message = missing
    published(staging, tmp_path, snapshot, "keyword", accepted=False, reasons=["Every hit has the same score."])
    assert message().endswith("keyword/v1 was rejected: Every hit has the same score. Change that, then: make train.")


def test_a_family_that_was_added_is_not_waited_for_while_a_set_does_without_it(
    missing: tuple[Staging, Callable[[], str]], tmp_path: Path, snapshot: SnapshotRef, snapshots: Snapshots
) -> None:
    staging, _ = missing
    for family in ("semantic", "behavior"):
        staging.accept(published(staging, tmp_path, snapshot, family, accepted=True, reasons=[]))
    sets = LiveSets(staging.url)
    sets.go_live(sets.propose({"semantic": "v1", "behavior": "v1", "ranker": "r1"}, snapshot, "without keyword"))
    assert find("ranker", snapshots, None, staging).releases == {"semantic": "v1", "behavior": "v1"}
    staging.accept(published(staging, tmp_path, snapshot, "keyword", accepted=True, reasons=[]))
    assert list(find("ranker", snapshots, None, staging).releases) == search_families()


def test_a_family_of_the_live_set_is_waited_for(
    missing: tuple[Staging, Callable[[], str]], snapshot: SnapshotRef
) -> None:
    staging, message = missing
    sets = LiveSets(staging.url)
    sets.go_live(sets.propose(dict.fromkeys(["keyword", "ranker"], "v1"), snapshot, "with keyword"))
    assert "keyword has no accepted release" in message()


def test_an_accepted_release_is_what_the_advice_was_about(
    missing: tuple[Staging, Callable[[], str]], tmp_path: Path, snapshot: SnapshotRef
) -> None:
    staging, message = missing
    staging.accept(published(staging, tmp_path, snapshot, "keyword", accepted=True, reasons=[]))
    assert "keyword" not in message().split("has no accepted release")[0]
