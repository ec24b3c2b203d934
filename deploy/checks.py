"""The checks that need no running model: style, types, borders between repositories, what is generated, fresh locks.

Run as `python -m deploy.checks` in envs/platform. All of them run, whichever fails, one for each core at a time.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shared_ops.settings import ROOT, ListError, python_of, repositories

TOOLS = Path(sys.executable).parent


def type_check_targets() -> dict[str, list[str]]:
    """The files and folders that mypy checks, by the environment that holds the packages which they import."""
    places = {
        "platform": ["shared_ops", "deploy", "bench", "tests", "envs/build.py", "repos/conftest.py"],
        "search": ["services"],
    }
    for name, repository in repositories().items():
        places.setdefault(repository.environment, []).append(f"repos/{name}")
    return places


def commands() -> dict[str, list[str]]:
    """Every check by its name; those that take longest come first."""
    targets = type_check_targets()
    types = {f"types of {environment}": _types(environment, places) for environment, places in targets.items()}
    return types | {
        "style": [str(TOOLS / "ruff"), "check", "--quiet", "--output-format=concise"],
        "format": [str(TOOLS / "ruff"), "format", "--check", "--quiet"],
        "borders": [str(TOOLS / "lint-imports"), "--no-logo"],
        "generated": [sys.executable, "-m", "deploy.generate", "--check"],
        "locks": [sys.executable, "envs/build.py", "check"],
    }


def _types(environment: str, places: list[str]) -> list[str]:
    python = f"--python-executable={python_of(environment)}"
    # A cache of its own: what mypy remembers of packages is worth nothing for those of another environment.
    cache = f"--cache-dir=.mypy_cache/{environment}"
    return [str(TOOLS / "mypy"), "--no-error-summary", python, cache, *places]


def run() -> dict[str, bool]:
    """Run every check, print what a failing one says; returns which of them hold."""
    checks = commands()
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
    """Run every check; a list of repositories that cannot be read leaves nothing to check."""
    try:
        sys.exit(0 if all(run().values()) else 1)
    except ListError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
