"""Query texts: how models are asked them, when two are the same query, and the id, split and fold of a text.

Nothing else decides these.

Splits, folds, clicks and held-back queries are matched by `normalise`: nothing learns from a query whose normalised
text is held back. Knows no Dagster.
"""

import hashlib
import unicodedata
from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import polars as pl

Split: TypeAlias = Literal["train", "dev", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
SHARES: dict[Split, float] = {"train": 0.6, "dev": 0.1, "test": 0.3}
"""The splits' shares of queries whose collection has no splits of its own, and says nothing else."""


class _Separators(dict[int, str]):
    """A table for `str.translate`: what is neither letter, mark nor number becomes a space, what has no width nothing.

    Marks stay, since they are the vowels of many scripts. Each character's category is looked up once.
    """

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        self[code] = "" if category == "Cf" else chr(code) if category[0] in "LMN" else " "
        return self[code]


_SEPARATORS = _Separators()


def normalise(text: str) -> str:
    """`text` without what does not change its meaning: case, punctuation, spacing, Unicode's ways of writing a letter.

    NFKC, case folded, without characters of no width (as Unicode's NFKC_Casefold, UAX 44), words between single spaces.
    A text of punctuation alone keeps it, so that different ones stay different. Normalising a normalised text changes
    nothing.
    """
    whole = text.encode(errors="replace").decode()  # half a surrogate pair, legal in JSON, is no character
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", whole).casefold())
    return " ".join(folded.translate(_SEPARATORS).split()) or " ".join(folded.split())


_JOINERS = {"\u200c", "\u200d"}
"""Invisible, and part of how Persian and the languages of India are spelt."""


def cleaned(query: str) -> str:
    """What was typed as models are asked it: composed (NFC), no control characters, white space as single spaces."""
    return " ".join("".join(_visible(character) for character in unicodedata.normalize("NFC", query)).split())


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        return " "
    return "" if category == "Cf" and character not in _JOINERS else character


def held_back(queries: pl.DataFrame) -> set[str]:
    """The normalised texts of the dev and test queries of a `queries` table: nothing may learn from these."""
    return {normalise(text) for text in queries.filter(pl.col("split") != "train")["text"]}


def text_id(text: str) -> str:
    """The id of a query whose source gives it none: 16 hexadecimal digits from its normalised text."""
    return hashlib.sha256(normalise(text).encode()).hexdigest()[:16]


def split_of(text: str, shares: Mapping[Split, float]) -> Split:
    """The split of this text: the same text always falls into the same one.

    `shares` maps each split to its share; the shares sum to 1, their order does not matter.
    """
    digest = hashlib.sha256(b"split\x00" + normalise(text).encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    present: list[Split] = [split for split in get_args(Split) if shares.get(split)]
    for split in present:
        position -= shares[split]
        if position < 0:
            return split
    return present[-1]


def stands_in(words: str, text: str) -> bool:
    """Whether `text` contains `words` word for word, whatever the case, spacing and punctuation."""
    return f" {normalise(words)} " in f" {normalise(text)} "


def fold_of(text: str, folds: int) -> int:
    """The fold of a text, 0 to `folds` - 1; it depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % folds
