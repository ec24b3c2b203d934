"""The id of a text, and which split a query belongs to, by what `shared_ops.data.text` takes for the same text.

Pure functions. Knows nothing of sources, tables or files.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

from shared_ops.data.text import normalise

Split: TypeAlias = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


def text_id(text: str) -> str:
    """The id of a query that its source gave none: 16 hexadecimal digits from its normalised text."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()[:16]


def split_of(text: str, shares: Mapping[Split, float]) -> Split:
    """The split that this text falls into, now and always. `shares` maps split to share and sums to 1, in any order."""
    digest = hashlib.sha256(b"split\x00" + normalise(text).encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    present = [split for split in SPLITS if shares.get(split)]
    for split in present:
        position -= shares[split]
        if position < 0:
            return split
    return present[-1]


def stands_in(words: str, text: str) -> bool:
    """Whether `words` stand word for word in `text`, whatever the case, spacing and punctuation."""
    return f" {normalise(words)} " in f" {normalise(text)} "


def is_utf8(text: str) -> bool:
    """Whether a string can be written as UTF-8 (one that holds a lone surrogate cannot)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
