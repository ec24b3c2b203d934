"""Makes queries with known answers from "See Also" lists: which document a name means, which descriptions are queries.

Works on the extractions (`extract.py`) of all packages together. Imports none of the packages.
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
# Words that only say that two functions are related.
_GENERIC = re.compile(
    r"\b(a|an|alias|also|and|as|be|by|class|code|corresponding|equivalent|for|functions?|how|in|is|it|like|method|module"
    r"|more|new|object|of|on|one|or|related|same|see|should|similar|the|this|to|top|level|use|used|using|version|which"
    r"|with)\b"
)


@dataclass
class Package:
    """One package's extraction (see `Extraction` in extract.py), and the source that its documents name."""

    source: str
    module: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    version: str = ""


def add_queries(collected: Collected, packages: Sequence[Package], shares: Mapping[Split, float]) -> None:
    """Add a query for each distinct "See Also" description; its answers are all the documents so described."""
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
        # texts that are the same query may differ in case or punctuation: the most frequent one is taken
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
    (the order of Sphinx's Python domain). A name in no scope may still be the ending of one name in the package.
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
        """The id of the document or None, and the outcome in words ("found", "target not found", ...)."""
        target = target.removeprefix("~").strip(".")
        first, _, rest = target.partition(".")
        doc_ids: set[str]
        if rest and (first in self.roots or first in ABBREVIATIONS):
            doc_id = self.names.get(f"{ABBREVIATIONS.get(first, first)}.{rest}")
            doc_ids = set() if doc_id is None else {doc_id}
        else:
            doc_ids = self._relative(target, entry["names"]) or self.endings.get((package.module, target), set())
        if len(doc_ids) != 1:
            return None, "ambiguous target" if doc_ids else "target not found"
        doc_id = next(iter(doc_ids))
        return (None, "target is the document itself") if doc_id == entry["names"][0] else (doc_id, "found")

    def _relative(self, target: str, names: list[str]) -> set[str]:
        """The ids of the documents that `target` may mean in the docstring of an object with these names.

        Its first name decides, where the search from there finds another document than the object's own. Else each of
        its other names may find one. Only where none does, the object itself is meant.
        """
        itself = names[0]
        own, *others = (self._outwards(name, target, itself) for name in names)
        if own not in (None, itself):
            return {own}
        return {other for other in others if other not in (None, itself)} or ({own} if own else set())

    def _outwards(self, name: str, target: str, itself: str) -> str | None:
        """The id of the nearest `target` around `name`; the object's own id only where there is no other."""
        fallback = None
        scope = name.rpartition(".")[0]
        while scope:
            doc_id: str | None = self.names.get(f"{scope}.{target}")
            if doc_id not in (None, itself):
                return doc_id
            fallback = fallback or doc_id
            scope = scope.rpartition(".")[0]
        return fallback
