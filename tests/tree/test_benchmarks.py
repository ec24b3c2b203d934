"""What benchmarks tell is kept in one table, each figure beside its goal and the value before."""

import json
from pathlib import Path

import pytest

from bench import _figures
from bench._figures import GOALS, Goal
from deploy.benchmarks import results, rows
from shared_ops.settings import ROOT

MEDIAN, CARRIED = "20 searches a second: median", "searches a second, p99 below 250 ms, none lacks a model"


def test_each_figure_with_a_goal_is_told_by_one_benchmark() -> None:
    texts = [script.read_text() for script in (ROOT / "bench").glob("[!_]*.py")]
    told = {name: sum(text.count(f'"{name}"') for text in texts) for name in GOALS}
    assert told == dict.fromkeys(GOALS, 1)


def test_the_table_says_whether_a_goal_is_met_and_what_was_before() -> None:
    first = results({}, {MEDIAN: 25.0}, "2026-11-30, 2 cores")
    assert rows(first) == {MEDIAN: ["25 ms", "at most 20 ms", "1.25", "NO", "", "2026-11-30, 2 cores"]}
    then = rows(results(rows(first), {MEDIAN: 16.0, CARRIED: 120.0}, "2026-12-01, 2 cores"))
    assert then[MEDIAN] == ["16 ms", "at most 20 ms", "0.80", "yes", "25 ms", "2026-12-01, 2 cores"]
    assert then[CARRIED] == ["120 /s", "at least 100 /s", "1.20", "yes", "", "2026-12-01, 2 cores"]


def test_what_is_not_measured_again_keeps_its_row() -> None:
    first = results({}, {MEDIAN: 25.0}, "2026-11-30")
    assert rows(results(rows(first), {CARRIED: 50.0}, "2026-12-01"))[MEDIAN] == rows(first)[MEDIAN]


def test_a_figure_is_printed_beside_its_goal_and_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(_figures.GATHERED, str(tmp_path / "gathered"))
    for value in (19.94, 25.0):
        _figures.tell(MEDIAN, value)
    assert capsys.readouterr().out.splitlines() == [
        f"  {MEDIAN}: 19.94 ms [goal: at most 20 ms; met]",
        f"  {MEDIAN}: 25 ms [goal: at most 20 ms; NOT met]",
    ]
    gathered = [json.loads(line) for line in (tmp_path / "gathered").read_text().splitlines()]
    assert gathered == [{"figure": MEDIAN, "value": 19.94}, {"figure": MEDIAN, "value": 25.0}]
    with pytest.raises(KeyError):
        _figures.tell("no such figure", 1.0)


def test_a_goal_is_a_bound() -> None:
    assert Goal(5, "s").is_met(5) and not Goal(5, "s").is_met(5.1)
    assert Goal(5, "x", at_least=True).is_met(5) and not Goal(5, "x", at_least=True).is_met(4.9)
