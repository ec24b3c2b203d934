"""What a set made of a query a moment ago, so that the same query asked again costs next to nothing.

Kept by the number of the set, whose releases and documents never change: another set's answer is never given. An answer
that a model had no part in is not kept.
"""

import time
from dataclasses import dataclass
from typing import TypeAlias

from cachetools import TTLCache

from shared_ops.data.tables import Hits

ENTRIES = 500
"""Queries kept at most, some 60 kB each: 300 hits and the features of those shown."""


Features: TypeAlias = list[list[float | None]]
"""A row for each document: what its order was computed from, None where not known."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a set makes of a query, whoever asks."""

    by_family: dict[str, Hits]
    """The families' hits as the ranker was given them."""
    order: Hits
    features: Features
    """Of the first documents of the order, as many as were asked for."""


class Memory:
    """What was found, for `seconds`; 0 keeps nothing."""

    def __init__(self, seconds: float) -> None:
        self._kept: TTLCache[tuple[int, str], Findings] = TTLCache(ENTRIES if seconds else 0, seconds, time.monotonic)

    def recall(self, number: int, query: str, explained: int) -> Findings | None:
        """What set `number` made of a query, with the features of its first `explained` documents; None if not kept."""
        found = self._kept.get((number, query))
        enough = found is not None and len(found.features) >= min(explained, len(found.order))
        return found if enough else None

    def keep(self, number: int, query: str, found: Findings) -> None:
        """Keep what was found, unless more of the same is kept."""
        before = self._kept.get((number, query))
        if self._kept.maxsize and (before is None or len(before.features) <= len(found.features)):
            self._kept[number, query] = found
