"""What every reader gives: rows of the snapshot's tables, and a report of what was left out and why.

Knows no kind of source and no Dagster.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import BaseModel, Field

from shared_ops.data.text import Split

Row: TypeAlias = dict[str, Any]

EXAMPLES = 5
"""How many examples of each kind of bad row a report holds."""
PRECEDENCE: tuple[Split, ...] = ("test", "dev", "train")
"""The splits, most held back first: a query that stands in several belongs to the first of them."""


_SECRET = "pass|pwd|secret|token|key|sig|auth|cred"
SECRET = re.compile(_SECRET, re.IGNORECASE)
"""Matches within the name of a URL's query parameter whose value is secret (`sig`, `api_key`)."""
# People write passwords unescaped, with spaces and slashes, and names with an @. Masking too much is better than too
# little, so a password ends at the last @ before the first slash or in the text after it up to a space; without such
# an @, at the last @ of the line, unless a port follows the colon. In zip://d.csv::ftp:// the colon begins the next
# address.
_PASSWORD = re.compile(r"(?<=://)([^/:\n]*):(?!:\w+://)(?:[^/\n]*(?:/\S*)?|(?!\d+(?:\W|$))(?:(?!://)[^\n])*)@")
_PARAMETER = re.compile(rf"([?&;][^\s=&#?]*(?:{_SECRET})[^\s=&#]*=)[^\s&#]*[^\s&#.,;:'\")\]]", re.IGNORECASE)
"""A secret parameter. Its group is the name; the value ends before what ends a quotation or a sentence."""


def mask_secrets(text: str) -> str:
    """`text` with *** for the passwords of the URLs in it and for the secret parameters of their queries."""
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def installing(packages: str) -> str:
    """What to do where the corpus' environment lacks these packages, named in a message as words: one sentence."""
    return (
        f"Write {packages} into envs/light/requirements.in; then make lock REPO=corpus, make envs and, where the stack "
        "runs, make code-server REPO=corpus."
    )


class SourceError(RuntimeError):
    """A source cannot be read, or too much of it is bad. The message says which source, what, and what to do.

    The message goes to logs, to Dagit and to people's chats, so passwords and tokens of URLs in it are masked.
    """

    def __init__(self, message: str) -> None:
        super().__init__(mask_secrets(message))


class Bad(BaseModel):
    """The rows left out for one kind of mistake."""

    count: int = 0
    of: int = Field(default=0, description="rows read of the table in question")
    examples: list[str] = Field(default_factory=list, description="where the first of them stand")


class SourceReport(BaseModel):
    """How many rows of one source went into the corpus, and how many were left out or changed, and why."""

    name: str
    kind: str
    documents: int = 0
    queries: int = 0
    judgements: int = 0
    max_bad_share: float = 0.01
    bad: dict[str, Bad] = Field(default_factory=dict, description="'<table>: <what is wrong>' to the rows")
    notes: dict[str, int | str] = Field(
        default_factory=dict, description="left out or changed by rule; nothing is wrong"
    )


@dataclass
class Collected:
    """The rows of one source."""

    report: SourceReport
    documents: list[Row] = field(default_factory=list)
    queries: list[Row] = field(default_factory=list)
    qrels: list[Row] = field(default_factory=list)
    slices: list[Row] = field(default_factory=list)
    rows_read: Counter[str] = field(default_factory=Counter)
    """By table, how many rows of it were read, good and bad."""
    most: int | None = None
    """How many rows of each table are read at most; None for all."""
    cut: set[str] = field(default_factory=set)
    """The tables that hold more rows than `most`."""

    def enough(self, table: str) -> bool:
        """Whether `most` rows of `table` were read already; if so, the table is cut."""
        if self.most is None or self.rows_read[table] < self.most:
            return False
        self.cut.add(table)
        return True

    def all_bad(self, table: str) -> bool:
        """Whether something is wrong with every row of `table` that was read."""
        bad = sum(bad.count for kind, bad in self.report.bad.items() if kind.partition(":")[0] == table)
        return bad >= self.rows_read[table]

    def reject(self, table: str, wrong: str, where: str) -> None:
        """Count a bad row of `table`, and what is wrong with it; `where` is its place (file, line, id)."""
        bad = self.report.bad.setdefault(f"{table}: {wrong}", Bad())
        bad.count += 1
        if len(bad.examples) < EXAMPLES:
            bad.examples.append(mask_secrets(where))

    def summarise(self) -> str:
        """Update the report's counts from the rows, and return them as a line of text."""
        report = self.report
        report.documents, report.queries, report.judgements = len(self.documents), len(self.queries), len(self.qrels)
        for kind, bad in report.bad.items():
            bad.of = self.rows_read[kind.partition(":")[0]]
        bad_rows = sum(bad.count for bad in report.bad.values())
        return (
            f"{report.name}: {report.documents} documents, {report.queries} queries, {report.judgements} judgements, "
            f"{bad_rows} bad rows"
        )

    def note(self, what: str, count: int = 1) -> None:
        """Count what a rule left out or changed."""
        if count:
            self.report.notes[what] = int(self.report.notes.get(what, 0)) + count
