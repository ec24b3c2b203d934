"""Makes one message out of an error and its chain of causes, as Dagster reports them.

Knows no Dagster, only how it writes errors down.
"""

from collections.abc import Sequence


def told(messages: Sequence[str]) -> str:
    """The message of the error that our own code raised, which says what to do, followed by its root cause.

    Dagster wraps the error of an op in one or two of its own, which add nothing: they are left out. So is a root cause
    that the error's message already contains.

    Args:
        messages: the messages of an error and of its causes, outermost first, each starting with the error's class.
    """
    own = [message.strip() for message in messages if not message.startswith("dagster.")]
    if not own:
        return messages[-1].strip()
    first, cause = own[0], own[-1]
    return first if (cause.partition(": ")[2] or cause) in first else f"{first}\n{cause}"
