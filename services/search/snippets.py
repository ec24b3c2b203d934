"""The part of a text that answers best to a query's words, readable, with those words marked.

It searches plain strings, and uses regular expressions only on what is shown: ten snippets cost well under a
millisecond, and a bounded time whatever the documents hold. reStructuredText's marks are left out of what is shown;
what is indexed has them.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

LENGTH = 240
"""Characters of a snippet, about."""

TITLE_LENGTH = 300
"""Characters of a title that are shown. The longest titles of the collections developed on have fewer."""

_MAX_TERMS = 16
_MAX_PLACES = 20
_MAX_TEXT = 20_000
_LEAD = 60
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be by can do for from how i in into is it its of on or that the this to was what when "
        "which with"
    )
)
_ENDING = re.compile(r"(?<=[a-z]{4})(?:ing|ed|es|s)$")
_UNDERLINE = "=-~^*#"
_TABLE = "=-+| "
_MARKS = frozenset(_UNDERLINE + _TABLE + ".:>")
"""First characters of lines that are not all words."""
_INLINE = re.compile(
    r"""
    :[\w+.-]+:`~?          # the role in :func:`~numpy.sort`
    | \s?<[^<>`]*>(?=`_)   # the address in `the site <https://...>`_
    | `__?(?!\w) | `+      # what ends a link, and what stands around names
    | (?<=\])_(?!\w)       # what ends a citation: [1]_
    | :(?=:(?:\s|$))       # the one colon too many before a block of code
    """,
    re.VERBOSE,
)


class Part(NamedTuple):
    """A piece of a text, and whether it is one of the query's words."""

    text: str
    marked: bool


Parts: TypeAlias = list[Part]


class _Place(NamedTuple):
    start: int
    end: int
    term: str


def terms(query: str) -> list[str]:
    """The query's words as beginnings to look for: lower case, without English endings and stop words."""
    words = list(dict.fromkeys(_WORD.findall(_fold(query))))
    telling = [word for word in words if word not in _STOP_WORDS] or words
    return list(dict.fromkeys(_ENDING.sub("", word) for word in telling))[:_MAX_TERMS]


def snippet(text: str, query_terms: Sequence[str]) -> str:
    """About `LENGTH` characters of `text` where most of the query's terms stand, rare ones counting more.

    It is the beginning of the text where that holds most of the terms: a beginning sums the text up.
    """
    text = _readable(text[:_MAX_TEXT])
    start = _line_start(text, _best_start(_places(_fold(text), query_terms)))
    end = start + LENGTH
    if end < len(text):
        end = max(text.rfind(" ", start, end), text.rfind("\n", start, end), start + LENGTH // 2)
    words = " ".join(_INLINE.sub("", text[start:end]).split())
    return ("… " if text[:start].strip() else "") + words + (" …" if text[end:].strip() else "")


def shortened(title: str) -> str:
    """A title as it is shown: whole, or its beginning up to the end of a word."""
    if len(title) <= TITLE_LENGTH:
        return title
    end = max(title.rfind(" ", 0, TITLE_LENGTH), TITLE_LENGTH // 2)
    return f"{title[:end].rstrip()} …"


def mark(text: str, query_terms: Sequence[str]) -> Parts:
    """`text` in parts, in which the whole words that begin with one of the query's terms are marked."""
    parts, reached = [], 0
    for place in sorted(_places(_fold(text), query_terms)):
        if place.start < reached:
            continue
        end = _word_end(text, place.end)
        parts += [Part(text[reached : place.start], False), Part(text[place.start : end], True)]
        reached = end
    return [part for part in [*parts, Part(text[reached:], False)] if part.text]


def _readable(text: str) -> str:
    """`text` line by line without reStructuredText's marks: underlines, tables' rules, directives, prompts."""
    lines: list[str] = []
    directive = False
    for line in text.splitlines():
        words = line.strip()
        if words[:1] not in _MARKS:
            directive = False
            lines.append(words)
            continue
        directive = (words.startswith(".. ") and not words.startswith(".. [")) or (directive and words[0] == ":")
        if directive:
            lines.append("")
        elif not words.strip(_UNDERLINE):
            if lines and lines[-1]:
                lines[-1] += ":"
        elif words.strip(_TABLE):
            lines.append(words.removeprefix(">>>").removeprefix("...").removeprefix(".. "))
    return "\n".join(lines)


def _fold(text: str) -> str:
    """Lower case of the same length, so that places in it are places in the text."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _places(folded: str, query_terms: Sequence[str]) -> list[_Place]:
    return [place for term in query_terms for place in _occurrences(folded, term)]


def _occurrences(folded: str, term: str) -> Iterator[_Place]:
    """Where a word begins with `term`. Scripts that write no spaces have words that begin anywhere."""
    start, count = folded.find(term), 0
    while start >= 0 and count < _MAX_PLACES:
        if start == 0 or not term.isascii() or not folded[start - 1].isalnum():
            count += 1
            yield _Place(start, start + len(term), term)
        start = folded.find(term, start + len(term))


def _best_start(places: Sequence[_Place]) -> int:
    """The beginning, if it holds most of the terms that stand in the text at all, as a summary does.

    Else the place from which a window holds the most different terms, each weighing 1 / its occurrences.
    """
    counts = Counter(place.term for place in places)
    summary = {place.term for place in places if place.end <= LENGTH}
    if 2 * len(summary) > len(counts):
        return 0
    ordered = sorted(places)
    best, best_weight = 0, sum(1 / counts[term] for term in summary)
    for index, first in enumerate(ordered):
        inside: set[str] = set()
        for place in ordered[index:]:
            if place.end > first.start + LENGTH - _LEAD:
                break
            inside.add(place.term)
        weight = sum(1 / counts[term] for term in inside)
        if weight > best_weight:
            best, best_weight = first.start, weight
    return best


def _line_start(text: str, place: int) -> int:
    """The beginning of the line or sentence around `place`, or of a word, at most `_LEAD` characters before it."""
    earliest = max(place - _LEAD, 0)
    if earliest == 0:
        return 0
    line = max(text.rfind("\n", earliest, place), text.rfind(". ", earliest, place))
    word = line if line >= 0 else text.find(" ", earliest, place)
    return word + 1 if word >= 0 else place


def _word_end(text: str, place: int) -> int:
    while place < len(text) and text[place].isalnum() and text[place].isascii():
        place += 1
    return place
