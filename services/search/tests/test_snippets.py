"""Snippets: the part of a text that a query's words point to, and the marking of those words."""

import time

import pytest

from services.search.snippets import LENGTH, Part, mark, snippet, terms

LONG = "\n".join(
    [
        "Introduction to the module.",
        *["This line is about nothing in particular, and there are many of its kind."] * 20,
        "The Hann window tapers a signal smoothly to zero.",
        *["This line is about nothing in particular, and there are many of its kind."] * 20,
    ]
)


def test_terms_are_words_without_endings_and_stop_words() -> None:
    assert terms("How to compute the windows of a Signal") == ["compute", "window", "signal"]


def test_a_query_of_stop_words_keeps_them() -> None:
    assert terms("to be or not to be")[0] == "not"
    assert terms("what is it") == ["what", "is", "it"]


def test_a_short_text_is_its_own_snippet() -> None:
    assert snippet("Compute   the\nmean.", ["mean"]) == "Compute the mean."


def test_the_line_with_the_words_is_chosen() -> None:
    excerpt = snippet(LONG, terms("hann window"))
    assert excerpt.startswith("… The Hann window tapers a signal")
    assert excerpt.endswith(" …")
    assert len(excerpt) <= LENGTH + 4


def test_a_rare_word_tells_more_than_a_frequent_one() -> None:
    assert "Hann" in snippet(LONG, terms("line hann"))


DOCSTRING = """
Split arrays into random train and test subsets.

Quick utility for :func:`~sklearn.utils.check` and ``next(iter)``, see [1]_ and `the guide <https://x.org/a>`_.

.. versionadded:: 0.16
   :noindex:

Parameters
----------
*arrays : sequence
    Sequences of the same length::

        split(a, b)

=====  =====
Size   Part
=====  =====
0.25   test
=====  =====

References
----------
.. [1] A. Author, On splitting.

Examples
--------
>>> for part in split(data, test_size=2):
...     print(part)
[1, 2]
"""


def test_marks_of_restructuredtext_are_not_shown() -> None:
    whole = " ".join(snippet(part, []) for part in DOCSTRING.split("\n\n"))
    assert "Quick utility for sklearn.utils.check and next(iter), see [1] and the guide." in whole
    assert "Parameters: *arrays : sequence Sequences of the same length: split(a, b)" in whole
    assert "Size Part 0.25 test References: [1] A. Author, On splitting." in whole
    assert "Examples: for part in split(data, test_size=2): print(part) [1, 2]" in whole
    assert not [mark for mark in ("--", "==", "`", ">>>", "...", "versionadded", "noindex", "::") if mark in whole]


@pytest.mark.parametrize(
    "text",
    ["a - b = c", "- one", "* one", "x[1::2]", "`_private`", "1 < 2 > 1", "** kwargs", "don't :stop: it", "a_b_"],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert snippet(text, []) == text.replace("`", "")


def test_the_summary_is_chosen_where_it_holds_most_of_the_words() -> None:
    text = "Split arrays into train and test subsets.\n" + LONG + "\nData set: split the data set in a train set."
    assert snippet(text, terms("split a data set into train and test")).startswith("Split arrays into train and test")
    assert "Data set" in snippet(text, terms("a data set in train"))


def test_without_a_match_it_is_the_beginning() -> None:
    assert snippet(LONG, terms("xylophone")).startswith("Introduction to the module.")


def test_whole_words_are_marked_where_they_begin_with_a_term() -> None:
    assert mark("Windows rewind a window", ["window"]) == [
        Part("Windows", True),
        Part(" rewind a ", False),
        Part("window", True),
    ]


def test_marked_parts_are_the_text() -> None:
    for text in ("", "Signal", "İstanbul signal ẞ signal", "傅里叶变换 signal"):
        assert "".join(part.text for part in mark(text, ["signal", "sig", "变换"])) == text


def test_letters_whose_lower_case_is_longer_do_not_shift_the_marks() -> None:
    assert Part("signal", True) in mark("İİİİ signal", ["signal"])


@pytest.mark.parametrize("text", ["a" * 5_000_000, "a " * 2_000_000, "fourier " * 500_000, "\n" * 1_000_000, ""])
def test_the_cost_is_bounded_whatever_the_text(text: str) -> None:
    started = time.process_time()
    for _ in range(10):
        snippet(text, terms("fourier a transform " * 300))
    assert time.process_time() - started < 1
