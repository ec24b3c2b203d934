"""What an examination finds, and what it looks at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from deploy.stack.dagit.client import Dagit
from shared_ops.settings import Settings


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
class Subject:
    """The stack that is examined."""

    settings: Settings
    up: bool
    """Whether its supervisor answers."""
    dagit: Dagit


Examination = Callable[[Subject], Iterator[Finding]]
"""Finds what is wrong in an area; what keeps it from looking, it raises."""
