"""Which searches are recorded with all that they were ordered by: every one, or a sample where many come."""

import random
import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 60


class Sample:
    """Takes `most` a minute: each of what comes where that is fewer, else as many of it at random."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._seconds: deque[list[int]] = deque()
        """Each second of the last minute in which something came, and how often."""
        self._came = 0

    def takes(self) -> bool:
        """Whether what comes now is taken."""
        second = int(self._clock())
        while self._seconds and self._seconds[0][0] <= second - WINDOW_SECONDS:
            self._came -= self._seconds.popleft()[1]
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0])
        self._seconds[-1][1] += 1
        self._came += 1
        return random.random() * self._came < self._most
