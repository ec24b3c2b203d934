"""Queries with known answers from "See Also" lists: which document a name means, which descriptions are queries.

Works on what `pydocs_extract.py` found in all packages together. Imports none of them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from repos.corpus.sources.collected import Collected
from repos.corpus.sources.readers.pydocs.text import clean
from shared_ops.data.text import Split, normalise, split_of, stands_in, text_id

ABBREVIATIONS = {
    "np": "numpy",
    "pd": "pandas",
    "nx": "networkx",
    "xr": "xarray",
    "sm": "statsmodels.api",
    "sp": "scipy",
}
# Words that say of two functions only that they have to do with each other.
_GENERIC = re.compile(
    r"\b(a|an|alias|also|and|as|be|by|class|code|corresponding|equivalent|for|functions?|how|in|is|it|like|method|module"
    r"|more|new|object|of|on|one|or|related|same|see|should|similar|the|this|to|top|level|use|used|using|version|which"
    r"|with)\b"
)


@dataclass
class Package:
    """One package's extraction (see pydocs_extract.Extraction), and the source that its documents name."""

    source: str
    module: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    version: str = ""


def add_queries(collected: Collected, packages: Sequence[Package], shares: Mapping[Split, float]) -> None:
    """Turn the "See Also" descriptions into queries: one for each text, with every document that it was said of."""
    resolver = Resolver(packages)
    texts: dict[str, Counter[str]] = defaultdict(Counter)
    answers: dict[str, set[str]] = defaultdict(set)
    sources: dict[str, str] = {}
    for package, entry, targets, words in _descriptions(packages):
        description = " ".join(clean(words).replace("`", "").split())
        key = normalise(description)
        if not tells_something(description):
            collected.note("see also: no description, or one that tells nothing", len(targets))
            continue
        for target in targets:
            doc_id, outcome = resolver.resolve(target, package, entry)
            if doc_id is None:
                collected.note(f"see also: {outcome}")
                continue
            texts[key][description] += 1
            answers[key].add(doc_id)
            sources.setdefault(key, package.source)
    documents = {row["doc_id"]: row["text"] for row in collected.documents}
    for key in sorted(answers):
        # equal texts may differ in case or punctuation: the most frequent stands for them
        text = min(texts[key], key=lambda text: (-texts[key][text], text))
        query_id = text_id(text)
        split = split_of(text, shares)
        collected.queries.append({"query_id": query_id, "text": text, "split": split, "source": sources[key]})
        collected.qrels += [{"query_id": query_id, "doc_id": doc_id, "grade": 1} for doc_id in sorted(answers[key])]
        verbatim = any(stands_in(text, documents[doc_id]) for doc_id in answers[key])
        collected.slices.append({"query_id": query_id, "slice": "verbatim" if verbatim else "paraphrase"})


def _descriptions(packages: Sequence[Package]) -> Iterator[tuple[Package, dict[str, Any], list[str], str]]:
    for package in packages:
        for entry in package.entries:
            for targets, words in entry["see_also"]:
                yield package, entry, targets, words


def tells_something(description: str) -> bool:
    """Whether a description can be searched for: three words or more, two of which say what it is about."""
    words = normalise(description)
    return len(words.split()) >= 3 and len(_GENERIC.sub("", words).split()) >= 2


class Resolver:
    """Finds the document that a "See Also" name means, as the projects' documentation does.

    A name is absolute, or relative to what the docstring belongs to: its class, its module, and outwards from there
    (Sphinx's Python domain looks in that order). What no scope holds may still be the end of one name in the package.
    """

    def __init__(self, packages: Sequence[Package]) -> None:
        self.names = {name: entry["names"][0] for package in packages for entry in package.entries
                      for name in entry["names"]}  # fmt: skip
        self.roots = {package.module for package in packages}
        self.endings: dict[tuple[str, str], set[str]] = defaultdict(set)
        for name, doc_id in self.names.items():
            root, *parts = name.split(".")
            for start in range(len(parts) - 1):
                self.endings[root, ".".join(parts[start:])].add(doc_id)

    def resolve(self, target: str, package: Package, entry: dict[str, Any]) -> tuple[str | None, str]:
        """The document's id, or None; and in a word what came of it."""
        target = target.removeprefix("~").strip(".")
        first, _, rest = target.partition(".")
        found: set[str]
        if rest and (first in self.roots or first in ABBREVIATIONS):
            doc_id = self.names.get(f"{ABBREVIATIONS.get(first, first)}.{rest}")
            found = set() if doc_id is None else {doc_id}
        else:
            found = self._relative(target, entry["names"]) or self.endings.get((package.module, target), set())
        if len(found) != 1:
            return None, "ambiguous target" if found else "target not found"
        doc_id = next(iter(found))
        return (None, "target is the document itself") if doc_id == entry["names"][0] else (doc_id, "found")

    def _relative(self, target: str, names: list[str]) -> set[str]:
        """What `target` is from the object's own name; where that sees nothing, from all its other names."""
        itself = names[0]
        own, *others = (self._outwards(name, target, itself) for name in names)
        if own not in (None, itself):
            return {own}
        return {other for other in others if other not in (None, itself)} or ({own} if own else set())

    def _outwards(self, name: str, target: str, itself: str) -> str | None:
        """The nearest `target` around `name`. Whoever points to his own name means a namesake further out, if any."""
        seen = None
        scope = name.rpartition(".")[0]
        while scope:
            found = self.names.get(f"{scope}.{target}")
            if found not in (None, itself):
                return found
            seen = seen or found
            scope = scope.rpartition(".")[0]
        return seen
