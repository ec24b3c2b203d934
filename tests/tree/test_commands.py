"""Each command that a document shows in a block is run by a test, with the same variables; or it is said why not."""

import ast
import re
import shlex
from collections.abc import Iterator

import pytest

from deploy.matrix import suites
from shared_ops.settings import ROOT
from tests.tree.test_documents import DOCUMENTS, FILES, parts

Command = tuple[str, frozenset[str]]
"""A target of the Makefile, and the names of the variables that it is given."""

NOT_RUN = {
    "test": "this is run by it, and suites and their table are tested in tests/tree/test_suites.py",
    "check": "make test runs it first",
    "help": "tests/tree/test_makefile.py looks at what it prints",
    "shell": "it waits for what is typed: deploy/stack/tests/test_team.py types",
    "lock": "it asks a package index: tests/tree/test_locks.py and the drills run it where there is one",
}
"""Targets that no test calls by `make`, and why."""
MINUTES = "a benchmark: it takes minutes and judges nothing"
WHOLE = {"docs/adding-a-model.md": "tests/drills/test_one_piece.py"}
"""Documents whose commands a test reads and types."""


def shown() -> Iterator[tuple[str, list[str]]]:
    """The documents' commands, as words, each with its document."""
    for document in DOCUMENTS:
        for line in parts(document)[1]:
            words = shlex.split(line, comments=True) if re.match(r" *([A-Z_]+=\S+ +)*(make|envs/\S+) ", line) else []
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield document, words


def run_by_tests() -> set[Command]:
    """What tests call as `make(target, "NAME=...")` or `run(..., "make", target, ...)`; a value may be anything."""
    found = set()
    for name in sorted(FILES):
        if not re.search(r"(^|/)tests/.*\.py$", name):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            given = [literal(each) for each in node.args]
            if ast.unparse(node.func).split(".")[-1] != "make":
                given = given[given.index("make") + 1 :] if "make" in given else []
            if given:
                target, *given = given
                found.add((target, frozenset(each.partition("=")[0] for each in given if "=" in each)))
    return found


def literal(node: ast.expr) -> str:
    """What a string begins with, as far as it stands in the code."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) and node.values else node
    return str(first.value) if isinstance(first, ast.Constant) else ""


def problem(document: str, words: list[str], run: set[Command]) -> str | None:
    """Why a command is not known to do what it says."""
    if words[0] == "make":
        target, names = words[1], frozenset(word.partition("=")[0] for word in words[2:] if "=" in word)
        covered = document in WHOLE or target in NOT_RUN or any(target == t and names <= its for t, its in run)
        return None if covered else f"no test runs make {target} with {' '.join(sorted(names)) or 'nothing'}"
    module = words[2] if words[1] == "-m" else words[1].removesuffix(".py").replace("/", ".")
    if module == "pytest":
        environment, folder = words[0].split("/")[1], words[3]
        of_it = [name for name, its in suites().items() if name.startswith(folder) and its == environment]
        return None if of_it or f"{folder}/tests" in suites() else f"{folder} is no suite in {environment}"
    file = f"{module.replace('.', '/')}"
    there = f"{file}.py" in FILES or f"{file}/__main__.py" in FILES
    return None if there else f"{module} is not there"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_command_that_is_shown_is_run_by_a_test(document: str) -> None:
    run = run_by_tests()
    problems = [problem(of, words, run) for of, words in shown() if of == document]
    assert [each for each in problems if each] == []


def test_the_tests_calls_of_make_are_seen() -> None:
    run = run_by_tests()
    assert ("up", frozenset()) in run and ("rollback", frozenset({"WHY"})) in run and len(list(shown())) > 50


def test_nothing_is_excused_that_a_test_runs() -> None:
    """But for make test itself, whose own tests call it on other lists."""
    assert all((ROOT / file).exists() for file in WHOLE.values())
    assert set(NOT_RUN) <= {words[1] for _, words in shown() if words[0] == "make"}
