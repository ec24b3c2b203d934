"""What a field stands for, whatever type its file or database gives it; else the kind of bad row that it is."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from repos.corpus.sources.values import FlawError, address_of, grade_of, id_of, plain, text_of, whole_factor


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" word ", "word"),
        (None, ""),
        (float("nan"), ""),
        (b"caf\xc3\xa9", "café"),
        (memoryview(b"words"), "words"),
        (["one", b"two", None, "three"], "one\ntwo\nthree"),
        (7.0, "7"),
        (7.5, "7.5"),
        (Decimal("2.50"), "2.5"),
        (Decimal("1e5"), "100000"),
        (date(2026, 1, 2), "2026-01-02"),
    ],
)
def test_a_text_is_what_the_value_says(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        (b"caf\xe9", "wrong encoding"),
        (memoryview(b"\x89PNG"), "wrong encoding"),
        ("\ud800", "wrong encoding"),
        (b"\x00\x01", "NUL character"),
        ({"a": 1}, "neither words nor a list"),
        (["a", ["b"]], "neither words nor a list"),
        (True, "neither words nor a list"),
        (float("inf"), "number that is not finite"),
        (Decimal("-Infinity"), "number that is not finite"),
        (["a", float("inf")], "number that is not finite"),
    ],
)
def test_what_is_no_text_is_a_bad_row(value: Any, flaw: str) -> None:
    with pytest.raises(FlawError, match=flaw):
        text_of(value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("d1", "d1"),
        (b"d1", "d1"),
        (2**63, "9223372036854775808"),
        (2.0**53 - 1, "9007199254740991"),
        (Decimal("123456789012345678901234567890.00"), "123456789012345678901234567890"),
    ],
)
def test_an_id_is_text_or_a_whole_number(value: Any, found: str) -> None:
    assert id_of(value) == found


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        (2.0**53, "neither text nor a whole number"),  # 2^53 + 1 is the same float
        (1.5, "neither text nor a whole number"),
        (Decimal("1.5"), "neither text nor a whole number"),
        (float("inf"), "neither text nor a whole number"),
        (["d1"], "neither text nor a whole number"),
        (True, "neither text nor a whole number"),
        (None, "no id"),
        (float("nan"), "no id"),
        (" ", "no id"),
        (b"\xff", "wrong encoding"),
        ("d\ud800", "wrong encoding"),
        ("d\x001", "control character"),
        ("d\x1b[31m", "control character"),
    ],
)
def test_what_is_no_id_is_a_bad_row(value: Any, flaw: str) -> None:
    with pytest.raises(FlawError, match=flaw):
        id_of(value)


@pytest.mark.parametrize(
    "url",
    ["http://h", "HTTPS://H:8080/a?b=c#d", "http://münchen.example/ü", "http://[::1]/x", "http://u:p@h/", " http://h "],
)
def test_an_address_has_a_host(url: str) -> None:
    assert address_of(url) == url.strip()


@pytest.mark.parametrize(
    "url",
    [
        *("http://", "https:///path", "http://?q", "http://:80/", "http://[::1", "http://h:99999/", "http://h:x/"),
        *("http://a b/", "http://a/b c", "http://a/\nb", "http://a/\tb", "http://a/\x01", "http://a/\u2028b"),
        *("ftp://h/", "javascript:alert(1)", "www.example.org", "//h/x"),
    ],
)
def test_what_is_no_address_is_left_out(url: str) -> None:
    with pytest.raises(FlawError, match="url that is no http address"):
        address_of(url)


@pytest.mark.parametrize(
    ("value", "grade"), [("2", 2), ("1.0", 1), (0.75, 0.75), (Decimal("0.5"), 0.5), (-1e30, -1e30)]
)
def test_a_grade_may_be_a_fraction(value: Decimal | float | str, grade: float) -> None:
    assert grade_of(value) == grade


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        *((1e19, "above 1000"), ("1e30", "above 1000"), (10**400, "above 1000")),
        *(("1e400", "not finite"), ("-inf", "not finite"), (Decimal("Infinity"), "not finite")),
        *(("high", "no number"), (None, "no number"), (float("nan"), "no number")),
    ],
)
def test_what_is_no_grade_is_a_bad_row(value: Decimal | float | str | None, flaw: str) -> None:
    with pytest.raises(FlawError, match=flaw):
        grade_of(value)


@pytest.mark.parametrize(
    ("grades", "factor"),
    [
        ([1, 2, 3], 1),
        ([], 1),
        ([0.5, 1], 2),
        ([0.5, 0.75], 4),
        ([0.33, 0.67, 1.0], 3),
        ([0.123, 0.5], 8),  # nearly whole
        ([0.001], 100),  # none makes it whole
        ([0.5, 300.25], 3),  # not 4: no grade goes past 1000
    ],
)
def test_fractions_become_whole_by_the_least_factor(grades: list[float], factor: int) -> None:
    assert whole_factor(grades) == factor


def test_metadata_is_kept_as_deep_as_json_is_read_everywhere() -> None:
    deep: Any = {"x": b"caf\xc3\xa9", "y": float("nan")}
    for _ in range(90):
        deep = [deep]
    value = plain(deep)
    while isinstance(value, list):
        value = value[0]
    assert value == {"x": "café", "y": None}
    for _ in range(900):
        deep = [deep]
    with pytest.raises(FlawError, match="nested more than 100 deep"):
        plain(deep)


def test_metadata_hold_no_number_that_is_not_finite() -> None:
    with pytest.raises(FlawError, match="number that is not finite"):
        plain({"price": [1.5, float("inf")]})
