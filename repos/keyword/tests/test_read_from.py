"""A stack that learns from another one's data: what it makes is its own, and nothing of the other is written."""

import hashlib
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


def test_a_place_without_a_stack_s_state_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHLOOP_READ_FROM", str(tmp_path))
    with pytest.raises(ValueError, match="expected the home of a stack, a folder that holds snapshots/"):
        Settings()
