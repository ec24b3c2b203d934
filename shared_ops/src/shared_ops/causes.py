"""Makes one message out of an error and its chain of causes, as Dagster reports them.

Knows no Dagster, only how it writes errors down.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from shared_ops.settings import ROOT

FRAME = re.compile(r'File "(.+?)", line (\d+)')
"""The file and the line of a frame in a traceback."""


def message(messages: Sequence[str]) -> str:
    """The message of the error that our own code raised, which says what to do, followed by its root cause.

    Dagster wraps the error of an op in one or two of its own, which add nothing: they are left out. So is a root cause
    that the error's message already contains.

    Args:
        messages: the messages of an error and of its causes, outermost first, each starting with the error's class.
    """
    own = [each.strip() for each in messages if is_own(each)]
    if not own:
        return messages[-1].strip()
    first, cause = own[0], own[-1]
    return first if (cause.partition(": ")[2] or cause) in first else f"{first}\n{cause}"


def is_own(message: str) -> bool:
    """Whether a message is of our own code's error, and not of one of Dagster's, which wrap it."""
    return not message.startswith("dagster.")


def place(traceback: Sequence[str]) -> str | None:
    """The innermost place in the checkout's code, as `file:line`; None where no frame of it is in the traceback."""
    frames = [(Path(file), line) for each in traceback for file, line in FRAME.findall(each)]
    own = [(file, line) for file, line in frames if file.is_relative_to(ROOT) and "site-packages" not in file.parts]
    return f"{own[-1][0].relative_to(ROOT)}:{own[-1][1]}" if own else None
