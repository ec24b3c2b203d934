"""The checks that need no running model: style, types, borders, what is generated, fresh locks, workflow, site.

Run as `python -m deploy.checks [scope]` in envs/platform. All of them run, whichever fails, one for each core at a
time.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from deploy.matrix import PLATFORM, SERVICES
from shared_ops.settings import ROOT, ListError, python_of, repositories

TOOLS = Path(sys.executable).parent


@dataclass(frozen=True)
class Scope:
    """What one owner can have checked alone: files and folders, and the environment that holds what they import."""

    environment: str
    places: list[str]
    whole: bool = field(default=False, kw_only=True)
    """Whether all that needs no other environment is looked at in the whole tree, and not in these places alone."""


def scopes() -> dict[str, Scope]:
    """The scopes by name: each repository, the services, and the platform with what holds for all of the tree."""
    platform = ["shared_ops", "deploy", "bench", "tests", "envs/build.py", "repos/conftest.py"]
    owned = {name: Scope(repository.environment, [f"repos/{name}"]) for name, repository in repositories().items()}
    return {"platform": Scope(PLATFORM, platform, whole=True), "services": Scope(SERVICES, ["services"])} | owned


def commands(name: str | None = None) -> dict[str, list[str]]:
    """Every check by its name, or those of the scope of this name; those that take longest come first."""
    scope = scopes()[name] if name else None
    types = _types([scope] if scope else scopes().values())
    if scope and not scope.whole:
        # The site, too: it takes the scope's README.
        return types | _site() | _python_files(scope.places) | _borders() | _generated() | _locks([scope.environment])
    return types | _site() | _python_files([]) | _borders() | _generated() | _locks([]) | _workflow()


def _types(chosen: Iterable[Scope]) -> dict[str, list[str]]:
    """Mypy once in each environment, over all that is to be checked there."""
    places: dict[str, list[str]] = {}
    for scope in chosen:
        places.setdefault(scope.environment, []).extend(scope.places)
    return {f"types of {environment}": _mypy(environment, its) for environment, its in places.items()}


def _mypy(environment: str, places: list[str]) -> list[str]:
    python = f"--python-executable={python_of(environment)}"
    # A cache of its own: what mypy remembers of packages is worth nothing for those of another environment.
    cache = f"--cache-dir=.mypy_cache/{environment}"
    return [str(TOOLS / "mypy"), "--no-error-summary", python, cache, *places]


def _python_files(places: list[str]) -> dict[str, list[str]]:
    return {
        "style": [str(TOOLS / "ruff"), "check", "--quiet", "--output-format=concise", *places],
        "format": [str(TOOLS / "ruff"), "format", "--check", "--quiet", *places],
    }


def _borders() -> dict[str, list[str]]:
    return {"borders": [str(TOOLS / "lint-imports"), "--no-logo"]}


def _generated() -> dict[str, list[str]]:
    return {"generated": [sys.executable, "-m", "deploy.generate", "--check"]}


def _locks(environments: list[str]) -> dict[str, list[str]]:
    return {"locks": [sys.executable, "envs/build.py", "check", *environments]}


def _workflow() -> dict[str, list[str]]:
    # Without the checkers of embedded scripts, which some machines have and others do not.
    options = ["-shellcheck=", "-pyflakes=", ".github/workflows/ci.yml"]
    return {"workflow": [str(TOOLS / "actionlint"), *options]}


def _site() -> dict[str, list[str]]:
    """The site of the documents, to the last link, without a page written."""
    options = ["-q", "-W", "--keep-going", "-b", "dummy", "-c", "docs/site", "-d", "build/doctrees"]
    return {"site": [sys.executable, "-m", "sphinx", *options, ".", "build/checked"]}


def run(name: str | None = None) -> dict[str, bool]:
    """Run every check, or those of one scope, print what a failing one says; returns which of them hold."""
    checks = commands(name)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(checks, pool.map(_holds, checks, checks.values()), strict=True))


def _holds(name: str, command: list[str]) -> bool:
    began = time.monotonic()
    result = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    holds = result.returncode == 0
    line = f"{name:<17} {'holds' if holds else 'FAILS'} ({time.monotonic() - began:.1f} s)"
    print(line if holds else f"{line}\n{result.stdout}", flush=True)
    return holds


def main() -> None:
    """Run all checks, or those of one scope; a list of repositories that cannot be read leaves nothing to check."""
    parser = argparse.ArgumentParser(description="Check style, types, borders, locks and the workflow.")
    try:
        parser.add_argument("scope", nargs="?", choices=scopes(), help="this one alone; without it, everything")
        sys.exit(0 if all(run(parser.parse_args().scope).values()) else 1)
    except ListError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
