"""A stack that learns from another one's data: what it makes is its own, and nothing of the other is written."""

import hashlib
import json
from pathlib import Path

import pytest
from dagster import DagsterInstance

from repos.keyword.definitions import defs
from shared_ops.data.snapshots import SnapshotRef, Snapshots, load
from shared_ops.pipeline.resources import DEV, PROD
from shared_ops.release.inputs import Inputs
from shared_ops.settings import Settings, current
from tests import corpus


def trained(job: str) -> None:
    with DagsterInstance.ephemeral() as instance:
        assert defs.resolve_job_def(job).execute_in_process(instance=instance).success


def held(folder: Path) -> dict[str, str]:
    """Every file of a folder, with the hash of its content and the time of its last change."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}" for path in files}


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another stack's home, with a snapshot and an accepted release; the own home is empty, and reads from it."""
    home = tmp_path / "other"
    monkeypatch.setenv("SEARCHLOOP_HOME", str(home))
    snapshots = Snapshots(current().snapshots_url("prod"))
    snapshots.point_to(snapshots.publish(corpus.content()))
    trained("keyword_prod")
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("SEARCHLOOP_READ_FROM", str(home))
    return home


@pytest.mark.parametrize("job", ["keyword_dev", "keyword_prod"])
def test_a_model_is_trained_on_the_other_s_data_into_the_own_home(other: Path, job: str) -> None:
    before, deployment = held(other), DEV if job.endswith("dev") else PROD
    trained(job)
    assert held(other) == before
    version = deployment.staging.accepted("keyword")
    assert version and deployment.staging.url.startswith(f"file://{current().home}/")
    manifest = deployment.staging.manifest("keyword", version)
    assert len(load(manifest.snapshot).documents()) == len(corpus.DOCUMENTS)


def test_a_ranker_finds_the_hits_of_the_other_s_releases(other: Path) -> None:
    snapshot = PROD.input_snapshots.latest()
    assert snapshot and snapshot.url.startswith(f"file://{other}/")
    staging = PROD.input_staging
    given = Inputs(
        family="ranker", snapshot=snapshot, releases={"keyword": str(staging.accepted("keyword"))}, staging=staging.url
    )
    travelled = Inputs.model_validate_json(given.model_dump_json())
    assert travelled == given and travelled.hits("keyword")["query_id"].n_unique() > 1


def test_a_reference_that_both_could_mean_is_the_own(other: Path) -> None:
    """Data is named by its content, so where the own home has it nothing is asked of the other."""
    asked = PROD.input_snapshots.latest()
    own = PROD.snapshots.publish(corpus.content())
    assert asked and own.id == asked.id
    found = SnapshotRef.model_validate({"id": own.id, "url": f"home:snapshots/prod/{own.id}"})
    assert found == own


def test_queries_in_bulk_are_answered_by_the_own_release_where_there_is_one(other: Path, tmp_path: Path) -> None:
    def answered_by(out: str) -> str:
        config = {"queries": str(tmp_path / "q.csv"), "out": str(tmp_path / out)}
        with DagsterInstance.ephemeral() as instance:
            job = defs.resolve_job_def("keyword_predict")
            assert job.execute_in_process({"ops": {"predict": {"config": config}}}, instance).success
        return str(json.loads((tmp_path / out / "predictions.json").read_text())["release"])

    (tmp_path / "q.csv").write_text("query_id,text\n1,sort\n")
    assert answered_by("a") == f"keyword/{PROD.input_staging.accepted('keyword')}"
    trained("keyword_prod")
    assert answered_by("b") == f"keyword/{PROD.staging.accepted('keyword')}"


@pytest.mark.parametrize("place", ["~nobody_of_this_name/home", "{tmp_path}/gone"])
def test_a_place_that_is_not_there_keeps_no_command_from_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("SEARCHLOOP_READ_FROM", place.format(tmp_path=tmp_path))
    if place.startswith("~"):
        with pytest.raises(ValueError, match="expected a path that leads somewhere"):
            Settings()
    else:
        assert Settings().read_from == f"file://{tmp_path}/gone"
