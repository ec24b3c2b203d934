"""A repository's name stands in its folder's name and in repos.toml, and in no code outside its folder."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared_ops.settings import ROOT, repositories

PLACES = ("shared_ops/src", "services", "deploy", "bench", "envs")
MADE = {"tests", ".venv", ".venvs", ".uv"}
"""Folders with other code: tests, which name what they test, and what is installed."""
NAMES = "|".join(map(re.escape, repositories()))
NAMED = re.compile(
    rf"^(?:{NAMES})$"  # the name
    rf"|(?:^|/)(?:{NAMES})(?=/|$)"  # in the path of an asset, a release or a file
    rf"|\brepos\.(?:{NAMES})\b"  # in that of a module
    rf"|\bcode-(?:{NAMES})\b"  # in its process
    r"|\b\w+_(?:dev|prod)\b"  # a job, which bears its repository's name or belongs to one
)

FEEDBACK = "what people asked and clicked: the table's, the setting's and the asset's word, whoever makes it"
ROLE = "a role, by which code finds a repository without its name"
RANKER = "the column's and the answer's word for what ordered the hits"
EXEMPT = {
    ("shared_ops/src/shared_ops/data/feedback.py", "feedback"): FEEDBACK,
    ("shared_ops/src/shared_ops/data/home_urls.py", "feedback"): FEEDBACK,
    ("shared_ops/src/shared_ops/pipeline/lineage.py", "feedback"): FEEDBACK,
    ("shared_ops/src/shared_ops/pipeline/ops.py", "feedback"): FEEDBACK,
    ("shared_ops/src/shared_ops/pipeline/types.py", "feedback"): FEEDBACK,
    ("services/search/recording.py", "feedback"): FEEDBACK,
    ("deploy/stack/processes/places.py", "feedback"): FEEDBACK,
    ("deploy/stack/doctor/running.py", "feedback"): FEEDBACK,
    ("shared_ops/src/shared_ops/settings.py", "feedback"): f"{ROLE}; and a folder of the home for {FEEDBACK}",
    ("deploy/stack/dagit/training.py", "feedback"): ROLE,
    ("bench/loop.py", "feedback"): ROLE,
    ("shared_ops/src/shared_ops/settings.py", "live"): ROLE,
    ("deploy/stack/processes/lifecycle.py", "live"): ROLE,
    ("deploy/repositories.py", "ranker"): "a kind of repository, as one types it",
    ("services/web.py", "live"): "a metric's label: whether what is held belongs to the live set",
    ("shared_ops/src/shared_ops/data/schemas.py", "ranker"): RANKER,
    ("services/search/answering.py", "ranker"): RANKER,
}
"""The field's words that are also a repository's name, by where they stand, with why the repository is not meant."""


def strings(source: str) -> Iterator[str]:
    """The string constants of a module, parts of f-strings too, without its docstrings."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def sources() -> Iterator[Path]:
    """Every Python file outside the repositories and the tests."""
    for place in PLACES:
        for path in (ROOT / place).rglob("*.py"):
            if MADE.isdisjoint(path.relative_to(ROOT).parts):
                yield path


@pytest.mark.slow
def test_no_code_outside_a_repository_s_folder_names_it() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), string)
        for path in sources()
        for string in strings(path.read_text())
        if NAMED.search(string)
    }
    assert sorted(found - EXEMPT.keys()) == []
    assert sorted(EXEMPT.keys() - found) == [], "exempt, and not there"


@pytest.mark.parametrize(
    "code",
    [
        'launch("keyword")',
        'fetch("keyword/v1")',
        'fetch(f"keyword/{version}")',
        'Path("repos/semantic/model.py")',
        'import_module("repos.ranker.model")',
        'states()["code-live"]',
        'launch(location, "promotion_prod")',
    ],
)
def test_a_name_is_found(code: str) -> None:
    assert any(map(NAMED.search, strings(code)))


@pytest.mark.parametrize(
    "code",
    [
        '"""Trains keyword: keyword_prod."""',
        'NAME = 1\n"""keyword"""',
        'say("set 3 is live. The ranker follows")',
        'read("live.json")',
        'f"{name}_prod"',
        'f"repos.{name}.model"',
    ],
)
def test_a_docstring_a_sentence_and_what_is_made_of_a_name_are_no_name(code: str) -> None:
    assert not any(map(NAMED.search, strings(code)))
