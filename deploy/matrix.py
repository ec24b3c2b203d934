"""The one list of suites, each with its environment, and which of them a change touches.

deploy/suites.py runs the list; .github/workflows/ci.yml reads what `python3 -m deploy.matrix [<commit>]` prints: the
jobs of a change since that commit, or of everything. Uses nothing but Python's own library and git, as it runs before
there is any environment.
"""

import argparse
import json
import subprocess
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PLACES = (  # those that take longest first, as they run side by side
    "tests/tree",
    "deploy/*/tests",
    "shared_ops/tests",
    "services/tests",
    "services/*/tests",
    "repos/*/tests",
    "tests",
    "tests/*",
)
TREE = "tests/tree"
"""The suite that looks at the whole tree and brings up no stack."""
PLATFORM, SERVICES = "platform", "search"
"""The environments of the control plane, and of the services that hold no model."""


def suites() -> dict[str, str]:
    """Every suite's folder, in the order in which they run, with the environment that it runs in."""
    folders = [folder for place in PLACES for folder in sorted(ROOT.glob(place)) if any(folder.glob("test_*.py"))]
    names = [folder.relative_to(ROOT).as_posix() for folder in folders]
    return {name: _environment(name) for name in names}


def needs_everything(suite: str) -> bool:
    """Whether a suite takes every environment: it looks at the whole tree, or brings up whole stacks."""
    return suite.split("/")[0] == "tests"


def touched(paths: Iterable[str]) -> dict[str, str]:
    """The suites, with their environments, that a change of these paths has to pass; paths are as git names them.

    What only people read touches none of them. A path that is not known here touches all.
    """
    every = suites()
    names = {name for path in paths for name in _touched_by(path, every)}
    return {name: environment for name, environment in every.items() if name in names}


def jobs(chosen: dict[str, str]) -> list[dict[str, str]]:
    """CI's jobs for these suites but those that need a stack: of each the suite, its environment, and what it checks.

    What it checks is a scope of deploy/checks.py: a repository's or the services', by the suite at its top.
    """
    return [
        {"suite": suite, "environment": environment, "checks": _checked_with(suite)}
        for suite, environment in chosen.items()
        if not needs_everything(suite)
    ]


def _environment(suite: str) -> str:
    """A repository's tests run in its own, the prediction service's in that of the family that it hosts for them."""
    match suite.split("/"):
        case ["repos", name, *_]:
            return str(_repositories()[name]["environment"])
        case ["services", *_]:
            hosted = _hosts(suite)
            return str(_repositories()[hosted]["environment"]) if hosted else SERVICES
        case _:
            return PLATFORM


def _hosts(suite: str) -> str | None:
    """The family that a suite has the prediction service host: the first that searches."""
    return _with_role("search")[0] if suite.startswith("services/prediction/") else None


def _touched_by(path: str, every: dict[str, str]) -> Iterable[str]:
    whole = [suite for suite in every if needs_everything(suite)]
    platform = [suite for suite, environment in every.items() if environment == PLATFORM]
    served = [suite for suite in every if suite.startswith("services/")]
    match path.split("/"):
        case ["docs", *_] | ["LICENSE" | ".editorconfig" | ".pre-commit-config.yaml"]:
            return []
        case [".github", "CODEOWNERS"] | [".github", "ISSUE_TEMPLATE", *_]:
            return []
        case [*_, name] if name.endswith(".md"):
            return []
        case ["repos", name, _, *_] if name in _repositories():
            hosted = [suite for suite in served if _hosts(suite) == name]
            return [f"repos/{name}/tests", *hosted]
        case ["envs", environment, _, *_] if environment != PLATFORM and environment in every.values():
            its = [suite for suite in every if every[suite] == environment]
            return [*its, *whole] if environment == SERVICES else its
        case ["services", _]:  # what the search app and Dagit's door share
            return [*served, *platform]
        case ["services", *_]:
            return [*served, *whole]
        case ["deploy", "sources", *_]:
            return [*(f"repos/{name}/tests" for name in _with_role("data")), *platform]
        case ["deploy", "matrix.py" | "suites.py" | "checks.py"] | ["tests", "corpus.py" | "lists.py"]:
            return every
        case ["deploy", *_] | ["Makefile" | "workspace.yaml"]:
            return platform
        case ["bench", *_]:
            return [suite for suite in platform if suite == TREE or suite not in whole]
        case ["tests", *_]:
            return whole
        case _:
            return every


def _checked_with(suite: str) -> str:
    match suite.split("/"):
        case ["repos", name, "tests"] | ["services" as name, "tests"]:
            return name
        case _:
            return ""


def _repositories() -> dict[str, dict[str, Any]]:
    return tomllib.loads((ROOT / "repos" / "repos.toml").read_text())


def _with_role(role: str) -> list[str]:
    return [name for name, repository in _repositories().items() if repository["role"] == role]


def changed(commit: str) -> list[str]:
    """The paths that differ between HEAD and what it has in common with `commit`; of a renamed file both names."""
    command = ["git", "diff", "--name-only", "--no-renames", "-z", f"{commit}...HEAD"]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [path for path in said.split("\0") if path]


def main() -> None:
    """Print the outputs of the workflow's first job, a line each."""
    parser = argparse.ArgumentParser(description="Print CI's jobs: of a change, or of everything.")
    parser.add_argument("commit", nargs="?", help="where the change began; without it, everything is to run")
    commit = parser.parse_args().commit
    chosen = touched(changed(commit)) if commit else suites()
    print(f"suites={json.dumps(jobs(chosen))}")
    print(f"end_to_end={' '.join(suite for suite in chosen if needs_everything(suite))}")


if __name__ == "__main__":
    main()
