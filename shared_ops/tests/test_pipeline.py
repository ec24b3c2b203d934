"""The shared graph, run in one process with a small real search model: from a snapshot to a release, or to none."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Never

import polars as pl
import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    Config,
    DagsterInstance,
    DagsterInvalidSubsetError,
    DagsterResourceFunctionError,
    DagsterTypeCheckDidNotPass,
    ExecuteInProcessResult,
    In,
    JobDefinition,
    OpExecutionContext,
    Out,
    graph,
    op,
)

from shared_ops.data import storage, tables
from shared_ops.data.feedback import TABLES, FeedbackManifest, Feedbacks
from shared_ops.data.snapshots import SnapshotRef, Snapshots, load
from shared_ops.data.tables import Hits
from shared_ops.judge.training import TrainingResult, answer
from shared_ops.pipeline.checks import release_checks
from shared_ops.pipeline.family import DESCRIPTION
from shared_ops.pipeline.jobs import family_jobs
from shared_ops.pipeline.lineage import challenger_key, release_key
from shared_ops.pipeline.ops import (
    evaluate_op,
    gate,
    load_inputs_op,
    materialize,
    save_candidate,
    search_opener,
    stage,
    validate,
)
from shared_ops.pipeline.references import AGAIN, REASON, VERDICT, Candidate
from shared_ops.pipeline.resources import DeploymentResource
from shared_ops.pipeline.types import ValidCandidate, ValidInputs
from shared_ops.release import codes, runtimes
from shared_ops.release.inputs import REACH, Inputs
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import ReleaseError, ReleaseManifest, Staging
from shared_ops.settings import Settings, current


@dataclass
class Overlap:
    """Ranks documents by the number of the query's words that they hold; shorter words than `least` do not count."""

    texts: dict[str, str]
    least: int

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        def terms(text: str) -> set[str]:
            return {word for word in text.lower().replace(".", " ").split() if len(word) >= self.least}

        results = []
        for text in texts:
            shared = Counter({doc: len(terms(text) & terms(f"{doc} {body}")) for doc, body in self.texts.items()})
            results.append([(doc, float(count)) for doc, count in shared.most_common(k) if count])
        return results

    def save(self, folder: Path) -> None:
        (folder / "model.json").write_text(json.dumps({"texts": self.texts, "least": self.least}))


def load_overlap(folder: Path) -> Overlap:
    return Overlap(**json.loads((folder / "model.json").read_text()))


class TrainConfig(Config):
    least: int = 1
    reach: list[str] | None = None


@op(out=Out(ValidCandidate), ins={"inputs": In(ValidInputs)})
def train(
    context: OpExecutionContext, config: TrainConfig, deployment: DeploymentResource, inputs: Inputs
) -> Candidate:
    content = load(inputs.snapshot)
    documents = content.documents().select("doc_id", "text").iter_rows()
    model = Overlap({doc: text for doc, text in documents if config.reach is None or doc in config.reach}, config.least)
    hits = {split: answer(model, content.queries(split)) for split in ("train", "dev", "test")}
    trained = TrainingResult(model, {"least": config.least}, hits, reach=config.reach)
    return save_candidate(context, deployment, inputs, trained, config.model_dump())


load_inputs = load_inputs_op("keyword")
evaluate = evaluate_op(search_opener(load_overlap))


@graph
def keyword() -> None:
    materialize(stage(gate(evaluate(train(validate(load_inputs()))))))


DEV, PROD = family_jobs(keyword)


@pytest.fixture
def instance(tmp_path: Path, home: Path) -> Iterator[DagsterInstance]:
    home.mkdir()
    with DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def latest(content: dict[str, pl.DataFrame]) -> SnapshotRef:
    snapshots = Snapshots(Settings().snapshots_url("prod"))
    ref = snapshots.publish(content)
    snapshots.point_to(ref)
    return ref


@pytest.fixture
def staging() -> Staging:
    return Staging(Settings().staging_url("prod"))


def run(
    job: JobDefinition,
    instance: DagsterInstance,
    ops: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> ExecuteInProcessResult:
    return job.execute_in_process(run_config={"ops": ops or {}}, instance=instance, **kwargs)


def events(result: ExecuteInProcessResult, kind: str) -> list[Any]:
    """What the events of this kind hold, which is another thing for each kind."""
    return [event.event_specific_data for event in result.all_events if event.event_type_value == kind]


@pytest.mark.slow
def test_a_good_model_becomes_the_accepted_release(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    result = run(PROD, instance)
    (version,) = staging.versions("keyword")
    assert staging.accepted("keyword") == version
    manifest = staging.manifest("keyword", version)
    assert manifest.snapshot == latest and manifest.run_id == result.run_id
    assert manifest.metrics["all"]["queries"] == 3 and manifest.gate["accepted"]
    assert {entry.path for entry in manifest.files} >= {"model.json", "hits/train.parquet"}
    assert load_overlap(staging.fetch("keyword", version)).search(["median"], 1) == [[("numpy.median", 1.0)]]


def materialized(result: ExecuteInProcessResult) -> dict[str, AssetMaterialization]:
    materializations: list[AssetMaterialization] = [
        event.materialization for event in events(result, "ASSET_MATERIALIZATION")
    ]
    return {each.asset_key.to_user_string(): each for each in materializations}


def test_dagit_hears_of_it_with_numbers_that_it_can_plot(instance: DagsterInstance, latest: SnapshotRef) -> None:
    assets = materialized(run(PROD, instance))
    assert set(assets) == {"prod/keyword/challenger", "prod/keyword/release"}
    metadata = assets["prod/keyword/release"].metadata
    assert isinstance(metadata["all: nDCG@10"].value, float) and isinstance(metadata["size in bytes"].value, int)
    assert metadata["snapshot"].value == latest.id


def integrity(result: ExecuteInProcessResult) -> AssetCheckEvaluation:
    check: AssetCheckEvaluation
    (check,) = [each for each in events(result, "ASSET_CHECK_EVALUATION") if each.check_name == "integrity"]
    return check


def evaluated(result: ExecuteInProcessResult) -> dict[str, bool]:
    evaluations: list[AssetCheckEvaluation] = events(result, "ASSET_CHECK_EVALUATION")
    return {f"{each.asset_key.to_user_string()} {each.check_name}": each.passed for each in evaluations}


def test_a_challenger_that_passes_its_gate_is_a_release_that_is_read_back(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    result = run(PROD, instance)
    assert evaluated(result) == {"prod/keyword/challenger gate": True, "prod/keyword/release integrity": True}
    assert integrity(result).metadata["version"].value == staging.accepted("keyword")


def test_a_file_that_changed_since_it_was_published_fails_the_check_by_name(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = Staging.accept

    def accept_and_damage(self: Staging, manifest: ReleaseManifest, **more: Collection[str]) -> None:
        accept(self, manifest, **more)
        (storage.local_path(self.release_url(manifest.family, manifest.version)) / "model.json").write_text("{}")

    monkeypatch.setattr(Staging, "accept", accept_and_damage)
    check = integrity(run(PROD, instance))
    assert not check.passed and "model.json" in check.description


def test_nothing_of_the_work_in_progress_is_left(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    run(PROD, instance)
    assert storage.names(storage.join(staging.url, "keyword", "candidates")) == []


@pytest.mark.slow
def test_a_worse_challenger_is_staged_rejected_and_is_no_release(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    run(PROD, instance)
    champion = staging.accepted("keyword")
    result = run(PROD, instance, {"train": {"config": {"least": 7}}})
    assert staging.accepted("keyword") == champion
    (challenger,) = set(staging.versions("keyword")) - {champion}
    assert not staging.manifest("keyword", challenger).accepted
    assets = materialized(result)
    assert set(assets) == {"prod/keyword/challenger"}
    assert assets["prod/keyword/challenger"].metadata["version"].value == challenger
    (verdict,) = events(result, "ASSET_CHECK_EVALUATION")
    assert not verdict.passed and "not ruled out" in verdict.description


def statuses(instance: DagsterInstance, asset_key: AssetKey) -> dict[str, str]:
    """The state of every check of an asset, as Dagit colours it."""
    keys = [check.key for each in release_checks("keyword") for check in each.check_specs]
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [key for key in keys if key.asset_key == asset_key]
    )
    return {key.name: record.status.value for key, record in records.items()}


@pytest.mark.slow
def test_a_rejected_challenger_is_red_and_the_release_stays_green(
    instance: DagsterInstance, latest: SnapshotRef
) -> None:
    run(PROD, instance)
    run(PROD, instance, {"train": {"config": {"least": 7}}})
    assert statuses(instance, release_key("prod", "keyword")) == {"integrity": "SUCCEEDED"}
    assert statuses(instance, challenger_key("prod", "keyword")) == {"gate": "FAILED"}


@pytest.mark.slow
def test_a_runs_tags_say_what_its_gate_said(instance: DagsterInstance, latest: SnapshotRef) -> None:
    for least, verdict in ((1, "accepted"), (7, "rejected")):
        result = run(PROD, instance, {"train": {"config": {"least": least}}})
        tags = instance.get_run_by_id(result.run_id).tags
        assert tags[VERDICT] == verdict and tags[REASON].startswith(verdict.capitalize())


@pytest.mark.slow
def test_the_verdict_can_be_read_again_from_the_newest_challenger(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    checks: dict[str, Any] = {each.check_key.to_user_string(): each for each in release_checks("keyword")}
    gate_check = checks["prod/keyword/challenger:gate"]
    assert not gate_check().passed
    run(PROD, instance)
    assert gate_check().passed
    run(PROD, instance, {"train": {"config": {"least": 7}}})
    assert not gate_check().passed and "not ruled out" in gate_check().description


@pytest.mark.slow
def test_dev_writes_nothing_of_prod(instance: DagsterInstance, latest: SnapshotRef, home: Path) -> None:
    run(PROD, instance)

    def prod_files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in home.rglob("prod/**/*")}

    before = prod_files()
    result = run(DEV, instance, {"load_inputs": {"config": {"sample_documents": 6}}})
    assert result.success and prod_files() == before
    assert Staging(Settings().staging_url("dev")).versions("keyword")


@pytest.mark.parametrize(
    ("job", "config", "said"),
    [
        (DEV, {"name": "prod"}, "keyword_dev works in dev alone, and its configuration says name: prod"),
        (PROD, {"name": "dev"}, "keyword_prod works in prod alone, and its configuration says name: dev"),
        (
            PROD,
            {"name": "prod", "reads": "dev"},
            "keyword_prod works in prod alone, and its configuration says reads: dev",
        ),
    ],
)
def test_a_job_that_is_edited_to_work_in_the_other_deployment_is_refused_before_it_does_anything(
    instance: DagsterInstance, latest: SnapshotRef, home: Path, job: JobDefinition, config: dict[str, str], said: str
) -> None:
    before = sorted(home.rglob("*"))
    edited = {"resources": {"deployment": {"config": {"services": True, **config}}}}
    with pytest.raises(DagsterResourceFunctionError) as refused:
        job.execute_in_process(run_config=edited, instance=instance)
    assert str(refused.value.__cause__).startswith(said)
    assert sorted(home.rglob("*")) == before


def test_a_part_of_a_job_runs_as_its_description_says(instance: DagsterInstance, latest: SnapshotRef) -> None:
    chosen, lacking = re.findall(r"`(.*?)`", DESCRIPTION)
    result = DEV.execute_in_process(instance=instance, op_selection=chosen.split(", "))
    assert result.success and result.output_for_node("train")
    with pytest.raises(DagsterInvalidSubsetError):
        DEV.execute_in_process(instance=instance, op_selection=lacking.split(", "))


def test_a_bad_snapshot_stops_the_run_before_training(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    (storage.local_path(latest.url) / "qrels.parquet").write_bytes(
        (storage.local_path(latest.url) / "queries.parquet").read_bytes()
    )
    with pytest.raises(DagsterTypeCheckDidNotPass, match="qrels"):
        run(PROD, instance)
    assert staging.versions("keyword") == []


def test_a_model_of_constant_scores_is_staged_rejected_by_name(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Overlap, "search", lambda self, texts, k: [[(d, 1.0) for d in self.texts][:k] for _ in texts])
    run(PROD, instance)
    (version,) = staging.versions("keyword")
    assert "the same score" in staging.manifest("keyword", version).gate["reasons"][0]
    assert staging.accepted("keyword") is None


def test_a_model_that_answers_with_no_number_stops_its_run_by_name(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Overlap, "search", lambda self, texts, k: [[(d, float("nan")) for d in self.texts] for _ in texts]
    )
    with pytest.raises(tables.TableError, match="score"):
        run(PROD, instance)
    assert staging.versions("keyword") == []


@pytest.mark.slow
def test_a_model_that_takes_ten_times_as_long_is_rejected_by_name(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared_ops.pipeline.ops.medians", lambda answers, queries: {"challenger": 5.0})
    run(PROD, instance)
    took = {"challenger": 120.0, "champion": 12.0}
    monkeypatch.setattr("shared_ops.pipeline.ops.medians", lambda answers, queries: took)
    run(PROD, instance, {"load_inputs": {"config": {"force": True}}})
    (challenger,) = set(staging.versions("keyword")) - {staging.accepted("keyword")}
    reasons = staging.manifest("keyword", challenger).gate["reasons"]
    assert any("Takes 10.0 times as long as the champion" in reason for reason in reasons)


def test_a_part_of_the_job_can_be_run_alone(instance: DagsterInstance, latest: SnapshotRef, staging: Staging) -> None:
    result = run(PROD, instance, op_selection=["load_inputs", "validate"])
    assert result.success and staging.versions("keyword") == []


def test_without_a_snapshot_it_says_how_to_get_one(instance: DagsterInstance) -> None:
    with pytest.raises(Exception, match="make train REPO=corpus"):
        run(PROD, instance)


def skipped(result: ExecuteInProcessResult) -> bool:
    return "train" in {event.step_key for event in result.all_events if event.event_type_value == "STEP_SKIPPED"}


@pytest.mark.slow
def test_the_same_training_again_trains_nothing_and_names_its_result(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    run(PROD, instance)
    (version,) = staging.versions("keyword")
    again = run(PROD, instance)
    assert skipped(again) and staging.versions("keyword") == [version]
    assert instance.get_run_by_id(again.run_id).tags["searchloop/unchanged"] == f"keyword/{version}"


@pytest.mark.slow
def test_a_rejected_training_is_not_repeated_either(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    run(PROD, instance)
    worse = {"train": {"config": {"least": 7}}}
    assert not skipped(run(PROD, instance, worse))
    assert skipped(run(PROD, instance, worse)) and len(staging.versions("keyword")) == 2


@pytest.mark.slow
def test_whoever_wants_it_trained_again_says_so(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    run(PROD, instance)
    run(PROD, instance, {"load_inputs": {"config": {"force": True}}})
    assert len(staging.versions("keyword")) == 2


@pytest.mark.slow
def test_another_snapshot_or_configuration_is_another_training(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, content: dict[str, pl.DataFrame]
) -> None:
    run(PROD, instance)
    snapshots = Snapshots(Settings().snapshots_url("prod"))
    snapshots.point_to(snapshots.publish(content | {"slices": content["slices"].clear()}))
    assert not skipped(run(PROD, instance))
    assert not skipped(run(PROD, instance, {"train": {"config": {"least": 2}}}))
    keys = [staging.manifest("keyword", version).key for version in staging.versions("keyword")]
    assert len(set(keys)) == 3


def test_a_run_that_is_tried_again_makes_the_release_that_the_first_would_have_made(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    """As when its worker was killed just after it had published: the retry publishes nothing else."""
    first = run(PROD, instance)
    (version,) = staging.versions("keyword")
    run(
        PROD,
        instance,
        {"load_inputs": {"config": {"force": True}}},
        tags={"dagster/root_run_id": first.run_id, "dagster/retry_number": "1"},
    )
    assert staging.versions("keyword") == [version]


# What cannot be judged.


def point_to(content: dict[str, pl.DataFrame]) -> SnapshotRef:
    """Make these tables the latest snapshot."""
    snapshots = Snapshots(Settings().snapshots_url("prod"))
    ref = snapshots.publish(content)
    snapshots.point_to(ref)
    return ref


def verdict_of(staging: Staging) -> dict[str, Any]:
    return staging.manifest("keyword", staging.versions("keyword")[-1]).gate


def documents_alone(content: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return content | {name: content[name].clear() for name in ("queries", "qrels", "slices")}


def test_documents_alone_make_a_release(
    instance: DagsterInstance, content: dict[str, pl.DataFrame], staging: Staging
) -> None:
    point_to(documents_alone(content))
    result = run(PROD, instance)
    assert staging.accepted("keyword") and "prod/keyword/release" in materialized(result)
    (note,) = verdict_of(staging)["notes"]
    assert "No test query has a judgement, and nobody has clicked yet" in note and "change that" in note


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_queries_of_one_split_alone_make_a_release(
    instance: DagsterInstance, content: dict[str, pl.DataFrame], staging: Staging, split: str
) -> None:
    queries = content["queries"].filter(pl.col("split") == split)
    point_to(
        content
        | {"queries": queries}
        | {n: content[n].join(queries, on="query_id", how="semi") for n in ("qrels", "slices")}
    )
    run(PROD, instance)
    assert staging.accepted("keyword") and verdict_of(staging)["queries"] == (3 if split == "test" else 0)


def test_a_sample_of_documents_alone_makes_a_dev_release(
    instance: DagsterInstance, content: dict[str, pl.DataFrame]
) -> None:
    point_to(documents_alone(content))
    run(DEV, instance)
    assert Staging(Settings().staging_url("dev")).accepted("keyword")


@pytest.mark.slow
def test_the_newest_sessions_judge_where_no_test_query_is_judged(
    instance: DagsterInstance, content: dict[str, pl.DataFrame], staging: Staging
) -> None:
    point_to(documents_alone(content))
    run(PROD, instance)
    feedbacks = Feedbacks(Settings().feedback_url("prod"))
    manifest = FeedbackManifest(
        applications={}, left_out={}, propensities=[], held_back_sessions=8, oldest=None, newest=None, watermark=1
    )
    newest = [
        {"query_id": f"asked:{doc_id}", "text": text, "doc_id": doc_id, "grade": 1}
        for doc_id, text in content["documents"].select("doc_id", "text").iter_rows()
    ]
    clicked = {name: tables.empty(name) for name in TABLES} | {"newest": tables.make("newest", newest)}
    feedbacks.point_to(feedbacks.publish(clicked, manifest), 1)
    run(PROD, instance, {"train": {"config": {"least": 30}}})
    verdict = verdict_of(staging)
    assert not verdict["accepted"] and verdict["queries"] == 8 and verdict["champion"] > 0.9 > verdict["challenger"]


@pytest.mark.slow
def test_who_has_learned_of_nothing_abstains_and_joins_once_it_has(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    run(PROD, instance, {"train": {"config": {"reach": []}}})
    abstaining = staging.accepted("keyword")
    (note,) = verdict_of(staging)["notes"]
    assert abstaining and note.startswith("It abstains: there was nothing to learn from yet")
    run(PROD, instance)
    assert staging.accepted("keyword") != abstaining and verdict_of(staging)["champion"] is None


@pytest.mark.slow
def test_who_answered_may_not_fall_silent(instance: DagsterInstance, latest: SnapshotRef, staging: Staging) -> None:
    run(PROD, instance)
    accepted = staging.accepted("keyword")
    run(PROD, instance, {"train": {"config": {"reach": []}}})
    assert staging.accepted("keyword") == accepted and not verdict_of(staging)["accepted"]


def test_a_family_is_held_to_what_it_could_have_learned_of(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    """It answers none of the test queries, as it cannot find their documents."""
    run(PROD, instance, {"train": {"config": {"reach": ["numpy.cumsum"]}}})
    verdict = verdict_of(staging)
    assert verdict["accepted"] and verdict["queries"] == 3 and verdict["floor"] == 0


@pytest.mark.slow
def test_documents_that_are_all_alike_are_told_and_shown(
    instance: DagsterInstance, content: dict[str, pl.DataFrame], staging: Staging
) -> None:
    alike = content["documents"].with_columns(title=pl.lit("same"), text=pl.lit("the same words"))
    point_to(content | {"documents": alike})
    run(PROD, instance)
    (note,) = verdict_of(staging)["notes"]
    assert staging.accepted("keyword") and note.startswith("All documents hold the same words")


def test_a_step_that_is_executed_again_in_other_code_measures_nothing(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the gate would judge answers that nobody gets: a release runs with the code that trained it."""
    locks = chain(["of the training"], repeat("of another"))
    monkeypatch.setattr("shared_ops.pipeline.ops.environment_lock", lambda family: next(locks))
    with pytest.raises(ReleaseError, match=r"other code or packages than are here now.*make train REPO=keyword"):
        run(PROD, instance)
    assert staging.versions("keyword") == []


@pytest.mark.slow
def test_a_release_whose_serving_code_has_changed_says_what_brings_the_new_one(
    instance: DagsterInstance, latest: SnapshotRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(PROD, instance)
    loaded = codes.running_code("keyword") | {"services/prediction/app.py": b"# another host"}
    monkeypatch.setattr(codes, "running_code", lambda family: loaded)
    result = run(PROD, instance)
    messages = [log.user_message for log in instance.all_logs(result.run_id)]
    assert any("What serves it has changed since: FORCE=1 trains it anew" in line for line in messages)


def test_a_run_whose_code_was_saved_while_it_was_loaded_ends_before_it_trains(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(family: str) -> Never:
        raise codes.CodeError("model.py: saved while this process loaded its code.")

    monkeypatch.setattr(codes, "running_code", loaded)
    result = run(PROD, instance, raise_on_error=False)
    assert not result.success
    assert "saved while" in instance.get_run_by_id(result.run_id).tags[AGAIN] and staging.versions("keyword") == []


@pytest.mark.slow
def test_an_accepted_release_that_does_not_answer_in_its_own_code_holds_up_no_better_one(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    """It can never go live. So the challenger is compared with what people get; without that the run says why."""
    run(PROD, instance)
    live, sets = staging.accepted("keyword"), LiveSets(staging.url)
    run(PROD, instance, _lenient(2))
    _end_at_once(staging, staging.accepted("keyword"))
    ended = run(PROD, instance, _lenient(3), raise_on_error=False)
    assert not ended.success and "does not answer in the code and environment that made it" in str(ended.all_events)

    sets.go_live(sets.propose({"keyword": live}, latest, "by hand"))
    result = run(PROD, instance, _lenient(3))
    assert staging.manifest("keyword", staging.accepted("keyword")).gate["champion_version"] == live
    said = [log.user_message for log in instance.all_logs(result.run_id)]
    assert any(f"So the challenger is compared with the live release, {live}." in line for line in said)


@pytest.mark.slow
def test_an_accepted_release_that_is_damaged_holds_up_no_better_one(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    run(PROD, instance)
    live, sets = staging.accepted("keyword"), LiveSets(staging.url)
    sets.go_live(sets.propose({"keyword": live}, latest, "by hand"))
    run(PROD, instance, _lenient(2))
    (storage.local_path(staging.release_url("keyword", staging.accepted("keyword"))) / "model.json").write_text("{}")
    run(PROD, instance, _lenient(3))
    assert staging.manifest("keyword", staging.accepted("keyword")).gate["champion_version"] == live


@pytest.mark.slow
def test_a_challenger_of_what_is_accepted_no_more_is_not_accepted_and_trained_anew(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback between the comparison and the acceptance would be half undone by it."""
    run(PROD, instance)
    (first,) = staging.versions("keyword")
    champions = chain([[first]], repeat(["another"]))
    monkeypatch.setattr("shared_ops.pipeline.ops._champions", lambda *_: next(champions))
    ended = run(PROD, instance, _lenient(2), raise_on_error=False)
    assert not ended.success and staging.versions("keyword") == [first]
    reason = instance.get_run_by_id(ended.run_id).tags[AGAIN]
    assert reason.startswith(f"keyword was compared with {first}, and another is accepted by now")


def test_a_file_put_into_the_accepted_release_spares_no_challenger_the_comparison_with_it(
    instance: DagsterInstance, latest: SnapshotRef, staging: Staging
) -> None:
    """`reach.json` of no document says that a release abstains, and an abstaining release is no champion."""
    run(PROD, instance)
    accepted = staging.accepted("keyword")
    (storage.local_path(staging.release_url("keyword", accepted)) / REACH).write_text("[]")
    with pytest.raises(ReleaseError, match=r"holds files that its manifest does not name: reach\.json"):
        run(PROD, instance, _lenient(7))
    assert staging.versions("keyword") == [accepted]


def _lenient(least: int) -> dict[str, Any]:
    return {"train": {"config": {"least": least}}, "gate": {"config": {"margin": 0.9, "alpha": 0.3}}}


def _end_at_once(staging: Staging, version: str) -> None:
    """Give a release code that does not run."""
    broken = codes.tree("keyword") | {"repos/keyword/ops.py": b"import no_such_module"}
    manifest = Path(staging.release_url("keyword", version).removeprefix("file://")) / "manifest.json"
    code = runtimes.keep("keyword", broken, current()).code
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"code": code}))
    runtimes.of_release.cache_clear()
