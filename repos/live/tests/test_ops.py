"""What moves the live set: a new snapshot at once, a new ranker once its whole holds end to end, and the way back."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    ExecuteInProcessResult,
    JobDefinition,
    build_op_context,
)

from repos.live import ops
from repos.live.graph import holding, promote_by_hand_prod, promotion_prod, rollback_prod, show_snapshot_prod
from repos.live.ops import PromoteConfig, ShowConfig, promote, show
from shared_ops.data import storage, tables
from shared_ops.data.feedback import TABLES, FeedbackManifest, FeedbackRef, Feedbacks
from shared_ops.data.snapshots import SnapshotRef, Snapshots
from shared_ops.pipeline.io_manager import json_io_manager
from shared_ops.pipeline.lineage import live_set_key, proposed_set_key
from shared_ops.pipeline.references import HELD, OVERTAKEN, VERDICT, JudgedSet
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.release import overrides, promotion
from shared_ops.release.inputs import Inputs
from shared_ops.release.livesets import LiveSet
from shared_ops.release.promotion import OvertakenError, PromotionError
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import families, search_families
from tests.lists import list_another_ranker

RELEASES = {family: "v1" for family in families()}

MakeRanker = Callable[..., ReleaseManifest]


@pytest.fixture
def deployment() -> DeploymentResource:
    return DeploymentResource(name="prod", services=False)


@pytest.fixture
def live(deployment: DeploymentResource, snapshot: SnapshotRef, tmp_path: Path) -> LiveSet:
    """A live set; of its releases the ranker's is there."""
    folder, sets = tmp_path / "first", deployment.live_sets
    folder.mkdir()
    deployment.staging.publish(folder, manifest("v1", snapshot, dict.fromkeys(search_families(), "v1")))
    sets.go_live(sets.propose(RELEASES, snapshot, "first"))
    return sets.live()


def manifest(
    version: str,
    snapshot: SnapshotRef,
    learned_from: dict[str, str],
    feedback: FeedbackRef | None = None,
    family: str = "ranker",
) -> ReleaseManifest:
    return ReleaseManifest(
        family=family, version=version, created_at=datetime.now(UTC), snapshot=snapshot, learned_from=learned_from,
        parameters={}, hyperparameters={}, metrics={}, gate={"accepted": True, "reasons": []}, environment="e",
        code_version="c", deployment="prod", run_id="r", feedback=feedback,
    )  # fmt: skip


def shown(deployment: DeploymentResource, snapshot: SnapshotRef, **config: float) -> LiveSet | None:
    show(build_op_context(), ShowConfig(**config), deployment, snapshot)
    return deployment.live_sets.live()


def without(content: dict[str, pl.DataFrame], doc_ids: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The corpus after these documents have left it."""
    gone = pl.col("doc_id").is_in(doc_ids)
    return content | {name: content[name].filter(~gone) for name in ("documents", "qrels")}


def test_what_left_the_corpus_leaves_the_live_set_with_the_next_snapshot(
    deployment: DeploymentResource, live: LiveSet, snapshots: Snapshots, content: dict[str, pl.DataFrame]
) -> None:
    smaller = snapshots.publish(without(content, ["numpy.cumsum"]))
    moved = shown(deployment, smaller)
    assert moved.snapshot == smaller and moved.releases == RELEASES and moved.number == live.number + 1


def test_a_snapshot_that_takes_away_most_waits_for_new_models(
    deployment: DeploymentResource, live: LiveSet, snapshots: Snapshots, content: dict[str, pl.DataFrame]
) -> None:
    tiny = snapshots.publish(without(content, content["documents"]["doc_id"].to_list()[:5]))
    assert shown(deployment, tiny) == live
    assert shown(deployment, tiny, max_removed_share=1.0).snapshot == tiny


def test_the_same_snapshot_again_changes_nothing(
    deployment: DeploymentResource, live: LiveSet, snapshot: SnapshotRef
) -> None:
    assert shown(deployment, snapshot) == live


def test_before_the_first_set_there_is_nothing_to_change(deployment: DeploymentResource, snapshot: SnapshotRef) -> None:
    assert shown(deployment, snapshot) is None


@dataclass(frozen=True)
class Lookup:
    """A ranker that orders what it was told to, by query id."""

    order: dict[str, list[str]]

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        ids = queries["query_id"].to_list()
        return tables.hits_table(ids, [[(doc, 1.0) for doc in self.order.get(query_id, [])] for query_id in ids])


@pytest.fixture(autouse=True)
def lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases here hold no code that would answer: what their files say stands for it."""

    @contextmanager
    def answering(staging: Staging, inputs: Inputs, version: str) -> Iterator[Lookup]:
        folder = staging.fetch(inputs.family, version)
        yield Lookup(json.loads((folder / "newest.json").read_text()))

    monkeypatch.setattr(ops, "answering", answering)


PROMOTION, ROLLBACK, SHOWING = promotion_prod, rollback_prod, show_snapshot_prod
GOOD = [("q4", "numpy.median"), ("q5", "numpy.argsort"), ("q6", "numpy.linalg.norm")]
BAD = [("q4", "numpy.cumsum"), ("q5", "numpy.cumsum"), ("q6", "numpy.cumsum")]
ALL = {"gate_set": {"config": {"margin": 0.9, "alpha": 0.1}}}
"""Three queries rule out little."""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def ranker(deployment: DeploymentResource, snapshot: SnapshotRef, tmp_path: Path) -> MakeRanker:
    """Publishes an accepted ranker, of the family `ranker` or another one, that orders the test queries so."""

    def make(
        version: str,
        order: Sequence[tuple[str, str]],
        newest: Sequence[tuple[str, str]] = (),
        feedback: FeedbackRef | None = None,
        snapshot: SnapshotRef = snapshot,
        family: str = "ranker",
        **learned_from: str,
    ) -> ReleaseManifest:
        folder = tmp_path / f"{family}-{version}"
        folder.mkdir()
        (folder / "newest.json").write_text(json.dumps({query: [doc] for query, doc in newest}))
        for split in ("train", "dev", "test"):
            rows = [(query, doc, 1.0, 1) for query, doc in order] if split == "test" else []
            hits = pl.DataFrame(rows, schema=tables.empty("hits").schema, orient="row")
            tables.write(storage.join(folder.as_uri(), "hits", f"{split}.parquet"), hits)
        upstream = dict.fromkeys(search_families(), "v1") | learned_from
        made = manifest(version, snapshot, upstream, feedback, family)
        deployment.staging.accept(deployment.staging.publish(folder, made))
        return made

    return make


def run(job: JobDefinition, instance: DagsterInstance, ops: dict[str, Any] | None = None) -> ExecuteInProcessResult:
    resources = {"deployment": DeploymentResource(name="prod", services=False), "io_manager": json_io_manager}
    return job.execute_in_process(run_config={"ops": ops or {}}, instance=instance, resources=resources)


def events(result: ExecuteInProcessResult, kind: str) -> list[Any]:
    return [event for event in result.all_events if event.event_type_value == kind]


def checks(result: ExecuteInProcessResult) -> list[Any]:
    return [event.event_specific_data for event in events(result, "ASSET_CHECK_EVALUATION")]


def materialized(result: ExecuteInProcessResult) -> list[AssetKey]:
    return [e.event_specific_data.materialization.asset_key for e in events(result, "ASSET_MATERIALIZATION")]


@pytest.mark.slow
def test_a_set_that_is_better_end_to_end_goes_live(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    ranker("r1", BAD)
    assert materialized(run(PROMOTION, instance, ALL)) == [proposed_set_key("prod"), live_set_key("prod")]
    ranker("r2", GOOD)
    (check,) = checks(run(PROMOTION, instance, ALL))
    assert check.asset_key == proposed_set_key("prod")
    assert check.passed and check.check_name == "end_to_end" and "against 0.0000 of set 1" in check.description
    live = deployment.live_sets.live()
    assert live.number == 2 and live.releases["ranker"] == "r2"
    assert deployment.live_sets.decision("r2").set_number == 2


def test_a_set_that_is_worse_end_to_end_never_goes_live_and_says_why(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    """Its ranker passed its own gate, on the hits of other models."""
    ranker("r1", GOOD)
    run(PROMOTION, instance, ALL)
    ranker("r2", BAD, keyword="v2")
    result = run(PROMOTION, instance, ALL)
    (check,) = checks(result)
    assert not check.passed and check.asset_key == proposed_set_key("prod")
    assert materialized(result) == [proposed_set_key("prod")]  # red is what was proposed, not what is live
    assert instance.get_run_by_id(result.run_id).tags[VERDICT] == "rejected"
    assert deployment.live_sets.live().releases["ranker"] == "r1"
    decision = deployment.live_sets.decision("r2")
    assert not decision.accepted and "Rejected: nDCG@10 0.0000" in decision.reason


def test_only_queries_that_both_sets_were_asked_are_compared(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    ranker("r1", GOOD[:2])
    run(PROMOTION, instance, ALL)
    ranker("r2", GOOD[1:])
    (check,) = checks(run(PROMOTION, instance, ALL))
    assert check.metadata["queries"].value == 1


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of a second ranker's family."""
    return list_another_ranker(monkeypatch, tmp_path)


SURE = {"gate_set": {"config": {"margin": 0.9, "alpha": 0.2}}}
"""Three queries that are all answered better are surely so at this level."""


def test_a_ranker_of_another_family_that_is_as_good_takes_no_place(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker, another: str
) -> None:
    """Where the same family's would: else two good rankers would take turns."""
    ranker("r1", GOOD)
    run(PROMOTION, instance, SURE)
    ranker("a1", GOOD, family=another)
    (check,) = checks(run(PROMOTION, instance, SURE))
    assert not check.passed
    assert "To take the place of ranker, another family, it has to rule out any loss. Rejected" in check.description
    assert check.description.endswith("A loss of any size is not ruled out at 0.2.")
    assert deployment.live_sets.decision("a1").rival == "ranker"
    ranker("r2", GOOD)
    (check,) = checks(run(PROMOTION, instance, SURE))
    assert check.passed and "another family" not in check.description


def test_a_ranker_of_another_family_that_is_better_takes_the_place_and_a_rollback_takes_it_back(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker, another: str
) -> None:
    ranker("r1", BAD)
    run(PROMOTION, instance, SURE)
    ranker("a1", GOOD, family=another)
    (check,) = checks(run(PROMOTION, instance, SURE))
    live, sets = deployment.live_sets.live(), deployment.live_sets
    assert (
        check.passed
        and live.ranker == another
        and live.releases == dict.fromkeys(search_families(), "v1") | {another: "a1"}
    )
    ranker("r2", GOOD)
    (check,) = checks(run(PROMOTION, instance, SURE))
    assert not check.passed and sets.decision("r2").rival == another
    run(ROLLBACK, instance)
    assert sets.live().ranker == "ranker" and sets.live().releases["ranker"] == "r1"
    assert all(promotion.promotion_obstacles(deployment.staging, sets).values()), "nothing comes again by itself"


def test_a_ranker_that_is_listed_no_more_gives_way_to_one_that_is_as_good(
    deployment: DeploymentResource,
    instance: DagsterInstance,
    ranker: MakeRanker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Though that was decided upon before: rejected against it, or replaced by it."""
    ranker("r1", BAD)
    run(PROMOTION, instance, SURE)
    sets, staging = deployment.live_sets, deployment.staging
    with monkeypatch.context() as listed:
        another = list_another_ranker(listed, tmp_path)
        ranker("a1", GOOD, family=another)
        run(PROMOTION, instance, SURE)
        assert "was decided upon" in promotion.promotion_obstacle(staging, sets, "ranker")
        ranker("r2", GOOD)
        run(PROMOTION, instance, SURE)
        assert "was decided upon" in promotion.promotion_obstacle(staging, sets, "ranker")
        assert sets.live().ranker == another
    assert promotion.promotion_obstacles(staging, sets) == {"ranker": None}
    staging.accept(staging.manifest("ranker", "r1"))
    (check,) = checks(run(PROMOTION, instance, {"gate_set": {"config": {"margin": 0.1}}}))
    assert not check.passed and "was decided upon" in promotion.promotion_obstacle(staging, sets, "ranker")
    staging.accept(staging.manifest("ranker", "r2"))
    (check,) = checks(run(PROMOTION, instance, SURE))
    assert check.passed and sets.live().releases["ranker"] == "r2"


def test_a_ranker_of_another_family_stays_out_where_nothing_can_be_judged(
    deployment: DeploymentResource,
    instance: DagsterInstance,
    ranker: MakeRanker,
    another: str,
    snapshots: Snapshots,
    content: dict[str, pl.DataFrame],
) -> None:
    unjudged = snapshots.publish(content | {"qrels": content["qrels"].clear()})
    ranker("r1", GOOD, snapshot=unjudged)
    run(PROMOTION, instance, SURE)
    ranker("a1", GOOD, snapshot=unjudged, family=another)
    (check,) = checks(run(PROMOTION, instance, SURE))
    assert not check.passed and "nothing was judged. A loss of any size is not ruled out" in check.description
    ranker("r2", GOOD, snapshot=unjudged)
    (check,) = checks(run(PROMOTION, instance, SURE))
    assert check.passed and deployment.live_sets.live().releases["ranker"] == "r2"


def test_the_clicks_of_the_newest_sessions_judge_a_ranker_that_learns_from_none(
    deployment: DeploymentResource,
    instance: DagsterInstance,
    ranker: MakeRanker,
    another: str,
    snapshots: Snapshots,
    content: dict[str, pl.DataFrame],
    feedback: FeedbackRef,
) -> None:
    unjudged = snapshots.publish(content | {"qrels": content["qrels"].clear()})
    deployment.feedback.point_to(feedback, watermark=1)
    ranker("r1", [], OTHERS, feedback, snapshot=unjudged)
    run(PROMOTION, instance, SURE)
    ranker("a1", [], CLICKED, snapshot=unjudged, family=another)
    (check,) = checks(run(PROMOTION, instance, SURE))
    assert check.passed and check.metadata["queries"].value == len(CLICKED)
    assert deployment.live_sets.live().ranker == another


def test_of_several_rankers_the_first_that_is_undecided_is_judged_unless_one_is_named(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker, another: str
) -> None:
    ranker("r1", GOOD)
    ranker("a1", GOOD, family=another)
    for _ in range(2):
        run(PROMOTION, instance, SURE)
    assert deployment.live_sets.live().ranker == "ranker" and deployment.live_sets.decision("a1").rival == "ranker"
    with pytest.raises(ReleaseError, match=r"no ranker to decide upon.* the accepted ranker r1.* another/a1"):
        run(PROMOTION, instance, SURE)
    named = run(PROMOTION, instance, SURE | found("accepted_ranker", family=another))
    assert not checks(named)[0].passed
    with pytest.raises(ReleaseError, match="family: expected one of ranker, another, got keyword"):
        run(PROMOTION, instance, SURE | found("accepted_ranker", family="keyword"))


CLICKED = [("asked:0", "numpy.mean"), ("asked:1", "numpy.sort"), ("asked:2", "numpy.std"), ("asked:3", "numpy.unique")]
OTHERS = [(query_id, "numpy.cumsum") for query_id, _ in CLICKED]


@pytest.fixture
def feedback(tmp_path: Path) -> FeedbackRef:
    """The newest sessions asked four queries, and clicked a document for each."""
    content = {name: tables.empty(name) for name in TABLES}
    content["newest"] = tables.make(
        "newest",
        [
            {"query_id": query_id, "text": f"text of {query_id}", "doc_id": doc_id, "grade": 1}
            for query_id, doc_id in CLICKED
        ],
    )
    manifest = FeedbackManifest(
        applications={}, left_out={}, propensities=[], held_back_sessions=2, oldest=None, newest=None, watermark=1
    )
    return Feedbacks((tmp_path / "feedback").as_uri()).publish(content, manifest)


@pytest.mark.slow
def test_the_newest_sessions_judge_sets_where_no_test_query_is_judged(
    deployment: DeploymentResource,
    instance: DagsterInstance,
    ranker: MakeRanker,
    snapshots: Snapshots,
    content: dict[str, pl.DataFrame],
    feedback: FeedbackRef,
) -> None:
    unjudged = snapshots.publish(content | {"qrels": content["qrels"].clear()})
    ranker("r1", [], OTHERS, snapshot=unjudged)
    run(PROMOTION, instance, ALL)
    ranker("r2", [], CLICKED, feedback, snapshot=unjudged)
    (check,) = checks(run(PROMOTION, instance, ALL))
    assert check.passed and "nDCG@10 1.0000 against 0.0000 of set 1 on 4 queries" in check.description
    ranker("r3", [], OTHERS, feedback, snapshot=unjudged)
    (check,) = checks(run(PROMOTION, instance, ALL))
    assert not check.passed and deployment.live_sets.live().releases["ranker"] == "r2"


def test_the_newest_sessions_judge_beside_the_test_queries(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker, feedback: FeedbackRef
) -> None:
    ranker("r1", GOOD, OTHERS)
    run(PROMOTION, instance, ALL)
    ranker("r2", GOOD, CLICKED, feedback)
    (check,) = checks(run(PROMOTION, instance, ALL))
    assert check.metadata["queries"].value == 7 and check.metadata["gained"].value == 4


@pytest.mark.slow
def test_the_job_rolls_back_and_what_it_took_back_stays_back(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    for version in ("r1", "r2"):
        ranker(version, GOOD)
        run(PROMOTION, instance, ALL)
    run(ROLLBACK, instance)
    assert deployment.live_sets.live().releases["ranker"] == "r1" == deployment.staging.accepted("ranker")
    deployment.staging.accept(deployment.staging.manifest("ranker", "r2"))
    with pytest.raises(PromotionError, match="was rolled back"):
        run(PROMOTION, instance, ALL)
    assert deployment.live_sets.live().releases["ranker"] == "r1"
    assert "rolled back" in deployment.live_sets.decision("r2").reason


@pytest.mark.slow
def test_the_newest_releases_and_whatever_a_kept_set_needs_are_kept(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    few = ALL | {"promote": {"config": {"kept_releases": 2, "kept_sets": 2}}}
    for number in range(1, 6):
        ranker(f"r{number}", GOOD)
        run(PROMOTION, instance, few)
    assert deployment.live_sets.numbers() == [4, 5] and deployment.staging.versions("ranker") == ["r4", "r5"]
    run(ROLLBACK, instance)
    for number in range(6, 9):
        ranker(f"r{number}", GOOD)
    assert deployment.staging.tidy("ranker", keep=1, needed={"r4"}) == ["r5", "r6", "r7"]
    assert deployment.staging.versions("ranker") == ["r4", "r8"]


def found(op: str, **config: str) -> dict[str, Any]:
    """The configuration of the ops of a run whose trigger found this."""
    return {op: {"config": config}}


def overtaken(instance: DagsterInstance, result: ExecuteInProcessResult) -> str:
    """Why a run moved nothing, by its tag."""
    assert result.success and not materialized(result)
    return instance.get_run_by_id(result.run_id).tags[OVERTAKEN]


def test_a_run_promotes_the_ranker_that_its_trigger_found(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    ranker("r1", GOOD)
    run(PROMOTION, instance, found("accepted_ranker", version="r1"))
    assert deployment.live_sets.live().releases["ranker"] == "r1"


def test_a_ranker_that_another_has_followed_is_left_to_the_other_s_run(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    for version in ("r1", "r2"):
        ranker(version, GOOD)
    told = overtaken(instance, run(PROMOTION, instance, found("accepted_ranker", version="r1")))
    assert "ranker/r1, for which this run was started, is no longer the accepted one: ranker/r2 is" in told
    assert deployment.live_sets.live() is None and deployment.live_sets.decision("r2") is None
    run(PROMOTION, instance, found("accepted_ranker", version="r2"))
    assert deployment.live_sets.live().releases["ranker"] == "r2"


def test_a_ranker_that_was_taken_back_or_passed_over_since_its_run_was_asked_for_is_not_proposed(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    for version in ("r1", "r2"):
        ranker(version, GOOD)
        run(PROMOTION, instance, ALL)
    ranker("r3", GOOD)
    run(ROLLBACK, instance)
    live = deployment.live_sets.live()
    told = {
        version: overtaken(instance, run(PROMOTION, instance, found("accepted_ranker", version=version)))
        for version in ("r2", "r3")
    }
    assert "was taken back with set 2. It is not proposed." in told["r2"]
    assert "was passed over by a rollback. It is not proposed." in told["r3"]
    assert deployment.live_sets.live() == live and deployment.live_sets.decision("r3") is None


def test_a_run_shows_the_snapshot_that_its_trigger_found_unless_a_newer_one_has_come(
    deployment: DeploymentResource,
    live: LiveSet,
    instance: DagsterInstance,
    content: dict[str, pl.DataFrame],
) -> None:
    smaller, smallest = (
        deployment.snapshots.publish(without(content, gone))
        for gone in (["numpy.cumsum"], ["numpy.cumsum", "numpy.unique"])
    )
    deployment.snapshots.point_to(smallest)
    told = overtaken(instance, run(SHOWING, instance, found("newest_snapshot", snapshot_id=smaller.id)))
    assert f"{smaller.id}, for which this run was started, is no longer the newest: snapshot {smallest.id} is" in told
    assert deployment.live_sets.live() == live
    deployment.snapshots.point_to(smaller)
    run(SHOWING, instance, found("newest_snapshot", snapshot_id=smaller.id))
    assert deployment.live_sets.live().snapshot == smaller
    deployment.snapshots.point_to(smallest)
    run(SHOWING, instance)  # launched by hand: the newest there is
    assert deployment.live_sets.live().snapshot == smallest


def test_a_verdict_against_a_set_that_was_gone_back_from_promotes_nothing(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    """The verdict outlives its step: a promotion that is tried again, or executed again by hand, finds it."""
    for version in ("r1", "r2"):
        ranker(version, GOOD)
        run(PROMOTION, instance, ALL)
    ranker("r3", GOOD)
    judged_set = JudgedSet(family="ranker", version="r3", accepted=True, over=2)
    run(ROLLBACK, instance)
    with pytest.raises(OvertakenError, match="judged against set 2; set 1 is live by now"):
        promote(build_op_context(), PromoteConfig(), deployment, judged_set)
    assert deployment.live_sets.live().number == 1 and deployment.live_sets.decision("r3") is None


def test_a_ranker_that_learned_before_documents_left_does_not_bring_them_back(
    deployment: DeploymentResource,
    instance: DagsterInstance,
    ranker: MakeRanker,
    snapshots: Snapshots,
    content: dict[str, pl.DataFrame],
) -> None:
    ranker("r1", GOOD)
    run(PROMOTION, instance, ALL)
    smaller = snapshots.publish(without(content, ["numpy.cumsum"]))
    deployment.snapshots.point_to(smaller)
    shown(deployment, smaller)
    ranker("r2", GOOD)
    run(PROMOTION, instance, ALL)
    live = deployment.live_sets.live()
    assert live.releases["ranker"] == "r2" and live.snapshot == smaller


def test_what_a_kept_ranker_learned_from_is_kept_to_train_it_again(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker, snapshot: SnapshotRef, tmp_path: Path
) -> None:
    (folder := tmp_path / "keyword").mkdir()
    for version in ("k1", "k2", "k3", "k4"):
        deployment.staging.publish(folder, manifest(version, snapshot, {}).model_copy(update={"family": "keyword"}))
    few = ALL | {"promote": {"config": {"kept_releases": 2, "kept_sets": 2}}}
    for number in (1, 2, 3):
        ranker(f"r{number}", GOOD, keyword=f"k{number}")
    run(PROMOTION, instance, few)
    assert deployment.staging.versions("ranker") == ["r2", "r3"]
    assert deployment.staging.versions("keyword") == ["k2", "k3", "k4"]


@pytest.mark.slow
def test_decisions_and_moves_go_with_the_releases_and_sets_that_they_are_about(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker
) -> None:
    few, sets = ALL | {"promote": {"config": {"kept_releases": 2, "kept_sets": 2}}}, deployment.live_sets
    for number in range(1, 6):
        ranker(f"r{number}", GOOD)
        run(PROMOTION, instance, few)
    assert sets.decisions() == deployment.staging.versions("ranker") == ["r4", "r5"]
    assert [move.number for move in sets.moves()] == sets.numbers()[::-1] == [5, 4]
    run(ROLLBACK, instance)
    assert [move.number for move in sets.moves()] == [4, 5, 4]


JOBS = {job.name: job for job in holding}


def test_a_run_of_a_frozen_set_moves_nothing_and_is_no_failure(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker("r1", GOOD)
    run(PROMOTION, instance)
    run(JOBS["freeze_prod"], instance, {"freeze_live_set": {"config": {"by": "ada", "why": "the fair"}}})
    ranker("r2", GOOD)
    held = run(PROMOTION, instance, ALL)
    assert held.success and not materialized(held)
    assert "frozen by ada" in instance.get_run_by_id(held.run_id).tags[HELD]
    judged_before = JudgedSet(family="ranker", version="r2", accepted=True, over=1)
    with monkeypatch.context() as told:
        told.setattr(instance, "add_run_tags", lambda run, tags: None)  # an op alone has no run
        promote(build_op_context(instance=instance), PromoteConfig(), deployment, judged_before)
    assert deployment.live_sets.live().number == 1 and deployment.live_sets.decision("r2") is None
    thawed = run(JOBS["thaw_prod"], instance)
    assert materialized(thawed) == [live_set_key("prod")]
    run(PROMOTION, instance, ALL)
    assert deployment.live_sets.live().number == 2
    assert deployment.live_sets.moves()[1].note.endswith(": started by hand in Dagit")


def test_a_frozen_set_shows_no_new_snapshot(
    deployment: DeploymentResource,
    instance: DagsterInstance,
    live: LiveSet,
    snapshots: Snapshots,
    content: dict[str, pl.DataFrame],
) -> None:
    overrides.freeze(deployment.live_sets, "ada")
    deployment.snapshots.point_to(snapshots.publish(without(content, ["numpy.cumsum"])))
    held = run(SHOWING, instance)
    assert "frozen by ada" in instance.get_run_by_id(held.run_id).tags[HELD] and not materialized(held)
    assert deployment.live_sets.live() == live


def test_a_person_pins_unpins_and_promotes_from_dagit_too(
    deployment: DeploymentResource, instance: DagsterInstance, ranker: MakeRanker, snapshot: SnapshotRef, tmp_path: Path
) -> None:
    (folder := tmp_path / "search").mkdir()
    for family in search_families():
        deployment.staging.publish(folder, manifest("v1", snapshot, {}).model_copy(update={"family": family}))
    for version, order in (("r1", GOOD), ("r2", BAD)):
        ranker(version, order)
        run(PROMOTION, instance, ALL)
    assert deployment.live_sets.live().releases["ranker"] == "r1", "worse end to end"
    run(JOBS["pin_prod"], instance, {"pin_family": {"config": {"family": "ranker", "by": "ada"}}})
    assert deployment.live_sets.hold().pins["ranker"].version == "r1" == deployment.staging.accepted("ranker")
    run(JOBS["unpin_prod"], instance, {"unpin_family": {"config": {"family": "ranker"}}})
    chosen = {"releases": {"ranker": "r2"}, "why": "it is what people like"}
    result = run(promote_by_hand_prod, instance, {"promote_chosen": {"config": chosen}})
    assert deployment.live_sets.live().releases["ranker"] == "r2" and materialized(result) == [live_set_key("prod")]
    assert deployment.live_sets.moves()[0].note.endswith(": it is what people like")
