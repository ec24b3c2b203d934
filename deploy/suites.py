"""Runs the checks and every test suite of the monorepo, each in its own environment, and adds up their results.

Run as `python -m deploy.suites [--drills] [folder]` in envs/platform. Suites are found, not listed: every folder
`tests` with tests in it. None is skipped because another fails; the drills, which take as long as all others together,
run where they are asked for, and in CI. Those that bring up a whole stack (tests/) have the machine to
themselves, one after another; the others run side by side, one for each core, and print what they say when they end.
With the drills, as in CI, it is measured how much of the code all together run, which takes some suites half as long
again: pyproject.toml says how much it has to be. Only the tests' own processes are measured, not those of a stack that
they bring up.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from deploy import checks
from shared_ops.settings import ROOT, ListError, python_of, repositories, search_families

PLACES = (
    "repos/*/tests",
    "shared_ops/tests",
    "services/tests",
    "services/*/tests",
    "deploy/*/tests",
    "tests",
    "tests/*",
)
DRILLS = "tests/drills"


@dataclass(frozen=True)
class Outcome:
    """How many tests of a suite passed, failed (or broke) and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def suites() -> dict[str, str]:
    """Every suite's folder, in the order in which they run, with the environment that it runs in."""
    folders = [folder for place in PLACES for folder in sorted(ROOT.glob(place)) if any(folder.glob("test_*.py"))]
    return {folder.relative_to(ROOT).as_posix(): _environment(folder.relative_to(ROOT)) for folder in folders}


def _environment(folder: Path) -> str:
    """The environment that a suite runs in.

    A repository's tests run in its own; the prediction service's, which serve a real model, in that of the first family
    that searches; those of the other services in the search app's, and all others in the platform's.
    """
    if folder.parts[0] == "repos":
        return repositories()[folder.parts[1]].environment
    if folder.parts[:2] == ("services", "prediction"):
        return repositories()[search_families()[0]].environment
    return "search" if folder.parts[0] == "services" else "platform"


def run(folder: str, environment: str, shown: bool, measured: bool) -> Outcome:
    """Run one suite, without those in its subfolders. Its output appears as it comes if `shown`, else at the end.

    If `measured`, a file in ROOT says what code it ran.
    """
    within = [f"--ignore={other}" for other in suites() if other.startswith(f"{folder}/")]
    began = time.monotonic()
    head = f"\n== {folder} (in envs/{environment})"
    with tempfile.TemporaryDirectory() as scratch:
        report, log = Path(scratch) / "junit.xml", Path(scratch) / "output"
        measuring = ["coverage", "run", "-m"] if measured else []
        command = [str(python_of(environment)), "-m", *measuring, "pytest", folder, *within, f"--junitxml={report}"]
        if shown:
            print(head, flush=True)
            status = subprocess.run(command, cwd=ROOT, check=False).returncode
        else:
            # A file: a pipe would wait for the end of what a suite has left running, too.
            with log.open("wb") as output:
                status = subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False).returncode
            print(f"{head}\n{log.read_text(errors='replace')}", end="", flush=True)
        print(f"== {folder}: {time.monotonic() - began:.0f} s", flush=True)
        return outcome(report, status)


def run_all(environments: Mapping[str, str], measured: bool = False) -> Iterator[tuple[str, Outcome]]:
    """Run suites, each in its environment: first those that may run side by side."""
    beside = [folder for folder in environments if folder.split("/")[0] != "tests"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        shown = len(beside) == 1
        outcomes = pool.map(lambda folder: run(folder, environments[folder], shown, measured), beside)
        yield from zip(beside, outcomes, strict=True)
    for folder in environments:
        if folder not in beside:
            yield folder, run(folder, environments[folder], shown=True, measured=measured)


def outcome(report: Path, status: int) -> Outcome:
    """The outcome of a suite by its JUnit report and pytest's exit status.

    A suite that dies without a report, or fails without a failed test, counts as one failure: none is ever lost.
    """
    if not report.exists():
        return Outcome(failed=1)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    if status != 0 and failed == 0:
        return Outcome(passed=total - skipped, failed=1, skipped=skipped)
    return Outcome(passed=total - skipped - failed, failed=failed, skipped=skipped)


def main() -> None:
    """Run the checks and all suites, or the suite of one folder; the last line is the sum."""
    arguments = sys.argv[1:]
    try:
        environments = suites()
    except ListError as error:
        sys.exit(str(error))
    drills = "--drills" in arguments
    if folders := [name.rstrip("/") for name in arguments if name != "--drills"]:
        environments = {name: environment for name, environment in environments.items() if name in folders}
        if len(environments) != len(folders):
            sys.exit(f"No suite {' '.join(folders)}. There are: {' '.join(suites())}.")
    elif not drills:
        del environments[DRILLS]
    outcomes = dict(run_all(environments)) if folders else run_everything(environments, measured=drills)
    print()
    for name, its in outcomes.items():
        print(f"{name:<28} {its}")
    if not folders and not drills:
        print(f"{DRILLS:<28} not run: make test DRILLS=1")
    total = sum(outcomes.values(), Outcome())
    print(total, flush=True)
    sys.exit(1 if total.failed else 0)


def run_everything(environments: Mapping[str, str], measured: bool) -> dict[str, Outcome]:
    """Run the checks and these suites; if `measured`, say how much of the code all suites together ran."""
    checked = _checked()
    _coverage("erase")  # files of a run that was ended halfway
    outcomes = {"checks": checked, **dict(run_all(environments, measured))}
    return outcomes | ({"coverage": _covered()} if measured else {})


def _covered() -> Outcome:
    print("\n== coverage", flush=True)
    enough = _coverage("combine", "--quiet") and _coverage("report")
    return Outcome(passed=int(enough), failed=int(not enough))


def _coverage(*arguments: str) -> bool:
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=ROOT, check=False).returncode == 0


def _checked() -> Outcome:
    print("== checks", flush=True)
    results = checks.run()
    return Outcome(passed=sum(results.values()), failed=len(results) - sum(results.values()))


if __name__ == "__main__":
    main()
