"""The environments are apart: what each holds, and that versions which contradict each other run side by side."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from shared_ops.settings import ROOT, python_of

ENVIRONMENTS = ("platform", "light", "keyword", "semantic", "behavior", "ranker", "search")
LOCKS = sorted((ROOT / "envs").glob("*/requirements*.txt"))

others = pytest.mark.slow
"""Of tests that run the Pythons of other environments, all of which have to be made."""

REPORT = """
import importlib.metadata, json, sys
versions = {each.name.lower().replace("_", "-"): each.version for each in importlib.metadata.distributions()}
print(json.dumps({"python": sys.version.split()[0], "versions": versions}))
"""

# Fits between two lines from its parent, so that the parent knows that both processes hold a model at the same time.
FIT = """
import sys
import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors
print("imported", flush=True)
sys.stdin.readline()
texts = ["sort an array", "invert a matrix", "group similar points"]
vectorizer = TfidfVectorizer()
model = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectorizer.fit_transform(texts))
print("fitted", flush=True)
sys.stdin.readline()
nearest = model.kneighbors(vectorizer.transform(["a matrix to invert"]), return_distance=False)
print(sklearn.__version__, int(nearest[0][0]), flush=True)
"""


def python(environment: str) -> Path:
    path = python_of(environment)
    assert path.exists(), f"The environment {environment} is not there; run `make envs`."
    return path


@cache
def installed(environment: str) -> dict[str, str]:
    """Every distribution of an environment with its version, and its Python's version under the name "python"."""
    done = subprocess.run([python(environment), "-c", REPORT], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    return {**report["versions"], "python": report["python"]}


def holders(distribution: str) -> set[str]:
    return {each for each in ENVIRONMENTS if distribution in installed(each)}


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def test_the_environments_are_all_that_there_are() -> None:
    assert {path.parent.name for path in (ROOT / "envs").glob("*/requirements.in")} == set(ENVIRONMENTS)


@others
def test_keyword_and_behavior_run_different_scikit_learns_at_the_same_time() -> None:
    processes = {
        each: subprocess.Popen([python(each), "-c", FIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for each in ("keyword", "behavior")
    }
    try:
        for said in ("imported", "fitted"):
            assert {each: process.stdout.readline().strip() for each, process in processes.items()} == {
                "keyword": said,
                "behavior": said,
            }
            for process in processes.values():
                process.stdin.write("go on\n")
                process.stdin.flush()
        answers = {each: process.communicate(timeout=60)[0].split() for each, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    versions = {each: version for each, (version, _) in answers.items()}
    assert versions == {each: installed(each)["scikit-learn"] for each in versions}
    assert minor(versions["keyword"]) != minor(versions["behavior"])
    assert {nearest for _, nearest in answers.values()} == {"1"}


@others
def test_tensorflow_is_in_semantic_alone() -> None:
    assert holders("tensorflow") == {"semantic"}
    assert holders("keras") == {"semantic"}


@others
def test_torch_is_in_ranker_alone() -> None:
    assert holders("torch") == {"ranker"}


@others
@pytest.mark.parametrize("environment", ["platform", "search"])
def test_who_hosts_and_serves_others_holds_no_ml_library(environment: str) -> None:
    frameworks = {"tensorflow", "keras", "keras-hub", "torch", "scikit-learn", "faiss-cpu", "numba", "optuna"}
    assert frameworks.isdisjoint(installed(environment))


@others
def test_every_environment_with_dagster_holds_the_one_release_of_the_constraints() -> None:
    constraints = (ROOT / "envs" / "constraints.txt").read_text()
    for distribution in ("dagster", "dagster-postgres"):
        (pinned,) = re.findall(rf"^{distribution}==(\S+)", constraints, re.MULTILINE)
        assert holders(distribution) == set(ENVIRONMENTS) - {"search"}
        assert {installed(each)[distribution] for each in holders(distribution)} == {pinned}


@others
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_runs_the_python_that_it_states(environment: str) -> None:
    stated = (ROOT / "envs" / environment / ".python-version").read_text().strip()
    assert f"{installed(environment)['python']}.".startswith(f"{stated}.")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_package_of_a_lock_has_its_hashes(lock: Path) -> None:
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in lines if line.strip() and not line.strip().startswith("#")]
    assert packages
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_has_a_lock(environment: str) -> None:
    assert ROOT / "envs" / environment / "requirements.txt" in LOCKS
