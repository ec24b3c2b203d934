"""CI runs what a change touches: the list of suites, and what it says of changes."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import checks
from deploy.matrix import changed, jobs, needs_everything, suites, touched
from shared_ops.settings import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
ALL = set(suites())
STACK = {"tests", "tests/tree", "tests/cold_start", "tests/drills"}
SERVICES = {"services/tests", "services/prediction/tests", "services/search/tests"}
PLATFORM = {"shared_ops/tests", "deploy/stack/tests"}
LIGHT = {"repos/corpus/tests", "repos/feedback/tests", "repos/live/tests"}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], set()),
        (["README.md"], set()),
        (["repos/keyword/README.md", "docs/architecture.md", "LICENSE", ".github/CODEOWNERS"], set()),
        (["repos/semantic/ops.py"], {"repos/semantic/tests"}),
        (["repos/semantic/tests/test_train.py", "repos/semantic/README.md"], {"repos/semantic/tests"}),
        (["repos/keyword/ops.py"], {"repos/keyword/tests", "services/prediction/tests"}),
        (["repos/live/ops.py", "repos/ranker/model.py"], {"repos/live/tests", "repos/ranker/tests"}),
        (["envs/light/requirements.txt"], LIGHT),
        (["envs/ranker/requirements-gpu.in"], {"repos/ranker/tests"}),
        (["envs/keyword/.python-version"], {"repos/keyword/tests", "services/prediction/tests"}),
        (["envs/search/requirements.txt"], {"services/tests", "services/search/tests"} | STACK),
        (["services/search/page.html"], SERVICES | STACK),
        (["services/door.py"], SERVICES | PLATFORM | STACK),
        (["Makefile"], PLATFORM | STACK),
        (["deploy/stack/history.py", "workspace.yaml"], PLATFORM | STACK),
        (["deploy/sources/small.yaml"], {"repos/corpus/tests"} | PLATFORM | STACK),
        (["bench/gate.py"], PLATFORM | {"tests/tree"}),
        (["tests/drills/test_load.py"], STACK),
        (["shared_ops/src/shared_ops/data/text.py"], ALL),
        (["repos/repos.toml"], ALL),
        (["repos/conftest.py"], ALL),
        (["repos/new/ops.py"], ALL),
        (["envs/new/requirements.in"], ALL),
        (["envs/pipeline.in"], ALL),
        (["envs/build.py"], ALL),
        (["envs/platform/requirements.txt"], ALL),
        (["pyproject.toml"], ALL),
        (["deploy/matrix.py"], ALL),
        ([".github/workflows/ci.yml"], ALL),
        (["nobody/knows.it"], ALL),
        (["README.md", "nobody"], ALL),
    ],
    ids=lambda each: ",".join(each) if isinstance(each, list) else None,
)
def test_a_change_touches(paths: list[str], expected: set[str]) -> None:
    assert set(touched(paths)) == expected
    assert touched(paths).items() <= suites().items()


def imported_by(suite: str) -> set[str]:
    """The files of the tree, but for the package shared_ops, that a suite's tests import, however deep."""
    found: set[Path] = set()
    new = set((ROOT / suite).glob("*.py"))
    while new:
        found |= new
        new = {file for path in new for file in imports(path)} - found
    return {path.relative_to(ROOT).as_posix() for path in found}


def imports(path: Path) -> set[Path]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {file for module in modules if (file := ROOT / f"{module.replace('.', '/')}.py").exists()}


@pytest.mark.parametrize("suite", sorted(ALL))
def test_what_a_suite_imports_touches_it(suite: str) -> None:
    imported = imported_by(suite)
    assert any(path.startswith(suite) for path in imported)
    if needs_everything(suite):  # a team's change has to pass them on main alone
        imported = {path for path in imported if not path.startswith("repos/")}
    assert {path for path in imported if suite not in touched([path])} == set()


def test_each_job_has_its_suites_environment_and_all_scopes_are_checked_once() -> None:
    every = jobs(suites())
    assert {job["suite"]: job["environment"] for job in every}.items() <= suites().items()
    assert {job["suite"] for job in every} == ALL - STACK
    names = [job["checks"] for job in every if job["checks"]]
    assert sorted([*names, "platform"]) == sorted(checks.scopes())
    assert {job["checks"]: job["environment"] for job in every if job["checks"]} == {
        name: checks.scopes()[name].environment for name in names
    }


def test_a_scope_is_checked_as_the_whole_is() -> None:
    """What the scopes look at, all together, is what `make check` looks at."""
    whole, of_scopes = checks.commands(), {name: checks.commands(name) for name in checks.scopes()}
    assert {check for its in of_scopes.values() for check in its} == set(whole)
    for check in whole:
        if check.startswith("types of"):
            places = [place for its in of_scopes.values() if check in its for place in its[check][4:]]
            assert sorted(places) == sorted(whole[check][4:])
    every = {"style", "format", "borders", "generated", "locks", "site"}
    assert of_scopes["keyword"].keys() == {"types of keyword", *every}
    assert of_scopes["keyword"]["style"][-1] == of_scopes["keyword"]["format"][-1] == "repos/keyword"
    assert of_scopes["keyword"]["locks"][-1] == "keyword"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit on main."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("deploy.matrix.ROOT", tmp_path)
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "kept").write_text("kept\n")
    (tmp_path / "old name").write_text("moved\n" * 20)
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True)


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a change")


def test_a_change_is_what_a_branch_did_and_not_what_main_did_since(checkout: Path) -> None:
    git(checkout, "checkout", "-q", "-b", "branch")
    (checkout / "old name").rename(checkout / "new näme")
    commit(checkout)
    git(checkout, "checkout", "-q", "main")
    (checkout / "kept").write_text("changed\n")
    commit(checkout)
    git(checkout, "checkout", "-q", "branch")
    assert changed("main") == ["new näme", "old name"]
    git(checkout, "merge", "-q", "main", "-m", "as a pull request is checked out: onto main")
    git(checkout, "checkout", "-q", "main")
    git(checkout, "merge", "-q", "--no-ff", "branch", "-m", "merged")
    assert changed("HEAD^1") == ["new näme", "old name"]


def test_the_workflows_first_job_gets_lines_of_outputs_without_any_package() -> None:
    program = "import sys; sys.path.insert(0, '.'); from deploy.matrix import main; main()"
    command = [sys.executable, "-I", "-S", "-c", program]
    said = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout
    outputs = dict(line.split("=", 1) for line in said.splitlines())
    assert json.loads(outputs["suites"]) == jobs(suites())
    assert outputs["end_to_end"].split() == [suite for suite in suites() if needs_everything(suite)]


def test_one_job_requires_all_others() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    required = workflow["jobs"].pop("required")
    assert set(required["needs"]) == set(workflow["jobs"]) and required["if"] == "always()"


def test_the_workflow_may_only_read_and_its_actions_are_pinned_by_commit() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    files = [WORKFLOW, *(ROOT / ".github" / "actions").glob("*/action.yml")]
    used = [use for file in files for use in re.findall(r"uses: (.+)", file.read_text()) if not use.startswith("./")]
    assert len(used) >= 5
    assert [use for use in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("outputs.end_to_end }}", "outputs.end_to_ends }}"),
        ("needs: changes", "needs: change"),
        ("name: platform", "environment: platform"),
        ("runs-on", "run-on"),
    ],
)
def test_the_check_of_the_workflow_finds(right: str, wrong: str) -> None:
    *command, path = checks.commands("platform")["workflow"]
    command += [f"-stdin-filename={path}", "-"]
    text = WORKFLOW.read_text()
    assert right in text
    for content, status in ((text, 0), (text.replace(right, wrong), 1)):
        done = subprocess.run(command, cwd=ROOT, input=content, text=True, stdout=subprocess.PIPE, check=False)
        assert done.returncode == status, done.stdout
