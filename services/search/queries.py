"""What people type, made fit to search with."""

from starlette.exceptions import HTTPException

from shared_ops.data.text import cleaned


def clean(query: str, longest: int) -> str:
    """The query as models are asked it (`cleaned`).

    Raises:
        HTTPException: 422 when more than `longest` characters are left of it, or nothing.
    """
    words = cleaned(query)
    # The composed form may be three times as long, and it is what the models are asked.
    if len(words) > longest:
        raise HTTPException(
            422,
            f"The query: expected {longest:,} characters at most, got {len(words):,} in Unicode's composed form "
            "(NFC). Ask for less at once.",
        )
    if not words:
        raise HTTPException(422, "The query: expected words to search for, got none.")
    return words
