"""What a failed run left of its candidate goes after a day; what a run works on stays."""

import os
import time
from pathlib import Path

import pytest

from shared_ops.data import storage
from shared_ops.release import candidates
from shared_ops.release.releases import Staging
from shared_ops.release.runtimes import KEPT_SECONDS
from shared_ops.settings import Deployment, Settings

OLD, NEW = KEPT_SECONDS + 60, KEPT_SECONDS - 60


def candidate(deployment: Deployment, family: str, run: str, **ages: float) -> Path:
    """A candidate whose files were written that many seconds ago, by name; without any, its folder is old."""
    staging = Staging(Settings().staging_url(deployment))
    folder = storage.local_path(staging.candidate_url(family, run))
    folder.mkdir(parents=True)
    for name, seconds in (ages or {".": OLD}).items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        if ages:
            path.touch()
        os.utime(path, (time.time() - seconds,) * 2)
    return folder


@pytest.mark.parametrize("deployment", ["dev", "prod"])
def test_what_a_failed_run_left_is_removed_a_day_after_it_was_last_written(deployment: Deployment) -> None:
    old = candidate(deployment, "keyword", "failed", model=OLD, hits__test=OLD)
    empty = candidate(deployment, "keyword", "killed")
    judged = candidate(deployment, "keyword", "judged", model=OLD, evaluation__hits=NEW)
    assert candidates.tidy() == ["keyword/failed", "keyword/killed"]
    assert not old.exists() and not empty.exists() and judged.exists()
    assert candidates.tidy() == []


def test_releases_are_no_candidates() -> None:
    """Nor are the files of the live set, which lie beside the families' folders."""
    staging = Staging(Settings().staging_url("prod"))
    path = storage.local_path(staging.release_url("keyword", "v1")) / "manifest.json"
    storage.write_atomic(path.as_uri(), b"{}")
    storage.write_atomic(storage.join(staging.url, "live.json"), b"{}")
    os.utime(path, (time.time() - OLD,) * 2)
    assert staging.candidates() == [] and candidates.tidy() == [] and path.exists()
