"""Converts fields, of whatever type a file or database gives them, to texts, ids, addresses, grades and metadata.

Pure functions. A field that cannot be converted raises a FlawError, whose message is the kind of bad row.
"""

import math
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

MAX_GRADE = 1000
"""With it a gain of 2^grade is finite, and trec_eval, which counts each level up to the highest, is fast and right."""
MAX_FACTOR = 100
_NEAR = 0.02
_MAX_DEPTH = 100
_EXACT = 2**53
"""From here on, two whole numbers can be the same float."""
_ADDRESS = re.compile(r"https?://[^\s\x00-\x1f\x7f-\x9f]+", re.IGNORECASE)
_NOT_FINITE = "number that is not finite"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class FlawError(ValueError):
    """A value that is not what it should be; the message says what is wrong, as a kind of bad row."""


class Rounded(float):
    """A number that was held in fewer bits than a Python float has, and may be another one than was written."""


def text_of(value: Any) -> str:
    """A field as text without white space around it, "" for an empty one. Bytes are UTF-8; a list becomes lines.

    Raises:
        FlawError: where it is no text, is not UTF-8, or holds a NUL character.
    """
    text = _joined(value) if isinstance(value, list | tuple) else _as_text(value)
    if not is_utf8(text):
        raise FlawError("wrong encoding")
    if "\0" in text:
        raise FlawError("NUL character")
    return text.strip()


def id_of(value: Any) -> str:
    """A field as an id: text, or a whole number that its type holds exactly.

    Raises:
        FlawError: where the field is empty, or is no id.
    """
    if isinstance(value, bool | list | tuple | Mapping) or not _is_exact(value):
        raise FlawError("id that is neither text nor a whole number (as a float: one below 2^53, or 2^24 in 32 bits)")
    text = _as_text(value).strip()
    if not text:
        raise FlawError("no id")
    if not is_utf8(text):
        raise FlawError("wrong encoding")
    if _CONTROL.search(text):
        raise FlawError("id with a control character")
    return text


def address_of(value: Any) -> str:
    """A field as an address that a browser may follow, "" for an empty one.

    Raises:
        FlawError: where it is no such address: another scheme, no host, an invalid port, white space within.
    """
    url = text_of(value)
    if url and not _is_address(url):
        raise FlawError("url that is no http address")
    return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        return False
    return bool(host) and _ADDRESS.fullmatch(url) is not None


def grade_of(value: Any) -> float:
    """A field as a grade, which may be a fraction or below 0.

    Raises:
        FlawError: where it is no finite number, or is above MAX_GRADE.
    """
    try:
        grade = float("" if isinstance(value, str) and "_" in value else value)  # Python takes 1_0 for 10
    except (TypeError, ValueError):
        raise FlawError("grade that is no number") from None
    except OverflowError:  # a whole number too large for a float
        raise FlawError(f"grade above {MAX_GRADE}") from None
    if math.isnan(grade):
        raise FlawError("grade that is no number")
    if math.isinf(grade):
        raise FlawError("grade that is not finite")
    if grade > MAX_GRADE:
        raise FlawError(f"grade above {MAX_GRADE}")
    return grade


def whole_factor(grades: Collection[float]) -> int:
    """The least whole number that makes each of these grades above 0 whole, to within _NEAR, when multiplied by it.

    It is at most MAX_FACTOR, and takes no grade past MAX_GRADE; where no number fits, it is the greatest one allowed.
    nDCG, whose gains are the grades, is the same for the products.
    """
    greatest = max(1, min(MAX_FACTOR, int(MAX_GRADE // max(grades, default=1))))
    for factor in range(1, greatest):
        if all(abs(grade * factor - max(1, round(grade * factor))) <= _NEAR for grade in grades):
            return factor
    return greatest


def plain(value: Any, depth: int = 1) -> Any:
    """`value` as JSON can hold it: bytes as text, NaN as null.

    Raises:
        FlawError: where it is nested too deep, bytes are no text, or a number is not finite.
    """
    if depth > _MAX_DEPTH:
        raise FlawError(f"nested more than {_MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {str(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, depth + 1) for each in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return text_of(value)
    if isinstance(value, str) and not is_utf8(value):
        raise FlawError("wrong encoding")
    if isinstance(value, float) and math.isinf(value):
        raise FlawError(_NOT_FINITE)
    return None if isinstance(value, float) and math.isnan(value) else value


def _is_exact(value: Any) -> bool:
    """Whether a value is a whole number that its type holds exactly, or NaN, or no float or Decimal at all."""
    match value:
        case Rounded():
            return False
        case float():
            return math.isnan(value) or (value.is_integer() and abs(value) < _EXACT)
        case Decimal():
            return value.is_nan() or (value.is_finite() and value == value.to_integral_value())
        case _:
            return True


def _joined(values: list[Any] | tuple[Any, ...]) -> str:
    return "\n".join(filter(None, map(_as_text, values)))


def _as_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bytes() | bytearray() | memoryview():
            try:
                return bytes(value).decode()
            except UnicodeDecodeError:
                raise FlawError("wrong encoding") from None
        case float() | Decimal() if value != value:  # NaN
            return ""
        case float() | Decimal() if math.isinf(value):
            raise FlawError(_NOT_FINITE)
        case float():
            return str(int(value)) if value.is_integer() else str(value)
        case Decimal():  # format writes the digits; int() refuses long ones
            digits = format(value, "f")
            return digits.rstrip("0").rstrip(".") if "." in digits else digits
        case bool() | list() | tuple() | Mapping():
            raise FlawError("text that is neither words nor a list of them")
        case _:
            return str(value)


def is_utf8(text: str) -> bool:
    """Whether a string can be written as UTF-8 (one that holds a lone surrogate cannot)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
