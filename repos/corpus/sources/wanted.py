"""The columns that are looked for in a table, and what is said where they are not there, or twice."""

from collections.abc import Sequence
from dataclasses import dataclass

from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.values import is_utf8


@dataclass(frozen=True)
class WantedColumns:
    """Columns that are read from a table: those that must be there, and those that may be."""

    required: Sequence[str]
    optional: Sequence[str] = ()
    advice: str = "Name its columns under `columns` in the sources file."
    needed_beside_others: str = ""
    """An optional column that may be missing only where the required ones stand alone: another may be meant by it."""

    def check(self, there: Sequence[str], what: str, source: str) -> None:
        """Check that a table has every required column, no wanted one twice, and none that may stand for a missing one.

        Raises:
            SourceError: naming what it has, and what to do.
        """
        if not is_utf8("".join(there)):
            raise SourceError(f"Source {source!r}: {what} is not in UTF-8. Save the file as UTF-8.")
        shown = ", ".join(f"{name!r:.60}" for name in there[:20]) or "none"
        if missing := [column for column in self.required if column not in there]:
            absent = ", ".join(map(repr, missing))
            raise SourceError(f"Source {source!r}: {what} has no column {absent}; it has {shown}. {self.advice}")
        absent_ones = [column for column in self.optional if column not in there]
        if cased := [
            (column, name) for column in absent_ones for name in there if name.casefold() == column.casefold()
        ]:
            column, name = cased[0]
            raise SourceError(
                f"Source {source!r}: {what} has a column {name!r}, and {column!r} is looked for: it would not be read. "
                f"{self.advice}"
            )
        if twice := [name for name in dict.fromkeys([*self.required, *self.optional]) if there.count(name) > 1]:
            raise SourceError(
                f"Source {source!r}: {what} has more than one column {twice[0]!r}, and which of them is meant cannot "
                f"be told; it has {shown}. Give each a name of its own."
            )
        if others := self.in_its_place(there):
            name = others[0] if len(others) == 1 else "<its name>"
            raise SourceError(
                f"Source {source!r}: {what} has no column {self.needed_beside_others!r}, and others that may be meant; "
                f"it has {shown}. Where one is, write `columns: {{{self.needed_beside_others}: {name}}}`; where none "
                f"is, leave all but {' and '.join(self.required)} away."
            )

    def in_its_place(self, there: Sequence[str]) -> list[str]:
        """The columns that may be meant by the one that is needed beside others, where that is not there."""
        if not self.needed_beside_others or self.needed_beside_others in there:
            return []
        return [name for name in there if name and name not in self.required]
