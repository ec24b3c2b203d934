"""From text to vectors in which similar queries lie close: TF-IDF of stemmed words and of character n-grams.

Fitted on documents alone, so no query changes how others are compared: a model that learned without some of the clicks
compares queries just as the model that learned from all of them. Knows nothing of clicks.
"""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl

from shared_ops.data.text import normalise

QUERY_CHARACTERS = 2_000
"""Characters of a query that are read: nobody types more, and a pasted file must not hold up other queries."""

DOCUMENT_CHARACTERS = 4_000
"""Characters of a document's text that words are counted in."""
OPENING_CHARACTERS = 300
"""Characters of a document, its title first, that character n-grams are taken from."""

_WORD = re.compile(r"[^\W_]+")
_STEMMING = Lock()


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")


def stemmed_words(text: str) -> list[str]:
    """The Snowball stems of a normalised text's words, in order."""
    words = _WORD.findall(text)
    with _STEMMING:  # PyStemmer's objects are not thread safe
        return list(_stemmer().stemWords(words))


class TextFeatures:
    """Two TF-IDF vectorisers, fitted on documents, which make rows of unit length (or zero) from text."""

    def __init__(self, words: Any, characters: Any) -> None:
        self._words = words
        self._characters = characters

    @classmethod
    def fit(cls, documents: pl.DataFrame) -> tuple["TextFeatures", Any]:
        """Features with the vocabulary of the `documents` table, and its texts as a CSR matrix, documents x words.

        Raises:
            ValueError: when no document holds a word.
        """
        texts = _document_texts(documents)
        words, characters = _vectorizer("words"), _vectorizer("characters")
        try:
            document_words = words.fit_transform(texts)
            characters.fit([text[:OPENING_CHARACTERS] for text in texts])
        except ValueError as error:
            raise ValueError(f"The {len(texts)} documents hold no word to compare queries by.") from error
        return cls(words, characters), document_words

    def words(self, texts: Sequence[str]) -> Any:
        """The first `QUERY_CHARACTERS` of normalised texts as a CSR matrix, texts x words."""
        return _transformed(self._words, texts)

    def characters(self, texts: Sequence[str]) -> Any:
        """The first `QUERY_CHARACTERS` of normalised texts as a CSR matrix, texts x character n-grams."""
        return _transformed(self._characters, texts)

    def save(self, folder: Path) -> None:
        """Write vocabulary.json and idf.safetensors into `folder`."""
        from safetensors.numpy import save_file

        fitted = {"words": self._words, "characters": self._characters}
        terms = {name: vectorizer.get_feature_names_out().tolist() for name, vectorizer in fitted.items()}
        (folder / "vocabulary.json").write_text(json.dumps(terms, ensure_ascii=True))
        save_file({name: vectorizer.idf_ for name, vectorizer in fitted.items()}, folder / "idf.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "TextFeatures":
        """What `save` wrote."""
        from safetensors.numpy import load_file

        terms = json.loads((folder / "vocabulary.json").read_text())
        idf = load_file(folder / "idf.safetensors")
        return cls(*(_vectorizer(name, terms[name], idf[name]) for name in ("words", "characters")))


def _document_texts(documents: pl.DataFrame) -> list[str]:
    """Each document's title and the beginning of its text, normalised."""
    rows = documents.select("title", "text").iter_rows()
    return [normalise(f"{title} {text[:DOCUMENT_CHARACTERS]}") for title, text in rows]


def _transformed(vectorizer: Any, texts: Sequence[str]) -> Any:
    from scipy.sparse import csr_matrix

    # scikit-learn refuses an empty list of texts; here that is a model without clicks.
    openings = [text[:QUERY_CHARACTERS] for text in texts]
    return vectorizer.transform(openings) if openings else csr_matrix(np.empty((0, len(vectorizer.idf_)), np.float32))


def _vectorizer(name: str, terms: Sequence[str] | None = None, idf: np.ndarray | None = None) -> Any:
    """A TfidfVectorizer: fitted, where `terms` in the order of columns and their `idf` are given."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vocabulary = None if terms is None else {term: column for column, term in enumerate(terms)}
    common: dict[str, Any] = {
        "lowercase": False, "sublinear_tf": True, "dtype": np.float32, "vocabulary": vocabulary,
    }  # fmt: skip
    if name == "words":
        vectorizer = TfidfVectorizer(analyzer=stemmed_words, **common)
    else:
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), **common)
    if idf is not None:
        vectorizer.idf_ = idf
    return vectorizer
