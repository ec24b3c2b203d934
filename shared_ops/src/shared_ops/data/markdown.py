"""Tables as Markdown, as Dagit shows them."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int | None = None) -> str:
    """A Markdown table of these rows; each cell is written as `str` gives it.

    Columns from index `numbers_from` on are aligned to the right, as numbers are.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    left = len(columns) if numbers_from is None else numbers_from
    aligned = ["left" if number < left else "right" for number in range(len(columns))]
    # Without rows tabulate has no columns to align.
    return tabulate(
        cells, headers=columns, tablefmt="github", disable_numparse=True, colalign=aligned if cells else None
    )
