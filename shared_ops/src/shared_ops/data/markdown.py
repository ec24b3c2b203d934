"""Tables as Markdown, as Dagit shows them."""

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int | None = None) -> str:
    """A Markdown table of these rows; what stands in a cell stays as it is written.

    Columns from number `numbers_from` on, counted from 0, stand at the right, as numbers do.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    left = len(columns) if numbers_from is None else numbers_from
    aligned = ["left" if number < left else "right" for number in range(len(columns))]
    # Where there is no row tabulate knows no columns to align.
    return tabulate(
        cells, headers=columns, tablefmt="github", disable_numparse=True, colalign=aligned if cells else None
    )
