"""Puts pydantic's errors about a sources file into words: where, what was expected and what came.

Shows no value of a setting: a password may stand in it.
"""

from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "dict": "a mapping (`name: value`)",
    "model": "a mapping (`name: value`)",
}
_TYPE_NAMES: list[tuple[type | tuple[type, ...], str]] = [
    (type(None), "nothing"),
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
]
_BOUNDS = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
_SOURCE_PARTS = 3
"""How many parts of a place in a source lead to the source itself: `sources`, its number, its kind."""


def explanation(error: ValidationError) -> str:
    """Every mistake with its place, in one line."""
    return "; ".join(f"{_place(mistake['loc'])}: {_words(mistake)}" for mistake in error.errors())


def _place(location: tuple[int | str, ...]) -> str:
    match location:
        case ("sources", int(number), *_):
            setting = ".".join(str(part) for part in location[_SOURCE_PARTS:] if part != "[key]")
            return f"source {number + 1}{setting and f', {setting}'}"
        case ():
            return "the file"
        case _:
            return ".".join(map(str, location))


def _words(mistake: "ErrorDetails") -> str:
    kind, context = mistake["type"], mistake.get("ctx", {})
    match kind:
        case "missing":
            return "it is missing"
        case "invalid_key":
            return "a setting's name is text"
        case "extra_forbidden":
            return "there is no such setting here; check its spelling"
        case "union_tag_not_found":
            return "it says no `kind`; write `kind:` and one of pydocs, beir, table, sql"
        case "union_tag_invalid":
            return f"its kind is {context['tag']!r:.60}; write one of {context['expected_tags'].replace(chr(39), '')}"
        case "string_pattern_mismatch":
            return "expected letters, digits, '_', '.' and '-', a letter or digit first, got other text"
        case "too_short":
            return "it is empty; name one at least"
        case "literal_error":
            return f"expected {context['expected']}, got something else"
        case "value_error":
            return str(context["error"])
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            ((short, bound),) = context.items()
            return f"expected a number {_BOUNDS[short]} {bound:g}, got another one"
    expected = _EXPECTED.get(kind.partition("_")[0])
    advice = "; put it into quotation marks" if isinstance(mistake["input"], int | float | date) else ""
    if expected is None:
        return mistake["msg"]
    return f"expected {expected}, got {_type_name(mistake['input'])}{advice if expected == 'text' else ''}"


def _type_name(value: Any) -> str:
    return next((words for types, words in _TYPE_NAMES if isinstance(value, types)), f"a {type(value).__name__}")
