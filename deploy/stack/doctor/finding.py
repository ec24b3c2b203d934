"""What an examination finds, and what it looks at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from deploy.stack.dagit.client import Dagit
from shared_ops.settings import Settings

ANSWER_SECONDS = 20
"""How long Dagit may take to answer a question."""


class Finding(NamedTuple):
    """Something that is wrong, and what mends it: a command, or a sentence where no command does."""

    problem: str
    mend: str

    @classmethod
    def of(cls, complaint: str) -> Self:
        """What a start, or the making of environments, would refuse with: what to do stands after the last colon."""
        problem, _, mend = complaint.rpartition(": ")
        return cls(problem, mend)


@dataclass(frozen=True)
class Stack:
    """The stack that is examined."""

    settings: Settings
    up: bool
    """Whether its supervisor answers."""

    @property
    def dagit(self) -> Dagit:
        """Its Dagit."""
        return Dagit(self.settings.url("dagit"), seconds=ANSWER_SECONDS)


Examination = Callable[[Stack], Iterator[Finding]]
"""Finds what is wrong in an area; what keeps it from looking, it raises."""
