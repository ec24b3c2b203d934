"""The API documentation of installed packages: documents, and queries with known answers from their "See Also" lists.

A "See Also" entry of one docstring names another function and says in a person's words what it does: the words are a
query, the function they point to is its answer. The section is taken out of the text of the document that holds it,
where it would be a word-for-word match for a query that it does not answer.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repos.corpus.sources.collected import Collected, Row, SourceError, SourceReport
from repos.corpus.sources.config import PydocsSource
from repos.corpus.sources.pydocs_urls import documentation_url
from repos.corpus.sources.text import normalise, split_of, stands_in, text_id

ROOT = Path(__file__).resolve().parents[3]
ABBREVIATIONS = {
    "np": "numpy",
    "pd": "pandas",
    "nx": "networkx",
    "xr": "xarray",
    "sm": "statsmodels.api",
    "sp": "scipy",
}
ALIASES = 5
"""How many other names a document's metadata lists."""
_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_MACHINE_LINE = re.compile(r"^.*Alias on this platform.*\n?", re.MULTILINE)
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")


@dataclass
class Package:
    """One package's extraction (see pydocs_extract.Extraction), and the source that its documents name."""

    source: str
    module: str
    entries: list[dict[str, Any]]
    counts: dict[str, int]
    failed: dict[str, str]
    version: str


def read(source: PydocsSource) -> Collected:
    """The documents, queries, judgements and slices of a pydocs source.

    Raises:
        SourceError: where a package cannot be extracted at all; single modules that fail are only counted.
    """
    collected = Collected(SourceReport(name=source.name, kind=source.kind))
    packages = _extract_all(source)
    for package in packages:
        collected.report.notes[f"{package.source}: version"] = package.version
        for what, count in package.counts.items():
            collected.note(f"{package.source}: {what.replace('_', ' ')}", count)
        for module, error in package.failed.items():
            collected.report.notes[f"{package.source}: failed import of {module}"] = error
    for package in packages:
        collected.documents += [_document(package, entry) for entry in package.entries]
    _add_queries(collected, packages, source.split)
    return collected


def _extract_all(source: PydocsSource) -> list[Package]:
    """Every package's extraction, two processes at a time."""
    with tempfile.TemporaryDirectory(prefix="pydocs-") as folder, ThreadPoolExecutor(source.processes) as pool:
        runs = [
            pool.submit(_extract, name, module, Path(folder) / f"{name}.json", source.timeout_seconds)
            for name, module in source.packages.items()
        ]
        return [run.result() for run in runs]


def _extract(source: str, module: str, path: Path, timeout: float) -> Package:
    """Run the extraction of one package in a process of its own.

    What a docstring may hold of its machine (locale, time zone, terminal, the order of a set) is fixed by the
    environment that the process gets.
    """
    fixed = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "TZ": "UTC", "COLUMNS": "80"}
    passed = {key: os.environ[key] for key in ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR") if key in os.environ}
    command = [sys.executable, "-W", "ignore", "-m", "repos.corpus.sources.pydocs_extract", module, str(path)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=passed | fixed | {"OMP_NUM_THREADS": "1"}, timeout=timeout, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"Source {source!r}: package {module!r} was not read within {timeout:.0f} s. "
            "Raise timeout_seconds in the sources file, or leave the package out."
        ) from error
    if done.returncode or not path.exists():
        last = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
        raise SourceError(
            f"Source {source!r}: package {module!r} cannot be read (exit status {done.returncode}): {last[0]}. "
            "Is it installed in the environment of the corpus? Add it to envs/corpus/requirements.in, or leave it out."
        )
    found = json.loads(path.read_text())
    return Package(source, module, found["entries"], found["counts"], found["failed"], found["version"])


def _document(package: Package, entry: dict[str, Any]) -> Row:
    name, *others = entry["names"]
    metadata = {"kind": entry["kind"], "module": entry["module"], "aliases": others[:ALIASES]}
    return {
        "doc_id": name,
        "source": package.source,
        "title": name,
        "text": clean(entry["doc"]),
        "url": documentation_url(package.module, entry["kind"], name, entry["names"], entry["module"]),
        "metadata": json.dumps(metadata, sort_keys=True),
    }


def clean(doc: str) -> str:
    """A docstring's text without markup for links, and without what differs from machine to machine."""
    text = _ROLE.sub(r"\1", _MACHINE_LINE.sub("", doc)).replace("``", "`")
    text = _ADDRESS.sub("0x...", text).replace(sysconfig.get_path("purelib"), "site-packages")
    home = os.environ.get("HOME", "").rstrip("/")
    return (text.replace(f"{home}/", "~/") if home else text).strip()


def _add_queries(collected: Collected, packages: list[Package], shares: dict[str, float]) -> None:
    """Turn the "See Also" descriptions into queries: one for each text, with every document that it was said of."""
    resolver = Resolver(packages)
    texts: dict[str, Counter[str]] = defaultdict(Counter)
    answers: dict[str, set[str]] = defaultdict(set)
    sources: dict[str, str] = {}
    for package, entry, targets, words in _descriptions(packages):
        description = " ".join(clean(words).replace("`", "").split())
        key = normalise(description)
        if len(key.split()) < 3:
            collected.note("see also: no description, or fewer than 3 words", len(targets))
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


def _descriptions(packages: list[Package]) -> Iterator[tuple[Package, dict[str, Any], list[str], str]]:
    for package in packages:
        for entry in package.entries:
            for targets, words in entry["see_also"]:
                yield package, entry, targets, words


class Resolver:
    """Finds the document that a "See Also" name means, as the projects' documentation does.

    A name is absolute, or relative to what the docstring belongs to: its class, its module, and outwards from there
    (Sphinx's Python domain looks in that order). What no scope holds may still be the end of one name in the package.
    """

    def __init__(self, packages: list[Package]) -> None:
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
        if rest and (first in self.roots or first in ABBREVIATIONS):
            found = {self.names.get(f"{ABBREVIATIONS.get(first, first)}.{rest}")} - {None}
        else:
            found = self._relative(target, entry) or self.endings.get((package.module, target), set())
        if len(found) != 1:
            return None, "ambiguous target" if found else "target not found"
        doc_id = next(iter(found))
        return (None, "target is the document itself") if doc_id == entry["names"][0] else (doc_id, "found")

    def _relative(self, target: str, entry: dict[str, Any]) -> set[Any]:
        """What `target` is from the object's own name; where that sees nothing, from all its other names."""
        own, *others = (self._from(name, target) for name in entry["names"])
        return {own} if own else set(others) - {None}

    def _from(self, name: str, target: str) -> str | None:
        scope = name
        while scope:
            scope = scope.rpartition(".")[0]
            if (found := self.names.get(f"{scope}.{target}")) is not None:
                return found
        return None
