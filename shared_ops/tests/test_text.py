"""What makes two texts the same, and what is held back."""

import pytest

from shared_ops.data import tables
from shared_ops.data.text import held_back, normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sort an array.", "sort an array"),
        ("Norm of a matrix.", "norm  of a\nMATRIX"),
        ("ﬁt a line", "fit a line"),  # a ligature
        ("caf\u00e9 au lait", "cafe\u0301 au lait"),  # an accent, in one character and in two
        ("x_y", "x y"),
        ("STRASSE", "straße"),
        ("ar\u00adray\u200b", "array"),  # characters of no width
        ("हिन्दी, भाषा", "हिन्दी भाषा"),
    ],
)
def test_case_spacing_punctuation_and_unicode_forms_make_no_other_text(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


def test_texts_of_other_scripts_and_of_signs_alone_stay_different() -> None:
    texts = (
        "数组的范数",
        "数组的秩",
        "की",
        "का",
        "???",
        "!!!",
        "",
    )  # the two in the middle differ in their vowel alone
    assert len({normalise(text) for text in texts}) == len(texts)


def test_half_a_surrogate_pair_makes_no_text_that_cannot_be_written() -> None:
    assert normalise("sort \ud800 arrays") == "sort arrays"
    assert normalise("\ud800").encode()


def test_what_is_normalised_stays_as_it_is() -> None:
    for code in (*range(0x3000), *range(0x3000, 0x110000, 97)):
        once = normalise(f"a{chr(code)}b")
        assert normalise(once) == once, hex(code)


def test_held_back_are_dev_and_test_queries_however_they_are_spelt() -> None:
    rows = [("q1", "Sort an array.", "test"), ("q2", "FFT", "dev"), ("q3", "norm", "train")]
    queries = tables.make(
        "queries", [{"query_id": name, "text": text, "split": split, "source": "s"} for name, text, split in rows]
    )
    assert held_back(queries) == {normalise("sort an array"), normalise("fft")}
