"""What went wrong, of an error that Dagster tells with the errors that it came of.

Knows no Dagster, only how it writes errors down.
"""

from collections.abc import Sequence


def told(messages: Sequence[str]) -> str:
    """The message of the error that our own code raised, which says what to do, and of its first cause.

    `messages` are those of an error and of what it came of, outermost first, each with the name of its class. Dagster
    wraps the error of an op in one or two of its own, which say nothing more. A cause whose words the error itself
    holds is not told twice.
    """
    own = [message.strip() for message in messages if not message.startswith("dagster.")]
    if not own:
        return messages[-1].strip()
    first, cause = own[0], own[-1]
    return first if (cause.partition(": ")[2] or cause) in first else f"{first}\n{cause}"
