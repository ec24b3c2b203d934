"""Reads the API documentation of installed packages: documents, and queries with answers from "See Also" lists.

A "See Also" entry of a docstring names another function and says in a person's words what it does: the words become a
query, and that function its answer. The section is removed from the text of its own document, which would match the
query word for word and does not answer it.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repos.corpus.sources.collected import Collected, Row, SourceError, SourceReport, installing
from repos.corpus.sources.config import PydocsSource
from repos.corpus.sources.readers.pydocs.queries import Package, add_queries
from repos.corpus.sources.readers.pydocs.text import clean
from repos.corpus.sources.readers.pydocs.urls import documentation_url
from shared_ops.settings import ROOT

ALIASES = 5
"""How many other names a document's metadata lists."""


def read(source: PydocsSource) -> Collected:
    """Read a pydocs source: its documents, queries, judgements and slices.

    A module or package that cannot be imported is left out, and the report says why.
    """
    collected = Collected(SourceReport(name=source.name, kind=source.kind))
    packages = _extract_all(source)
    for package in packages:
        collected.report.notes[f"{package.source}: version"] = package.version
        for what, count in package.counts.items():
            collected.note(f"{package.source}: {what.replace('_', ' ')}", count)
        for module, error in package.failed.items():
            collected.report.notes[f"{package.source}: failed import of {module}"] = error
        collected.documents += [_document(package, entry) for entry in package.entries]
    add_queries(collected, packages, source.split)
    return collected


def check_installed(source: PydocsSource) -> None:
    """Check that at least one of the packages is installed, without importing any.

    Raises:
        SourceError: where none is.
    """
    modules = [module.partition(".")[0] for module in source.packages.values()]
    if not any(module and find_spec(module) for module in modules):
        raise SourceError(
            f"Source {source.name!r} gives no documents: none of the modules {', '.join(modules)} is installed in the "
            f"corpus' environment. {installing('the packages that they are of')}"
        )


def fingerprint(source: PydocsSource) -> str:
    """The hash of the packages' installed versions, None being the version of a package that is not installed."""
    versions = {name: _version(name, module) for name, module in source.packages.items()}
    return hashlib.sha256(json.dumps(versions, sort_keys=True).encode()).hexdigest()


def _version(name: str, module: str) -> str | None:
    for distribution in (name, *_distributions().get(module.partition(".")[0], [])):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()  # reads every installed package's list of files


def _extract_all(source: PydocsSource) -> list[Package]:
    """The extractions of all packages, `source.processes` of them at a time."""
    with tempfile.TemporaryDirectory(prefix="pydocs-") as folder, ThreadPoolExecutor(source.processes) as pool:
        runs = [
            pool.submit(_extract, name, module, Path(folder) / f"{name}.json", source.timeout_seconds)
            for name, module in source.packages.items()
        ]
        return [run.result() for run in runs]


def _extract(source: str, module: str, path: Path, timeout: float) -> Package:
    """Extract one package in a process of its own. If that fails or exceeds `timeout` seconds, the result is empty.

    The environment of the process fixes what docstrings could show of the machine: locale, time zone, terminal, and the
    order of a set.
    """
    fixed = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", "TZ": "UTC", "COLUMNS": "80"}
    inherited = ("PATH", "PYTHONPATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR")
    passed = {name: os.environ[name] for name in inherited if name in os.environ}
    command = [sys.executable, "-W", "ignore", "-m", "repos.corpus.sources.readers.pydocs.extract", module, str(path)]
    try:
        run = subprocess.run(
            command, cwd=ROOT, env=passed | fixed | {"OMP_NUM_THREADS": "1"}, timeout=timeout, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Package(source, module, failed={module: f"not read within {timeout:g} s; see timeout_seconds"})
    if run.returncode or not path.exists():
        last = run.stderr.strip().splitlines()[-1:] or ["no message"]
        return Package(source, module, failed={module: f"its process ended with status {run.returncode}: {last[0]}"})
    content = json.loads(path.read_text())
    return Package(source, module, content["entries"], content["counts"], content["failed"], content["version"])


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
