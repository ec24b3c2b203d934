"""Real text that every keyword environment holds: the docstrings of installed packages, read without importing them.

A document is a function's or class's docstring without its first line, under its dotted name; the first line is the
query that it answers.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from shared_ops.data import tables


def collection(*packages: str) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """The documents, queries (of split test) and qrels of some packages, in the order of their names."""
    docstrings = {name: lines for package in packages for name, lines in _docstrings(package)}
    split = {name: lines.strip().partition("\n") for name, lines in sorted(docstrings.items())}
    answers = {name: (summary, rest) for name, (summary, _, rest) in split.items() if rest.strip()}
    row = {"url": None, "metadata": "{}", "source": "docstrings"}
    documents = [{"doc_id": name, "title": name, "text": rest, **row} for name, (_, rest) in answers.items()]
    queries = [
        {"query_id": name, "text": summary, "split": "test", "source": "docstrings"}
        for name, (summary, _) in answers.items()
    ]
    qrels = [{"query_id": name, "doc_id": name, "grade": 1} for name in answers]
    return tables.make("documents", documents), tables.make("queries", queries), tables.make("qrels", qrels)


def _docstrings(package: str) -> Iterator[tuple[str, str]]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{package!r} is not an installed package with sources.")
    folder = Path(spec.submodule_search_locations[0])
    for path in sorted(folder.rglob("*.py")):
        module = ".".join((package, *path.relative_to(folder).with_suffix("").parts))
        if "tests" not in module:
            for node in ast.parse(path.read_text("utf-8")).body:
                yield from _of(node, module)


def _of(node: ast.stmt, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        name = f"{prefix}.{node.name}"
        if text := ast.get_docstring(node):
            yield name, text
        for inner in node.body if isinstance(node, ast.ClassDef) else []:
            yield from _of(inner, name)
