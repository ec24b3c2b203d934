"""The evaluation report: what a challenger does better and worse than the champion, as one Markdown page with pictures.

Knows no Dagster. The pictures are PNG in data: URIs, which Dagit's Markdown shows; so the page is one piece of text,
small enough for an event's metadata, and a release carries it as one file.
"""

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from shared_ops.data import markdown
from shared_ops.judge.evaluation import PRIMARY
from shared_ops.judge.gating import Verdict

SHOWN = 10
"""Queries in each table."""
MAX_SLICES = 20
"""Slices shown, those of the most queries."""
MAX_TEXT = 120
"""Characters of a query's text that are shown."""
OURS, THEIRS = "#1f6feb", "#9aa4b2"


def report(
    challenger: pl.DataFrame,
    champion: pl.DataFrame | None,
    members: pl.DataFrame,
    texts: Mapping[str, str],
    verdict: Verdict,
) -> str:
    """The report as Markdown.

    Args:
        challenger: columns query_id and PRIMARY, one row a query.
        champion: the same for the champion, or None for a first release.
        members: which queries each slice holds (query_id, slice).
        texts: each query's text; a query without one is shown by its id.
        verdict: the gate's verdict.
    """
    measured = _measured(challenger, champion)
    slices = _slices(measured, members)
    parts = [
        f"**{escaped(verdict.sentence, None)}**",
        "## Slices",
        _slice_picture(slices),
        _slice_table(slices, verdict),
    ]
    if champion is None:
        parts += ["## Queries", _values_picture(measured)]
        parts += ["### Answered worst", _query_table(measured.sort("challenger", "query_id"), texts)]
    else:
        parts += ["## Queries against the champion", _differences_picture(measured)]
        gained = measured.filter(pl.col("difference") > 0).sort("difference", "query_id", descending=[True, False])
        lost = measured.filter(pl.col("difference") < 0).sort("difference", "query_id")
        parts += [f"### Gained most, of {len(gained)}", _query_table(gained, texts)]
        parts += [f"### Lost most, of {len(lost)}", _query_table(lost, texts)]
    return "\n\n".join(parts) + "\n"


def escaped(text: str, most: int | None = MAX_TEXT) -> str:
    """A text on one line, which Markdown shows as it is written; cut after `most` characters."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", _line(text, most))  # every ASCII sign may be escaped (CommonMark 2.4)


def _line(text: str, most: int | None) -> str:
    """What can be printed of a text, on one line, cut after `most` characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if most is None or len(line) <= most else line[: most - 1] + "…"


def _measured(challenger: pl.DataFrame, champion: pl.DataFrame | None) -> pl.DataFrame:
    """Columns query_id, challenger, and with a champion: champion, difference. A value that is not finite becomes 0."""

    def values(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        value = pl.col(PRIMARY).cast(pl.Float64)
        return frame.select("query_id", pl.when(value.is_finite()).then(value).otherwise(0.0).alias(name))

    measured = values(challenger, "challenger")
    if champion is None:
        return measured
    return measured.join(values(champion, "champion"), on="query_id").with_columns(
        (pl.col("challenger") - pl.col("champion")).alias("difference")
    )


def _slices(measured: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """The means of the slices with the most queries: columns slice, queries, and each column of `measured`."""
    return (
        measured.join(members, on="query_id")
        .group_by("slice")
        .agg(pl.len().alias("queries"), pl.exclude("query_id", "queries").mean())
        .sort(pl.col("slice") != "all", -pl.col("queries").cast(pl.Int64), "slice")
        .head(MAX_SLICES)
    )


def _slice_table(slices: pl.DataFrame, verdict: Verdict) -> str:
    if "champion" not in slices.columns:
        rows = [[row["slice"], f"{row['queries']}", _number(row["challenger"])] for row in slices.to_dicts()]
        return _table(["slice", "queries", PRIMARY], rows)
    rows = []
    for row in slices.to_dicts():
        tested = verdict.slice_tests.get(row["slice"])
        p_value = "not judged" if tested is None or tested.p_value is None else f"{tested.p_value:.4f}"
        difference = f"{row['difference']:+.4f}"
        values = [_number(row["challenger"]), _number(row["champion"]), difference]
        rows.append([row["slice"], f"{row['queries']}", *values, "" if row["slice"] == "all" else p_value])
    return _table(["slice", "queries", "challenger", "champion", "difference", "p of no loss"], rows)


def _query_table(measured: pl.DataFrame, texts: Mapping[str, str]) -> str:
    if not len(measured):
        return "None."
    values = [name for name in ("challenger", "champion", "difference") if name in measured.columns]
    rows = [
        [
            texts.get(row["query_id"], row["query_id"]),
            *(f"{row[name]:+.4f}" if name == "difference" else _number(row[name]) for name in values),
        ]
        for row in measured.head(SHOWN).to_dicts()
    ]
    return _table(["query", *values], rows)


def _number(value: float) -> str:
    return f"{value:.4f}"


def _table(names: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text that people wrote."""
    return markdown.table(names, [[escaped(row[0]), *row[1:]] for row in rows], numbers_from=1)


def _slice_picture(slices: pl.DataFrame) -> str:
    figure, axes = _figure(0.9 + 0.35 * max(len(slices), 1))
    places = np.arange(len(slices))
    if "champion" in slices.columns:
        axes.barh(places - 0.2, slices["challenger"], 0.4, color=OURS, label="challenger")
        axes.barh(places + 0.2, slices["champion"], 0.4, color=THEIRS, label="champion")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    else:
        axes.barh(places, slices["challenger"], 0.6, color=OURS)
    names = [f"{_line(name, 32)} ({queries})" for name, queries in slices.select("slice", "queries").iter_rows()]
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=f"mean {PRIMARY}, in brackets the number of queries")
    return _image(figure, f"mean {PRIMARY} per slice")


def _differences_picture(measured: pl.DataFrame) -> str:
    differences = measured["difference"].to_numpy()
    changed = differences[differences != 0]
    figure, axes = _figure(2.6)
    edges = np.linspace(-1, 1, 41)
    axes.hist(changed[changed < 0], edges, color=THEIRS, label=f"{(changed < 0).sum()} lost")
    axes.hist(changed[changed > 0], edges, color=OURS, label=f"{(changed > 0).sum()} gained")
    axes.axvline(differences.mean() if len(differences) else 0.0, color="black", linewidth=1, label="mean of all")
    axes.legend(frameon=False)
    unchanged = len(differences) - len(changed)
    axes.set(xlabel=f"difference in {PRIMARY}; {unchanged} unchanged queries are not drawn", ylabel="queries")
    return _image(figure, f"distribution of the differences in {PRIMARY}")


def _values_picture(measured: pl.DataFrame) -> str:
    figure, axes = _figure(2.6)
    axes.hist(measured["challenger"].to_numpy(), np.linspace(0, 1, 21), color=OURS)
    axes.set(xlabel=f"{PRIMARY} of a query", ylabel="queries")
    return _image(figure, f"distribution of {PRIMARY}")


def _figure(height: float) -> tuple[Any, Any]:
    """A figure and its axes, without pyplot's global state; Agg draws it, without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _image(figure: Any, description: str) -> str:
    """The figure as a Markdown image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return f"![{description}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
