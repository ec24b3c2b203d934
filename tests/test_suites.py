"""The sum of all suites loses no failure."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy import suites as suites_module
from deploy.suites import Outcome, outcome, run_all, suites


def outcome_of(tmp_path: Path, source: str) -> Outcome:
    """What a suite of this source counts as, run by a real pytest."""
    (tmp_path / "test_it.py").write_text(source)
    report = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), f"--junitxml={report}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    return outcome(report, done.returncode)


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


def test_a_failing_teardown_is_a_failure(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.fixture\ndef x():\n    yield\n    assert False\ndef test_a(x): pass"
    assert outcome_of(tmp_path, source).failed == 1


def test_the_sum_is_one_plain_line() -> None:
    total = sum([Outcome(3, 1, 0), Outcome(2, 0, 4)], Outcome())
    assert str(total) == "5 passed, 1 failed, 4 skipped"


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
    assert dict(run_all({"one": "platform", "two": "platform"})) == {"one": Outcome(passed=1), "two": Outcome(failed=1)}
    assert time.monotonic() - began < 20, "it did not wait for what the suites left running"
    assert capfd.readouterr().out.count("no text") == 2


@pytest.mark.parametrize(
    ("arguments", "drills"),
    [([], False), (["--drills"], True), (["tests/drills"], True), (["--drills", "shared_ops/tests"], False)],
)
def test_the_drills_run_where_they_are_asked_for_and_it_is_said_where_they_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], drills: bool
) -> None:
    ran: list[str] = []

    def none_run(chosen: Mapping[str, str], measured: bool = False) -> dict[str, Outcome]:
        ran.extend(chosen)
        return {}

    monkeypatch.setattr(suites_module, "run_all", none_run)
    monkeypatch.setattr(suites_module, "_checked", Outcome)
    monkeypatch.setattr(suites_module, "_coverage", lambda *arguments: True)
    monkeypatch.setattr(sys, "argv", ["suites", *arguments])
    with pytest.raises(SystemExit) as ended:
        suites_module.main()
    assert ended.value.code == 0 and ("tests/drills" in ran) == drills
    assert ("tests/drills                 not run: make test DRILLS=1" in capsys.readouterr().out) == (arguments == [])


def test_suites_are_found_where_they_lie() -> None:
    environments = suites()
    assert environments["tests"] == "platform" and environments["shared_ops/tests"] == "platform"
    assert environments["tests/drills"] == "platform"
    assert environments["repos/keyword/tests"] == "keyword" and environments["services/search/tests"] == "search"
