"""Documents to passages: what the encoder reads of each document, and how much that is.

Knows nothing of vectors. A document is a list of sentences and paragraphs, packed in order into passages; each passage
is read behind the document's title.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repos.semantic.encoder import Encoder, Tokens

_BREAK = re.compile(r"\n\s*\n|(?<=[.!?])\s")
"""Between paragraphs and between sentences. A single line break is only where a docstring's line was full."""


@dataclass(frozen=True)
class Cut:
    """How documents are cut: `size` tokens of text per passage behind at most `title` tokens of the title, and at most
    `passages` of them per document.
    """

    size: int
    passages: int
    title: int


@dataclass(frozen=True)
class Passages:
    """The encoder's inputs, document after document."""

    inputs: list[Tokens]
    starts: np.ndarray
    """[documents] int64: each document's first passage. Every document has at least one."""
    tokens: int
    """How many the documents' texts have."""
    covered: int
    """How many of those stand in a passage."""

    @property
    def share(self) -> float:
        """The share of the texts' tokens that the encoder reads."""
        return self.covered / max(1, self.tokens)


def cut(encoder: Encoder, titles: Sequence[str], texts: Sequence[str], how: Cut) -> Passages:
    """The passages of documents.

    Where a document has more than `how.passages`, its first stays, and then those that say most of what the chosen
    ones do not: the next is always the one whose new words are rarest in the corpus together (greedy maximum coverage
    with inverse document frequencies as weights, Filatova and Hatzivassiloglou 2004).
    """
    parts = [[part for part in _BREAK.split(text) if part.strip()] for text in texts]
    tokens = iter(encoder.tokenize([part for document in parts for part in document]))
    documents = [[next(tokens) for _ in document] for document in parts]
    rarity = _rarity(documents)
    inputs: list[Tokens] = []
    starts: list[int] = []
    total = covered = 0
    for title, document in zip(encoder.tokenize(titles), documents, strict=True):
        starts.append(len(inputs))
        packed = pack(document, how.size)
        chosen = choose(packed, rarity, how.passages)
        # The end of a long dotted name is what tells it from its neighbours.
        inputs += (
            [encoder.frame(title[-how.title :] + passage) for passage in chosen] if chosen else [encoder.frame(title)]
        )
        total += sum(map(len, document))
        covered += sum(map(len, chosen))
    return Passages(inputs, np.array(starts, np.int64), total, covered)


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


def choose(packed: Sequence[Tokens], rarity: np.ndarray, count: int) -> list[Tokens]:
    """At most `count` of a document's passages, in their order."""
    if len(packed) <= count:
        return list(packed)
    chosen = [0]
    seen = set(packed[0])
    while len(chosen) < count:
        new = {place: sum(rarity[token] for token in set(passage) - seen)
               for place, passage in enumerate(packed) if place not in chosen}  # fmt: skip
        best = max(new, key=lambda place: (new[place], -place))
        chosen.append(best)
        seen.update(packed[best])
    return [packed[place] for place in sorted(chosen)]


def _rarity(documents: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """Each token's inverse document frequency, log(documents / documents with it), by token id."""
    counts = Counter(token for document in documents for token in {token for part in document for token in part})
    rarity = np.zeros(max(counts, default=0) + 1)
    for token, count in counts.items():
        rarity[token] = np.log(len(documents) / count)
    return rarity
