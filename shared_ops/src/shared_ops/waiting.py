"""Waiting for what comes to be so, up to a limit. Knows no Dagster."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, stop_after_delay, wait_chain, wait_fixed

Seen = TypeVar("Seen")


def until(
    look: Callable[[], Seen],
    done: Callable[[Seen], bool] = bool,
    *,
    every: float | Sequence[float],
    seconds: float = math.inf,
) -> Seen:
    """Look until what is seen is `done`, or the limit is reached; returns what was seen last.

    Args:
        look: what is asked again and again. What it raises ends the waiting.
        done: whether what it gave is what was waited for; by default, whether it is true.
        every: seconds between two looks; or each pause in turn, and after the last of them there is one more look.
        seconds: the limit, where `every` is one number.
    """
    waits = Retrying(
        retry=retry_if_result(lambda seen: not done(seen)),
        wait=wait_chain(*map(wait_fixed, (*every, 0))) if isinstance(every, Sequence) else wait_fixed(every),
        stop=stop_after_attempt(len(every) + 1) if isinstance(every, Sequence) else stop_after_delay(seconds),
    )
    try:
        return waits(look)
    except RetryError as over:
        return over.last_attempt.result()
