"""The sum of all suites loses no failure."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy import suites as suites_module
from deploy.matrix import suites
from deploy.suites import Mode, Outcome, outcome, run_all, stages, table, temporary


def outcome_of(tmp_path: Path, source: str, *options: str) -> Outcome:
    """What a suite of this source counts as, run by a real pytest; options are those that leave out what is slow."""
    (tmp_path / "test_it.py").write_text(source)
    report = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), f"--junitxml={report}"]
    command += options
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    return outcome(report, done.returncode, fast=bool(options))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def test_a(): pass\ndef test_b(): pass", Outcome(passed=2)),
        ("def test_a(): pass\ndef test_b(): assert False", Outcome(passed=1, failed=1)),
        ("import pytest\ndef test_a(): pytest.skip()\ndef test_b(): pass", Outcome(passed=1, skipped=1)),
        ("import missing_module\ndef test_a(): pass", Outcome(failed=1)),
        ("import os\ndef test_a(): os._exit(3)", Outcome(failed=1)),
        ("", Outcome(failed=1)),
    ],
    ids=["passes", "fails", "skips", "cannot be imported", "dies", "holds no test"],
)
def test_a_suite_that(tmp_path: Path, source: str, expected: Outcome) -> None:
    assert outcome_of(tmp_path, source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pytest\n@pytest.mark.slow\ndef test_a(): assert False", Outcome()),
        ("import pytest\n@pytest.mark.slow\ndef test_a(): assert False\ndef test_b(): pass", Outcome(passed=1)),
        ("import missing_module\ndef test_a(): pass", Outcome(failed=1)),
    ],
    ids=["slow alone", "both", "cannot be imported"],
)
def test_without_what_is_slow_a_suite_that_has(tmp_path: Path, source: str, expected: Outcome) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: as here\n")
    assert outcome_of(tmp_path, source, "-m", "not slow") == expected


def test_a_failing_teardown_is_a_failure(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.fixture\ndef x():\n    yield\n    assert False\ndef test_a(x): pass"
    assert outcome_of(tmp_path, source).failed == 1


def test_the_sum_is_one_plain_line() -> None:
    total = sum([Outcome(3, 1, 0), Outcome(2, 0, 4)], Outcome())
    assert str(total) == "5 passed, 1 failed, 4 skipped"


def test_the_table_has_every_suite_with_its_tests_and_seconds_and_the_sum() -> None:
    outcomes = {"one/tests": Outcome(3, 1, 0, 2.4), "two/tests": Outcome(2, 0, 4, 60.0)}
    rows = [line.split() for line in table(outcomes, sum(outcomes.values(), Outcome())).splitlines()]
    assert rows[0] == ["suite", "passed", "failed", "skipped", "seconds"]
    assert rows[2:] == [
        ["one/tests", "3", "1", "0", "2"],
        ["two/tests", "2", "0", "4", "60"],
        ["sum", "5", "1", "4", "62"],
    ]


LEAVES_A_PROCESS = """
import atexit, os, subprocess
atexit.register(os.write, 1, b"no text: \\xff\\n")
def test_a():
    subprocess.Popen(["sleep", "20"])
    assert {holds}
"""


def test_suites_that_run_side_by_side_are_all_counted_whatever_they_print_and_leave_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suites_module, "ROOT", tmp_path)
    for name, holds in (("one", True), ("two", False)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test_it.py").write_text(LEAVES_A_PROCESS.format(holds=holds))
    began = time.monotonic()
    ran = dict(run_all({"one": "platform", "two": "platform"}, Mode()))
    assert ran == {"one": Outcome(passed=1), "two": Outcome(failed=1)}
    assert time.monotonic() - began < 20, "it did not wait for what the suites left running"
    assert capfd.readouterr().out.count("no text") == 2


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mode]:
    """The suites that would run, each with its mode; none of them does."""
    modes: dict[str, Mode] = {}

    def none_run(chosen: Mapping[str, str], mode: Mode) -> dict[str, Outcome]:
        modes.update(dict.fromkeys(chosen, mode))
        return dict.fromkeys(chosen, Outcome(passed=1))

    monkeypatch.setattr(suites_module, "run_all", none_run)
    monkeypatch.setattr(suites_module, "_checked", lambda: Outcome(passed=100))
    monkeypatch.setattr(suites_module, "_coverage", lambda *arguments: True)
    return modes


def said_to(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """How the program ends that is given these arguments."""
    monkeypatch.setattr(sys, "argv", ["suites", *arguments])
    with pytest.raises(SystemExit) as ended:
        suites_module.main()
    return ended.value.code


WITHOUT_DRILLS = sorted(set(suites()) - {"tests/drills"})


@pytest.mark.parametrize(
    ("arguments", "expected", "mode"),
    [
        ([], WITHOUT_DRILLS, Mode()),
        (["--drills"], sorted(suites()), Mode(measured=True)),
        (["--fast"], WITHOUT_DRILLS, Mode(fast=True)),
        (["tests/drills"], ["tests/drills"], Mode()),
        (["--drills", "shared_ops/tests/"], ["shared_ops/tests"], Mode()),
        (["--repository=corpus"], ["repos/corpus/tests"], Mode()),
        (["--repository=corpus", "--fast"], ["repos/corpus/tests"], Mode(fast=True)),
    ],
    ids=["all", "drills too", "fast", "one", "one, drills", "a repository", "a repository, fast"],
)
def test_what_is_asked_for_runs(
    arguments: list[str],
    expected: list[str],
    mode: Mode,
    ran: dict[str, Mode],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said_to(arguments, monkeypatch) == 0
    assert sorted(ran) == expected and set(ran.values()) == {mode}
    said = capsys.readouterr().out
    assert ("tests/drills was not run: make test DRILLS=1" in said) == (set(expected) == set(WITHOUT_DRILLS))
    tests = len(expected)
    if len(expected) > 1:
        tests += 0 if mode.fast else 100  # the checks
        tests += mode.measured  # that enough of the code was run
    assert said.splitlines()[-1] == f"{tests} passed, 0 failed, 0 skipped"


@pytest.mark.parametrize("arguments", [["no/tests"], ["--repository=no"], ["tests", "no"]], ids=" ".join)
def test_what_is_not_there_is_told_with_what_is(
    arguments: list[str], ran: dict[str, Mode], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = str(said_to(arguments, monkeypatch))
    assert told.startswith(("No suite no", "No repository no")) and "corpus" in told
    assert not ran


def test_the_drills_have_the_machine_to_themselves() -> None:
    beside, stacks, alone = stages(suites(), Mode())
    assert alone == ["tests/drills"] and stacks == ["tests", "tests/cold_start"]
    assert {"tests/tree", "shared_ops/tests"} < set(beside) == set(suites()) - {*stacks, *alone}
    assert stages(suites(), Mode(fast=True)) == (list(suites()), [], [])


def test_suites_are_found_where_they_lie() -> None:
    environments = suites()
    assert environments["tests"] == "platform" and environments["shared_ops/tests"] == "platform"
    assert environments["tests/drills"] == "platform"
    assert environments["repos/keyword/tests"] == "keyword" and environments["services/search/tests"] == "search"


def test_suites_that_run_side_by_side_share_no_temporary_folder() -> None:
    folders = [temporary(folder) for folder in suites()]
    assert len(set(folders)) == len(folders) and all(folder.is_dir() for folder in folders)
    assert all(len(folder.name) < len("pytest-of-root") for folder in folders)  # sockets lie in there, whose paths end
