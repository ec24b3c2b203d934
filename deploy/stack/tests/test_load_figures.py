"""What the benchmark of searches compares with is what the page on load says."""

import re

from bench import _figures
from bench._figures import Figure
from shared_ops.settings import ROOT


def test_the_recorded_figures_are_those_of_the_page_on_load() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "load.md").read_text().splitlines() if line.startswith("|")]
    newest = [cells[-2].strip() for cells in rows]
    assert newest[0].startswith(_figures.DATE)
    numbers = set(re.findall(r"[\d.,]*\d", " ".join(newest)))
    figures = [_figures.PROCESSOR, _figures.TRAINING, *_figures.IDLE.values(), *_figures.P99.values()]
    for figure in figures:
        assert set(re.findall(r"[\d.,]*\d", figure.recorded)) <= numbers


def test_a_figure_says_its_goal_and_what_was_recorded() -> None:
    assert str(Figure("1 at most", "0.9")) == "[goal: 1 at most; recorded: 0.9]"
