"""The documents lead somewhere: the links, paths, commands and names in them are there."""

import ast
import posixpath
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

from shared_ops.settings import ROOT, Settings, variable

SAID = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    text=True,
    capture_output=True,
    check=True,
).stdout
FILES = {name for name in SAID.split("\0") if name and (ROOT / name).is_file()}
"""What is committed, or is about to be."""
FOLDERS = {str(folder) for name in FILES for folder in Path(name).parents}
DOCUMENTS = sorted(name for name in FILES if name.endswith(".md"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
PACKAGE = "shared_ops/src"
"""The folder of the package shared_ops."""
READ_WHOLE = ["CONTRIBUTING.md", *(name for name in DOCUMENTS if name.startswith("docs/"))]
"""In these every path counts; in a README those of its tables, as elsewhere it may be an example's."""
GLOSSARY = (
    "query", "hit", "judgement (qrel)", "snapshot", "feedback", "release", "candidate", "challenger", "champion",
    "verdict", "live set", "proposal", "promotion", "rollback", "worker", "wire",
)  # fmt: skip

INLINE = re.compile(r"(?<!`)(`+)(?!`)((?:(?!\n\n).)+?)(?<!`)\1(?!`)", re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
PATH = re.compile(r"[\w./-]+/[\w.-]+\.(?:py|toml|yaml|md)")
MAKE = re.compile(r"(?<![\w/-])make +([a-z][a-z-]*)")
NAME = r"`[A-Za-z_][\w.]*`"
NAMED = re.compile(rf"({NAME}(?:(?:,\s+|\s+and\s+){NAME})*)\s+in\s+\[?`([\w./-]+\.(?:py|js|html|toml))`")


def parts(document: str) -> tuple[str, list[str]]:
    """A document's prose, and the lines of its blocks of code."""
    prose, code, fence, may_begin = [], [], "", True
    for line in (ROOT / document).read_text().splitlines():
        mark = re.match(r" {0,3}(```+|~~~+)", line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
            code.append(line)
        elif mark:
            fence = mark[1]
        elif may_begin and line.startswith("    "):
            code.append(line)
        else:
            prose.append(line)
            may_begin = not line.strip()
    return "\n".join(prose), code


def inline_code(prose: str) -> list[str]:
    return [" ".join(code.split()) for _, code in INLINE.findall(prose)]


def anchors(document: str) -> set[str]:
    """What a heading is called in a link, as GitHub has it."""
    slugs = []
    for heading in HEADING.findall(parts(document)[0]):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slugs.append(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    before = [slugs[:place].count(name) for place, name in enumerate(slugs)]
    return {f"{name}-{times}" if times else name for name, times in zip(slugs, before, strict=True)}


def places(path: str, document: str) -> list[str]:
    """The files that a path in a document may mean: from the root, from the document's folder, or of shared_ops."""
    starts = ["", posixpath.dirname(document), PACKAGE if path.startswith("shared_ops/") else f"{PACKAGE}/shared_ops"]
    return [place for start in starts if (place := posixpath.normpath(posixpath.join(start, path))) in FILES]


def definitions(file: str) -> set[str]:
    """What a Python file defines: functions and classes, however deep, classes' methods and fields, constants."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.Module | ast.ClassDef):
            owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
            names |= {owner + name for statement in node.body for name in bound(statement)}
    return names


def bound(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module or a class defines."""
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    names = [each.id for target in targets if target for each in ast.walk(target) if isinstance(each, ast.Name)]
    return [*names, *([statement.name] if hasattr(statement, "name") else [])]


def test_every_document_is_read() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md"} <= set(DOCUMENTS)
    assert {"up", "test", "check", "help"} <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(document: str) -> None:
    prose = INLINE.sub(r"\1\1", parts(document)[0])
    astray = []
    for link in LINK.findall(prose):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), path)) if path else document
        if target not in FILES | FOLDERS or (anchor and (target not in DOCUMENTS or anchor not in anchors(target))):
            astray.append(link)
    assert astray == []


@pytest.mark.parametrize(
    "document", [name for name in DOCUMENTS if name in READ_WHOLE or posixpath.basename(name) == "README.md"]
)
def test_every_path_is_that_of_a_file(document: str) -> None:
    prose = parts(document)[0]
    if document not in READ_WHOLE:
        prose = "\n".join(line for line in prose.splitlines() if line.lstrip().startswith("|"))
    paths = [code for code in inline_code(prose) if PATH.fullmatch(code)]
    assert [path for path in paths if not places(path, document)] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_is_one_of_the_makefile(document: str) -> None:
    prose, code = parts(document)
    commands = [*inline_code(prose), *(re.sub(r"(^|\s)#.*", "", line) for line in code)]
    assert {target for command in commands for target in MAKE.findall(command)} - TARGETS == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_is_defined_in_the_file_that_is_named_beside_it(document: str) -> None:
    missing = []
    for names, path in NAMED.findall(parts(document)[0]):
        files = places(path, document)
        for name in re.findall(NAME, names):
            name = name.strip("`")
            if not any(
                name in definitions(file) if file.endswith(".py") else name in (ROOT / file).read_text()
                for file in files
            ):
                missing.append(f"{name} in {path}")
    assert missing == []


def test_the_glossary_holds_the_words_of_the_field() -> None:
    _, _, after = parts("docs/architecture.md")[0].partition("\n## Glossary\n")
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|", after.partition("\n## ")[0], re.MULTILINE)
    assert set(GLOSSARY) - set(rows) == set()


def shown(default: object) -> str:
    """A setting's default as the table of settings has it."""
    if isinstance(default, Path):
        return f"`{default.relative_to(ROOT)}`"
    return "unset" if default in (None, "") else str(default).lower() if isinstance(default, bool) else str(default)


def test_the_table_of_settings_holds_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(SEARCHLOOP_\w+)` \| (.+?) \| .+ \|$", (ROOT / "docs/loop.md").read_text(), re.MULTILINE)
    assert dict(rows) == {variable(name): shown(field.default) for name, field in Settings.model_fields.items()}
