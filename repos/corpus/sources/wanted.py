"""The columns that a reader needs or can use of a table, and the errors where they are missing or ambiguous."""

from collections.abc import Sequence
from dataclasses import dataclass

from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.values import is_utf8


@dataclass(frozen=True)
class WantedColumns:
    """The columns that are read from a table, required and optional ones."""

    required: Sequence[str]
    optional: Sequence[str] = ()
    advice: str = "Name its columns under `columns` in the sources file."
    needed_beside_others: str = ""
    """An optional column that may be missing only where the table has no others that could be meant by it."""

    def check(self, columns: Sequence[str], what: str, source: str) -> None:
        """Check that each required column exists, none exists twice, and no other may be meant by a missing one.

        Args:
            columns: the names of the table's columns.
            what: what the table is, for the message.
            source: the source's name.

        Raises:
            SourceError: where one of these does not hold, naming the table's columns and what to do.
        """
        if not is_utf8("".join(columns)):
            raise SourceError(f"Source {source!r}: {what} is not in UTF-8. Save the file as UTF-8.")
        names = ", ".join(f"{name!r:.60}" for name in columns[:20]) or "none"
        if missing := [column for column in self.required if column not in columns]:
            absent = ", ".join(map(repr, missing))
            raise SourceError(f"Source {source!r}: {what} has no column {absent}; it has {names}. {self.advice}")
        missing_ones = [column for column in self.optional if column not in columns]
        if cased := [
            (column, name) for column in missing_ones for name in columns if name.casefold() == column.casefold()
        ]:
            column, name = cased[0]
            raise SourceError(
                f"Source {source!r}: {what} has a column {name!r}, and {column!r} is looked for: it would not be read. "
                f"{self.advice}"
            )
        if twice := [name for name in dict.fromkeys([*self.required, *self.optional]) if columns.count(name) > 1]:
            raise SourceError(
                f"Source {source!r}: {what} has more than one column {twice[0]!r}, and which of them is meant cannot "
                f"be told; it has {names}. Give each a name of its own."
            )
        if others := self.stand_ins(columns):
            name = others[0] if len(others) == 1 else "<its name>"
            raise SourceError(
                f"Source {source!r}: {what} has no column {self.needed_beside_others!r}, and others that may be meant; "
                f"it has {names}. Where one is, write `columns: {{{self.needed_beside_others}: {name}}}`; where none "
                f"is, leave all but {' and '.join(self.required)} away."
            )

    def stand_ins(self, columns: Sequence[str]) -> list[str]:
        """The other columns of a table without `needed_beside_others`: that one may be meant by any of them."""
        if not self.needed_beside_others or self.needed_beside_others in columns:
            return []
        return [name for name in columns if name and name not in self.required]
