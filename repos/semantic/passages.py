"""Documents to passages: what the encoder reads of each document, and how much that is.

Knows nothing of vectors. A document is a list of sentences and paragraphs, packed in order into passages; each passage
is read behind the document's title.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repos.semantic.bert import Tokens
from repos.semantic.encoder import Encoder

_BREAK = re.compile(r"\n\s*\n|(?<=[.!?])\s")
"""Between paragraphs and between sentences. A single line break separates nothing: a docstring's line was full."""


@dataclass(frozen=True)
class PassageLimits:
    """How documents are cut."""

    size: int
    """Tokens of text per passage at most."""
    title: int
    """Tokens of the title in front of each."""
    passages: int
    """Passages per document at most."""
    budget: int
    """Tokens that the encoder may read of the whole corpus; every document's first passage is read in any case."""


@dataclass(frozen=True)
class Passages:
    """The encoder's inputs, document after document."""

    inputs: list[Tokens]
    starts: np.ndarray
    """[documents] int64: each document's first passage. Every document has at least one."""
    tokens: int
    """How many tokens the documents' texts have."""
    covered: int
    """How many of these tokens stand in a passage."""

    @property
    def share(self) -> float:
        """The share of the texts' tokens that the encoder reads."""
        return self.covered / max(1, self.tokens)


def cut(encoder: Encoder, titles: Sequence[str], texts: Sequence[str], how: PassageLimits) -> Passages:
    """Cut documents into passages: the first of each document, then the second of each, and so on.

    This goes on up to `how.passages` of a document, or until `how.budget` is spent. So a small corpus is read whole,
    and a large one as far as the time allows.
    """
    parts = [[part for part in _BREAK.split(text) if part.strip()] for text in texts]
    tokens = iter(encoder.tokenize([part for document in parts for part in document]))
    packed = [pack([next(tokens) for _ in document], how.size) for document in parts]
    # Long dotted names differ from their neighbours at the end.
    ends = [title[-how.title :] if how.title else [] for title in encoder.tokenize(titles)]
    framed = [
        [encoder.frame(end + passage) for passage in document[: how.passages] or [[]]]
        for end, document in zip(ends, packed, strict=True)
    ]
    counts = grant([list(map(len, document)) for document in framed], how.budget)
    lengths = [sum(map(len, document)) for document in packed]
    covered = sum(len(passage) for document, count in zip(packed, counts, strict=True) for passage in document[:count])
    return Passages(
        [passage for document, count in zip(framed, counts, strict=True) for passage in document[:count]],
        np.cumsum([0, *counts[:-1]], dtype=np.int64),
        sum(lengths),
        covered,
    )


def grant(costs: Sequence[Sequence[int]], budget: int) -> list[int]:
    """How many of its passages each document gets; `costs` are each document's passages' lengths in tokens.

    It goes round by round: every document's first passage whatever it costs, then every document's second, ... In the
    round in which the budget ends, the documents with the most passages still to come are served first.
    """
    counts = [1] * len(costs)
    spent = sum(document[0] for document in costs)
    waiting = [place for place, document in enumerate(costs) if len(document) > 1]
    while waiting:
        for place in sorted(waiting, key=lambda place: (counts[place] - len(costs[place]), place)):
            spent += costs[place][counts[place]]
            if spent > budget:
                return counts
            counts[place] += 1
        waiting = [place for place in waiting if len(costs[place]) > counts[place]]
    return counts


def pack(document: Sequence[Tokens], size: int) -> list[Tokens]:
    """Sentences packed in order into passages of at most `size` tokens; one that is longer is cut."""
    packed: list[Tokens] = []
    room = 0
    for sentence in document:
        for first in range(0, len(sentence), size):
            piece = sentence[first : first + size]
            if len(piece) > room:
                packed.append([])
                room = size
            packed[-1] += piece
            room -= len(piece)
    return packed
