"""The columns that a reader needs or can use of a table, and the errors where they are missing or ambiguous."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.values import is_utf8

_DATA = re.compile(r"[+-]?\d+([.,]\d+)?|https?://\S+|\S+(\s+\S+){7,}")
"""What hardly names a column: a number, an address, eight words or more."""


@dataclass(frozen=True)
class WantedColumns:
    """The columns that are read from a table, required and optional ones."""

    required: Sequence[str]
    optional: Sequence[str] = ()
    advice: str = "Name its columns under `columns` in the sources file."
    needed_beside_others: str = ""
    """An optional column that may be missing only where the table has no others that could be meant by it."""
    nameless: Mapping[int, str] = field(default_factory=dict)
    """How a file whose columns have no names is read too, by the number of words in its rows: a sentence each."""

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
        names = _listed(columns)
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
        if twice := self._twice(columns):
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

    def check_header(self, columns: Sequence[str], delimiter: str, url: str, source: str) -> None:
        """Check the names that the first line of a file gives its columns; it may be a row of data that gives none.

        Raises:
            SourceError: as by `check`; where the line may be data, it says what line to write above it.
        """
        header = f"the header line of {url}"
        looks = f"Source {source!r}: {url} looks as if it had no header line: its first row is {_listed(columns)}."
        if any(map(_DATA.fullmatch, self._twice(columns))):
            raise SourceError(
                f"{looks} `columns` in the sources file names what stands in that row. Take `columns` away, and write "
                "a line of names above the row, as repos/corpus/README.md has them."
            )
        if not columns or set(self.required) & set(columns):
            self.check(columns, header, source)
            return
        above = f"write a line above it that names {self._names(len(columns), delimiter)}."
        if sentence := self.nameless.get(len(" ".join(columns).split())):
            above += f" {sentence}"
        if len(columns) >= len(self.required) and any(map(_DATA.fullmatch, columns)):
            raise SourceError(f"{looks} If that is a row of data, {above} Otherwise: {self.advice}")
        replace(self, advice=f"{self.advice} If that line is a row of data, {above}").check(columns, header, source)

    def _names(self, count: int, delimiter: str) -> str:
        """In words, what a line has to name above a file whose rows have `count` fields."""
        names = list(dict.fromkeys([*self.optional, *self.required]))
        if count > len(names):
            return f"each of its {count} columns, {', '.join(names)} among them"
        if count < len(self.required):
            return f"{' and '.join(self.required)}, and write {_shown(delimiter)} between all fields"
        spare = [name for name in names if name not in self.required][count - len(self.required) :]
        line = _shown(delimiter).join(name for name in names if name not in spare)
        return f"its columns in their order, for instance `{line}`"

    def _twice(self, columns: Sequence[str]) -> list[str]:
        return [name for name in dict.fromkeys([*self.required, *self.optional]) if columns.count(name) > 1]

    def stand_ins(self, columns: Sequence[str]) -> list[str]:
        """The other columns of a table without `needed_beside_others`: that one may be meant by any of them."""
        if not self.needed_beside_others or self.needed_beside_others in columns:
            return []
        return [name for name in columns if name and name not in self.required]


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(f"{name!r:.60}" for name in columns[:20]) or "none"


def _shown(delimiter: str) -> str:
    return "<TAB>" if delimiter == "\t" else delimiter
