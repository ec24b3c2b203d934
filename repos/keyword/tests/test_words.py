import time
from typing import Any

import pytest

from repos.keyword.words import MAX_TERM, Tokenizer, words


def terms(text: str, **fields: Any) -> list[str]:
    tokenizer = Tokenizer(**fields)
    return [term for word in words(text) for term in tokenizer.terms(word)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read_csv", ["read", "csv", "read_csv"]),
        ("DataFrame.groupby", ["data", "frame", "dataframe", "groupby"]),
        ("camelCase HTTPServer", ["camel", "case", "camelcase", "http", "server", "httpserver"]),
        ("float64 log1p 3D IDs", ["float64", "log1p", "3d", "ids"]),
        ("__init__ _ ___", ["init"]),
        ("<b>bold</b>", ["b", "bold", "b"]),
    ],
)
def test_identifiers_are_found_by_their_parts_and_as_a_whole(text: str, expected: list[str]) -> None:
    assert terms(text, stem=False) == expected


def test_identifiers_can_be_left_whole() -> None:
    assert terms("pandas.read_csv", stem=False, identifiers=False) == ["pandas", "read_csv"]


def test_stemming_unites_the_forms_of_a_word() -> None:
    assert set(terms("sorting sorts sorted Sort")) == {"sort"}
    assert terms("Häuser", language="german") == terms("Hauses", language="german")
    assert terms("sorting", stem=False) == ["sorting"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Straße ÜBER", ["strasse", "über"]),
        ("поиск документов", ["поиск", "документов"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("信息检索", ["信息", "息检", "检索"]),
        ("numpyで配列", ["numpy", "で配", "配列"]),
        ("ﬁle ２", ["file", "2"]),
    ],
)
def test_words_of_any_script_are_found(text: str, expected: list[str]) -> None:
    assert terms(text, stem=False) == expected


def test_stop_words_are_looked_up_only_where_a_query_has_nothing_else() -> None:
    tokenizer = Tokenizer()
    assert tokenizer.query(words("where is the file")) == ["file"]
    assert tokenizer.query(words("where")) == ["where"]
    assert Tokenizer(stop_words=False).query(words("where is it")) == ["where", "is", "it"]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match=r"klingon.*expected one of.*english"):
        Tokenizer(language="klingon")


@pytest.mark.parametrize("text", ["a" * 100_000, "a_" * 50_000, "aB" * 50_000, "信" * 100_000, "\ud800\x00<" * 30_000])
def test_long_and_broken_text_takes_no_more_than_linear_time(text: str) -> None:
    def seconds(part: str) -> float:
        start = time.process_time()
        assert all(0 < len(term) <= MAX_TERM for term in terms(part))
        return time.process_time() - start

    # A tenth of the text takes a tenth of the time; quadratic work would make it a hundredth, and takes minutes here.
    assert seconds(text) < 40 * seconds(text[: len(text) // 10]) + 0.2
