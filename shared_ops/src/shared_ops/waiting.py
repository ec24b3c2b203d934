"""Waits until something holds, up to a limit. Knows no Dagster."""

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
    """Call `look` until its result is `done`, or the limit is reached; returns the last result.

    Args:
        look: the function that is called again and again. An error that it raises ends the waiting.
        done: whether a result ends the waiting; by default, whether it is true.
        every: seconds between two calls; or the pauses in turn, where one more call follows the last pause.
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
        last: Seen = over.last_attempt.result()
        return last
