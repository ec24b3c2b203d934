"""From text to the terms that keyword search counts and looks up.

Two steps, so that a search over tokenizers reads every text only once: `words` cuts a text into words as they stand,
and a `Tokenizer` says which terms each distinct word stands for. Knows no documents, no scores, no scikit-learn.
"""

import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any

# Python's \w leaves out combining marks, which would cut Hindi, Tamil or vowelled Arabic words apart.
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, Kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[\w{_MARKS}]+")
_RUNS = re.compile(rf"([{_UNSPACED}]+)")
_HUMPS = re.compile(r"[0-9]*[A-Z]+s?(?![a-z])[0-9]*|[A-Z]?[a-z0-9]+")  # HTTP|Server, Data|Frames, IDs, 3D, log1p

MAX_TERM = 64
"""Characters. Longer terms (encoded data, rules of dashes) are no words: nobody types them, they would fill memory."""

# Snowball's English list (snowballstem.org/algorithms/english/stop.txt), contractions by their parts, and single
# letters, which scikit-learn and bm25s leave out too. On questions in prose it serves better than Lucene's 33 words:
# most of a question is not its subject.
STOP_WORDS = frozenset(Path(__file__).with_name("stop_words.txt").read_text().split()) | frozenset(ascii_lowercase)


def words(text: str) -> list[str]:
    """The words of a text in order, as they stand (case kept, Unicode compatibility forms unified).

    Words end at dots, not at underscores: `numpy.linalg.norm` is three, `read_csv` one. Linear in the text's length;
    any text is legal.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text))


@dataclass(frozen=True)
class Tokenizer:
    """Which terms a word stands for. Two tokenizers with equal fields give equal terms, in any process.

    Raises:
        ValueError: when there is no stemmer for the language.
    """

    language: str = "english"
    """The Snowball stemmer (and, for English, the stop words)."""
    stem: bool = True
    stop_words: bool = True
    identifiers: bool = True
    """Whether `read_csv` also stands for `read` and `csv`, and `DataFrame` for `data` and `frame`."""

    def __post_init__(self) -> None:
        from Stemmer import algorithms

        if self.language not in algorithms():
            raise ValueError(f"Unknown language {self.language!r}; expected one of {sorted(algorithms())}.")

    @cached_property
    def stopped(self) -> frozenset[str]:
        """The terms that tell nothing about a document."""
        return STOP_WORDS if self.stop_words and self.language == "english" else frozenset()

    @cached_property
    def _snowball(self) -> tuple[Any, threading.Lock]:
        from Stemmer import Stemmer

        return Stemmer(self.language, 0), threading.Lock()  # PyStemmer's objects serve one thread at a time

    @cached_property
    def _cached_terms(self) -> Callable[[str], tuple[str, ...]]:
        return lru_cache(2**16)(self.terms)

    def terms(self, word: str) -> tuple[str, ...]:
        """The terms of one word of `words`, case folded and stemmed, with repetitions; stop words included."""
        name = word.strip("_")
        parts = _parts(name) if self.identifiers else _runs(name)
        return tuple(self._normal(part) for part in parts if len(part) <= MAX_TERM)

    def query(self, query_words: list[str]) -> list[str]:
        """The terms to look up for the words of a query: without stop words, unless the query has nothing else."""
        lookup = self._cached_terms
        terms = [term for word in query_words for term in (lookup(word) if len(word) <= MAX_TERM else self.terms(word))]
        return [term for term in terms if term not in self.stopped] or terms

    def _normal(self, part: str) -> str:
        term = part.casefold()
        if not self.stem or term in self.stopped:
            return term
        stemmer, lock = self._snowball
        with lock:
            return str(stemmer.stemWord(term))


def _parts(name: str) -> list[str]:
    """An identifier's parts, at underscores and humps, and the whole of it where it has several."""
    pieces = [hump for piece in name.split("_") for hump in (_HUMPS.findall(piece) if piece.isascii() else [piece])]
    parts = [part for piece in pieces for part in _runs(piece)]
    return [*parts, name] if len(pieces) > 1 else parts


def _runs(piece: str) -> list[str]:
    """The piece itself, or overlapping pairs of characters where its script has no spaces (as Lucene's CJKAnalyzer)."""
    if piece.isascii():
        return [piece] if piece else []
    runs = [run for run in _RUNS.split(piece) if run]
    return [part for run in runs for part in (_pairs(run) if _RUNS.fullmatch(run) else [run])]


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]
