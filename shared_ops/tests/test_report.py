"""The report shows slices, differences and the queries behind them, and no text of a query breaks it."""

import base64
import re

import numpy as np
import polars as pl
import pytest
from markdown_it import MarkdownIt

from shared_ops.judge.gating import GatePolicy, judge, judge_first
from shared_ops.judge.report import SHOWN, escaped, report

POLICY = GatePolicy(resamples=200)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
HOSTILE = [
    "a | b || c",
    "two\nlines\r\nor \u2028 more\n\n# and a heading",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[a link](javascript:alert(1)) ![picture](http://somewhere/x.png)",
    "**bold** _it_ `code` ~~gone~~ \\| $x^2$ &amp; <!-- - ---|---",
    "\x00\x07 \\",
]


def measured(values: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"query_id": [f"q{place:05}" for place in range(len(values))], "nDCG@10": values})


def members(queries: int, *slices: str) -> pl.DataFrame:
    rows = [(f"q{place:05}", name) for place in range(queries) for name in ("all", *slices)]
    return pl.DataFrame(rows, schema=["query_id", "slice"], orient="row")


def compared(ours: np.ndarray, theirs: np.ndarray, slices: pl.DataFrame, texts: dict[str, str]) -> str:
    verdict = judge(measured(ours), measured(theirs), slices, POLICY, "v1")
    return report(measured(ours), measured(theirs), slices, texts, verdict)


def pictures(page: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r"!\[[^]]*\]\(data:image/png;base64,([^)]+)\)", page)]


def tables(page: str) -> list[list[list[str]]]:
    """The cells of every table, as a Markdown parser reads them."""
    cells: list[list[list[str]]] = []
    tokens = MARKDOWN.parse(page)
    for place, token in enumerate(tokens):
        if token.type == "table_open":
            cells.append([])
        elif token.type == "tr_open":
            cells[-1].append([])
        elif token.type in ("th_open", "td_open"):
            children = tokens[place + 1].children or []
            assert {child.type for child in children} <= {"text", "text_special"}, "a cell holds text alone"
            cells[-1][-1].append("".join(child.content for child in children))
    return cells


def test_a_first_release_shows_its_slices_and_what_it_answers_worst() -> None:
    values, slices = np.linspace(0, 1, 50), members(50, "paraphrase")
    page = report(measured(values), None, slices, {"q00000": "hard one"}, judge_first(measured(values), POLICY))
    by_slice, worst = tables(page)
    assert by_slice[1:] == [["all", "50", "0.5000"], ["paraphrase", "50", "0.5000"]]
    assert worst[1] == ["hard one", "0.0000"] and len(worst) == SHOWN + 1
    assert len(pictures(page)) == 2 and page.startswith("**Accepted")


def test_a_challenger_shows_who_gained_and_who_lost_most() -> None:
    theirs = np.full(100, 0.5)
    ours = theirs.copy()
    ours[:20] += np.linspace(0.1, 0.4, 20)
    ours[20:23] -= [0.1, 0.3, 0.2]
    page = compared(ours, theirs, members(100, "verbatim"), {"q00019": "best", "q00021": "worst"})
    by_slice, gained, lost = tables(page)
    assert gained[1] == ["best", "0.9000", "0.5000", "+0.4000"] and len(gained) == SHOWN + 1
    assert [row[0] for row in lost[1:]] == ["worst", "q00022", "q00020"]
    assert [row[0] for row in by_slice[1:]] == ["all", "verbatim"] and len(by_slice[2]) == 6
    assert "Gained most, of 20" in page and "Lost most, of 3" in page and len(pictures(page)) == 2


def test_one_slice_and_no_change_still_make_a_page() -> None:
    page = compared(np.full(5, 0.5), np.full(5, 0.5), members(5), {})
    assert page.count("None.") == 2 and len(tables(page)) == 1 and len(pictures(page)) == 2


def test_thousands_of_queries_and_many_slices_stay_small() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.random(5_000), random.random(5_000)
    page = compared(ours, theirs, members(5_000, *(f"source:{place} $x_$ {'y' * 60}" for place in range(30))), {})
    assert len(tables(page)[0]) == 21, "the heading and twenty slices"
    for picture in pictures(page):
        assert picture.startswith(b"\x89PNG") and len(picture) <= 60_000


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_breaks_a_table(text: str) -> None:
    page = compared(np.array([0.9, 0.1]), np.array([0.1, 0.1]), members(2, text), {"q00000": text})
    by_slice, gained = tables(page)
    printable = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    assert gained[1] == [printable, "0.9000", "0.1000", "+0.8000"]
    assert by_slice[2][0] == printable and len(by_slice[2]) == 6


def test_long_texts_are_cut() -> None:
    assert len(escaped("word " * 100)) == 120 and escaped("word " * 100).endswith("…")


def test_values_that_are_not_numbers_are_drawn_as_nothing() -> None:
    page = compared(np.array([np.nan, 0.5]), np.array([0.5, 0.5]), members(2), {})
    assert tables(page)[1][1] == ["q00000", "0.0000", "0.5000", "-0.5000"]
