"""Runs the checks and every test suite of the monorepo, each in its own environment, and adds up their results.

Run as `python -m deploy.suites [--drills] [--fast] [--repository <name>] [folder ...]` in envs/platform. Suites are
found, not listed (deploy/matrix.py). None is skipped because another fails; the drills, which take as long as all
others together, run where they are asked for, and in CI. Suites run side by side in three stages: those that bring up
no stack, those that do (in tests/), and the drills, which have the machine to themselves. A suite that runs beside
another prints what it says when it ends.
With --fast the checks and what is marked slow are left out, and so all that brings up a stack: then all run side by
side.
With the drills, as in CI, it is measured how much of the code all together run, which takes some suites half as long
again: pyproject.toml says how much it has to be. Only the tests' own processes are measured, not those of a stack that
they bring up.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tabulate import tabulate

from deploy import checks
from deploy.matrix import TREE, needs_everything, suites
from shared_ops.settings import ROOT, ListError, python_of, repositories

DRILLS = "tests/drills"


@dataclass(frozen=True)
class Outcome:
    """How many tests of a suite passed, failed (or broke) and were skipped, and how long it took."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True)
class Mode:
    """How suites run: whether what they run of the code is `measured`, and what is marked slow left out (`fast`)."""

    measured: bool = False
    fast: bool = False


def run(folder: str, environment: str, shown: bool, mode: Mode) -> Outcome:
    """Run one suite, without those in its subfolders. Its output appears as it comes if `shown`, else at the end.

    Where it is measured, a file in ROOT says what code it ran.
    """
    within = [f"--ignore={other}" for other in suites() if other.startswith(f"{folder}/")]
    began = time.monotonic()
    head = f"\n== {folder} (in envs/{environment})"
    with tempfile.TemporaryDirectory() as scratch:
        report, log = Path(scratch) / "junit.xml", Path(scratch) / "output"
        measuring = ["coverage", "run", "-m"] if mode.measured else []
        chosen = ["-m", "not slow"] if mode.fast else []
        command = [str(python_of(environment)), "-m", *measuring, "pytest", folder, *within, *chosen]
        command.append(f"--junitxml={report}")
        environ = os.environ | {"PYTEST_DEBUG_TEMPROOT": str(temporary(folder))}
        if shown:
            print(head, flush=True)
            status = subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
        else:
            # A file: a pipe would wait for the end of what a suite has left running, too.
            with log.open("wb") as output:
                status = subprocess.run(
                    command, cwd=ROOT, env=environ, stdout=output, stderr=output, check=False
                ).returncode
            print(f"{head}\n{log.read_text(errors='replace')}", end="", flush=True)
        seconds = time.monotonic() - began
        print(f"== {folder}: {seconds:.0f} s", flush=True)
        return replace(outcome(report, status, mode.fast), seconds=seconds)


def temporary(folder: str) -> Path:
    """Where a suite's temporary folders lie: apart from those of other suites, and of other checkouts and users.

    Each pytest that starts closes the folder that all of a user's lie in to everybody else (mode 700), and so to the
    Postgres of another one, which may be just starting as a user of its own. The name is short, as the path of a Unix
    socket has to be.
    """
    name = hashlib.blake2s(f"{os.geteuid()} {ROOT / folder}".encode(), digest_size=4).hexdigest()
    root = Path(tempfile.gettempdir()) / f"sl-{name}"
    root.mkdir(exist_ok=True)
    return root


def run_all(environments: Mapping[str, str], mode: Mode) -> Iterator[tuple[str, Outcome]]:
    """Run suites, each in its environment, one stage after another."""
    for stage in filter(None, stages(environments, mode)):
        shown = repeat(len(stage) == 1)
        # More than there are cores: a third of what they do is to wait for processes.
        with ThreadPoolExecutor((os.cpu_count() or 1) + 1 + mode.fast) as pool:
            outcomes = pool.map(run, stage, [environments[folder] for folder in stage], shown, repeat(mode))
            yield from zip(stage, outcomes, strict=True)


def stages(folders: Iterable[str], mode: Mode) -> tuple[list[str], list[str], list[str]]:
    """What runs side by side: what brings up no stack; then what does; then the drills, which look at speed, too."""
    stacks = [folder for folder in folders if needs_everything(folder) and folder != TREE and not mode.fast]
    beside = [folder for folder in folders if folder not in stacks]
    return beside, [folder for folder in stacks if folder != DRILLS], [folder for folder in stacks if folder == DRILLS]


def outcome(report: Path, status: int, fast: bool = False) -> Outcome:
    """The outcome of a suite by its JUnit report and pytest's exit status.

    A suite that dies without a report, or fails without a failed test, counts as one failure: none is ever lost. That
    there was no test to run is none where all that are slow were left out (`fast`).
    """
    if not report.exists():
        return Outcome(failed=1)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    if fast and status == pytest.ExitCode.NO_TESTS_COLLECTED:
        status = 0
    if status != 0 and failed == 0:
        return Outcome(passed=total - skipped, failed=1, skipped=skipped)
    return Outcome(passed=total - skipped - failed, failed=failed, skipped=skipped)


def main() -> None:
    """Run the checks and all suites, or those that are named; a table of all, and the last line is the sum."""
    parser = argparse.ArgumentParser(description="Run the checks and all suites, or these suites alone.")
    parser.add_argument("folders", nargs="*", metavar="folder", help="a suite's")
    parser.add_argument("--repository", help="the suite of this repository alone")
    parser.add_argument("--drills", action="store_true", help="the drills too, and measure how much of the code is run")
    parser.add_argument("--fast", action="store_true", help="leave out the checks, and what is marked slow")
    arguments = parser.parse_args()
    began = time.monotonic()
    named = _named(arguments.folders, arguments.repository)
    if named:
        outcomes = dict(run_all(named, Mode(fast=arguments.fast)))
    else:
        outcomes = run_everything(arguments.drills, arguments.fast)
    total = sum(outcomes.values(), Outcome())
    print(f"\n{table(outcomes, total)}\n")
    if not named and not arguments.drills:
        print(f"{DRILLS} was not run: make test DRILLS=1")
    print(f"All took {time.monotonic() - began:.0f} s.")
    print(total, flush=True)
    sys.exit(1 if total.failed else 0)


def _named(folders: list[str], repository: str | None) -> dict[str, str]:
    """The suites of these names, with their environments; the program ends where one is none."""
    try:
        listed = repositories()
    except ListError as error:
        sys.exit(str(error))
    if repository and repository not in listed:
        sys.exit(f"No repository {repository}. There are: {' '.join(listed)}.")
    names = [*(folder.rstrip("/") for folder in folders), *([f"repos/{repository}/tests"] if repository else [])]
    if unknown := [name for name in names if name not in suites()]:
        sys.exit(f"No suite {' '.join(unknown)}. There are: {' '.join(suites())}.")
    return {name: environment for name, environment in suites().items() if name in names}


def run_everything(drills: bool, fast: bool) -> dict[str, Outcome]:
    """Run the checks, unless it has to be `fast`, and all suites; with drills, say how much of the code they ran."""
    environments = {name: environment for name, environment in suites().items() if drills or name != DRILLS}
    outcomes = {} if fast else {"checks": _checked()}
    _coverage("erase")  # files of a run that was ended halfway
    outcomes |= run_all(environments, Mode(measured=drills, fast=fast))
    return outcomes | ({"coverage": _covered()} if drills else {})


def table(outcomes: Mapping[str, Outcome], total: Outcome) -> str:
    """Every suite with its tests and seconds, and their sum: of what runs side by side, the seconds of each count."""
    rows = [
        [name, its.passed, its.failed, its.skipped, round(its.seconds)]
        for name, its in [*outcomes.items(), ("sum", total)]
    ]
    return tabulate(rows, headers=["suite", "passed", "failed", "skipped", "seconds"])


def _covered() -> Outcome:
    print("\n== coverage", flush=True)
    began = time.monotonic()
    enough = _coverage("combine", "--quiet") and _coverage("report")
    return Outcome(passed=int(enough), failed=int(not enough), seconds=time.monotonic() - began)


def _coverage(*arguments: str) -> bool:
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=ROOT, check=False).returncode == 0


def _checked() -> Outcome:
    print("== checks", flush=True)
    began = time.monotonic()
    results = checks.run()
    passed = sum(results.values())
    return Outcome(passed=passed, failed=len(results) - passed, seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
