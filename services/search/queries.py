"""What people type, made fit to search with."""

import unicodedata

from starlette.exceptions import HTTPException

_JOINERS = {"\u200c", "\u200d"}
"""Invisible, and part of how Persian and the languages of India are spelt."""


def clean(query: str, longest: int) -> str:
    """The query in Unicode's composed form (NFC), without control characters, its white space made single spaces.

    Raises:
        HTTPException: 422 when more than `longest` characters are left of it, or nothing.
    """
    cleaned = " ".join("".join(_visible(character) for character in unicodedata.normalize("NFC", query)).split())
    # The composed form may be three times as long, and it is what the models are asked.
    if len(cleaned) > longest:
        raise HTTPException(
            422,
            f"The query: expected {longest:,} characters at most, got {len(cleaned):,} in Unicode's composed form "
            "(NFC). Ask for less at once.",
        )
    if not cleaned:
        raise HTTPException(422, "The query: expected words to search for, got none.")
    return cleaned


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        return " "
    return "" if category == "Cf" and character not in _JOINERS else character
