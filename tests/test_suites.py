"""The sum of all suites loses no failure."""

import subprocess
import sys

import pytest

from deploy.suites import Outcome, counted, suites


def outcome_of(tmp_path, source):
    """What a suite of this source counts as, run by a real pytest."""
    (tmp_path / "test_it.py").write_text(source)
    report = tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), f"--junitxml={report}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    return counted(report, done.returncode)


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
def test_a_suite_that(tmp_path, source, expected):
    assert outcome_of(tmp_path, source) == expected


def test_a_failing_teardown_is_a_failure(tmp_path):
    source = "import pytest\n@pytest.fixture\ndef x():\n    yield\n    assert False\ndef test_a(x): pass"
    assert outcome_of(tmp_path, source).failed == 1


def test_the_sum_is_one_plain_line():
    total = sum([Outcome(3, 1, 0), Outcome(2, 0, 4)], Outcome())
    assert str(total) == "5 passed, 1 failed, 4 skipped"


def test_suites_are_found_where_they_lie():
    found = suites()
    assert found["tests"] == "platform" and found["shared_ops/tests"] == "platform"
    assert found["tests/drills"] == "platform"
    assert found["repos/keyword/tests"] == "keyword" and found["services/search/tests"] == "search"
