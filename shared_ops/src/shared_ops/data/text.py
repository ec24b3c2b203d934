"""What makes two texts the same text: the one idea of "the same query" that there is.

Splits, folds, clicks and whatever is held back go by `normalise`: nothing learns from a query whose normalised text is
held back. Knows no Dagster.
"""

import unicodedata

import polars as pl


class _Separators(dict[int, str]):
    """For `str.translate`: a space for what is neither letter, mark nor number, nothing for what has no width.

    Marks stay, since they are the vowels of many scripts. Each character is looked up once.
    """

    def __missing__(self, code: int) -> str:
        category = unicodedata.category(chr(code))
        self[code] = "" if category == "Cf" else chr(code) if category[0] in "LMN" else " "
        return self[code]


_SEPARATORS = _Separators()


def normalise(text: str) -> str:
    """`text` without what does not change its meaning: case, punctuation, spacing, Unicode's ways of writing a letter.

    NFKC, case folded, without characters of no width (as Unicode's NFKC_Casefold, UAX 44), words between single spaces.
    A text of nothing but punctuation is its own collapsed self, so that different ones stay different. What is
    normalised stays as it is when it is normalised again.
    """
    whole = text.encode(errors="replace").decode()  # half a surrogate pair, legal in JSON, is no character
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", whole).casefold())
    return " ".join(folded.translate(_SEPARATORS).split()) or " ".join(folded.split())


def held_back(queries: pl.DataFrame) -> set[str]:
    """The normalised texts of the dev and test queries of a `queries` table: from none of them may anything learn."""
    return {normalise(text) for text in queries.filter(pl.col("split") != "train")["text"]}
