"""Adds a repository to the checkout, and takes one away: `python -m deploy.repositories new|remove` in envs/platform.

A repository is its folder in repos/, its environment in envs/ and its entry in the list; the rest is generated from
that. What is new is written, checked and locked beside (`.new-<name>`), and moved into place when all of it is there;
what fails leaves the checkout as it was. A running stack follows the list with the next `make up`.
"""

import argparse
import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from deploy import generate
from shared_ops.settings import LIST, NAME, OPTIONAL, ROOT, ListError, Role, free_port, repositories

TEMPLATES = ROOT / "deploy" / "templates"
SUFFIX = ".tmpl"
KINDS: dict[str, Role] = {"search": "search", "ranker": "rank", "data": "source"}
FRAMEWORKS = {
    "none": ("python", "NumPy"),
    "sklearn": ("scikitlearn", "scikit-learn"),
    "torch": ("pytorch", "torch"),
    "tensorflow": ("tensorflow", "TensorFlow"),
}
"""What a model can be made with: as Dagit shows it, and as people call it."""
OWNER = re.compile(r"@[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
LONGEST = 30
"""Characters of a name: it is part of paths, of columns and of class names."""
CODE = ("shared_ops/src", "services", "deploy", "bench", "envs/build.py")
"""Where a repository's name may not be a word already: what means the word would be taken to mean the repository."""
MADE = {".venv", ".venv.new", ".venvs", "__pycache__"}
"""What running leaves in the folders of a repository and of an environment that git has no more."""


class RepositoryError(ValueError):
    """A repository that cannot be added or taken away; the message says why, and what can be done."""


@dataclass(frozen=True)
class Wanted:
    """A repository as it was asked for."""

    name: str
    kind: str
    framework: str
    owner: str

    @property
    def has_model(self) -> bool:
        """Whether it trains a model, and so has a framework."""
        return KINDS[self.kind] != "source"

    def check(self) -> None:
        """Raises RepositoryError where something does not fit, before anything is written."""
        self._check_words()
        if taken := next((path for path in self._folders() if _holds_files(path)), None):
            raise RepositoryError(
                f"NAME: {taken.relative_to(ROOT)} is there already: choose another name than {self.name}"
            )
        if place := _place_of(self.name):
            raise RepositoryError(f"NAME: {self.name!r} is a word of the code already ({place}): choose another name")

    def _check_words(self) -> None:
        _need("NAME", self.name, "small letters, digits and _, a letter first", bool(NAME.fullmatch(self.name)))
        _need("NAME", self.name, "no word of Python's", not keyword.iskeyword(self.name))
        _need("NAME", self.name, f"at most {LONGEST} characters", len(self.name) <= LONGEST)
        _need("KIND", self.kind, f"one of {', '.join(KINDS)}", self.kind in KINDS)
        _need("FRAMEWORK", self.framework, f"one of {', '.join(FRAMEWORKS)}", self.framework in FRAMEWORKS)
        fits = self.has_model or self.framework == "none"
        _need("FRAMEWORK", self.framework, f"none, as KIND={self.kind} has no model", fits)
        _need(
            "OWNER",
            self.owner,
            "a person or a team as CODEOWNERS names them, @org/team",
            bool(OWNER.fullmatch(self.owner)),
        )

    def _folders(self) -> list[Path]:
        return [ROOT / "repos" / self.name, ROOT / "repos" / f"{self.name}.py", ROOT / "envs" / self.name]

    def entry(self) -> str:
        """Its entry in the list, with the lowest port that is free."""
        role = KINDS[self.kind]
        made_with = {"kind": FRAMEWORKS[self.framework][0]} if self.has_model else {}
        values = {"owner": self.owner, "environment": self.name, "role": role, **made_with, "queue": self.name}
        lines = [f'{field} = "{value}"' for field, value in values.items()]
        return "\n".join(["", f"[{self.name}]", *lines, f"port = {free_port(repositories().values(), role)}", ""])

    def words(self) -> dict[str, str]:
        """What stands in the place of the templates' $words."""
        return {
            "name": self.name,
            "Name": self.name.title().replace("_", ""),
            "owner": self.owner,
            "framework": FRAMEWORKS[self.framework][1],
        }


def new(wanted: Wanted, say: Callable[[str], None]) -> None:
    """Add a repository to the checkout: its folder, its environment with a lock, its entry, and what follows from it.

    Raises:
        RepositoryError: when something does not fit, or its lock cannot be made; the checkout is as it was.
        ListError: when the list cannot be read, or has no port left.
    """
    wanted.check()
    with _beside(wanted.name) as places, ExitStack() as undo:
        _write_templates(wanted, places)
        _tidy(places["repos"])
        _lock(wanted, places["envs"], say)
        for kind, place in places.items():
            folder = ROOT / kind / wanted.name
            undo.callback(_move_files, folder, place)
            _move_files(place, folder)
        before = (ROOT / LIST).read_text()
        undo.callback(_change_list, before)
        _change_list(before + wanted.entry())
        undo.pop_all()
    say(f"repos/{wanted.name} and envs/{wanted.name} written, {LIST} has it, and what is generated from that")
    # A search model is live once a ranker has learned from its hits.
    train = "make train" if wanted.kind == "search" else f"make train REPO={wanted.name}"
    say(f"make up starts it, beside what runs; then: {train}")


def remove(name: str, say: Callable[[str], None]) -> None:
    """Take a repository out of the checkout: its entry, its folder, and its environment where no other one uses it.

    Raises:
        RepositoryError: when the list has no such repository, or the stack cannot be without it.
        ListError: when the list cannot be read.
    """
    listed = repositories()
    _need("NAME", name, f"one of {', '.join(listed)}", name in listed)
    repository = listed.pop(name)
    if repository.role not in {each.role for each in listed.values()} | set(OPTIONAL):
        raise RepositoryError(
            f"NAME: [{name}] is the only repository with the role {repository.role}, which a stack needs"
        )
    shared = repository.environment in {each.environment for each in listed.values()}
    folders = {"repos": name} if shared else {"repos": name, "envs": repository.environment}
    before = (ROOT / LIST).read_text()
    with _beside(name) as places, ExitStack() as undo:
        undo.callback(_change_list, before)
        _change_list(without(before, name))
        for kind, folder in folders.items():
            undo.callback(_move_files, places[kind], ROOT / kind / folder)
            _move_files(ROOT / kind / folder, places[kind])
        undo.pop_all()
    if shared:
        say(f"envs/{repository.environment} stays: other repositories use it")
    made_from = "" if shared else ", what its environment is made from"
    say(f"{name} removed: its folder, its entry in {LIST}{made_from}, and what follows")
    left = "where its model is live it answers until a set without it is: make train"
    if repository.role == "source":
        left = "its documents leave with the corpus' next snapshot, which follows by itself"
    say(f"In a running stack make up ends its code server; {left}")


def without(text: str, name: str) -> str:
    """The text of a list without an entry and the empty line before it."""
    return re.sub(rf"\n?^\[{name}\]\n(?:[^\[\n].*\n?)*", "", text, flags=re.MULTILINE)


@contextmanager
def _beside(name: str) -> Iterator[dict[str, Path]]:
    """Empty folders beside those that the repository and its environment will have; in the end they are gone."""
    places = {kind: ROOT / kind / f".new-{name}" for kind in ("repos", "envs")}
    try:
        for place in places.values():
            shutil.rmtree(place, ignore_errors=True)  # of one that was killed
            place.mkdir()
        yield places
    finally:
        for place in places.values():
            shutil.rmtree(place, ignore_errors=True)


def _write_templates(wanted: Wanted, places: dict[str, Path]) -> None:
    framework = [TEMPLATES / "frameworks" / wanted.framework] if wanted.has_model else []
    for template in (TEMPLATES / wanted.kind, *framework):
        for file in (path for path in template.rglob("*") if path.is_file()):
            kind, *rest = file.relative_to(template).with_name(file.name.removesuffix(SUFFIX)).parts
            target = places[kind].joinpath(*rest)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Template(file.read_text()).substitute(wanted.words()))


def _tidy(folder: Path) -> None:
    """Lay the code out as the checks ask for: the order of imports, and where lines break, depend on the name."""
    ruff, ours = str(Path(sys.executable).with_name("ruff")), "lint.isort.known-first-party = ['repos']"
    for command in (["format"], ["check", "--fix"], ["format"]):
        options = ["--quiet", "--no-respect-gitignore", "--config", ours]
        _run([ruff, *command, *options, str(folder)], "The code does not pass the checks")


def _lock(wanted: Wanted, place: Path, say: Callable[[str], None]) -> None:
    """Make the lock, with the versions of an environment of the same kind where they fit: those are on this machine."""
    lock = place / "requirements.txt"
    kind = FRAMEWORKS[wanted.framework][0]
    families = [repository for repository in repositories().values() if repository.is_family]
    alike = next((each for each in families if each.kind == kind), families[0])
    shutil.copy(ROOT / "envs" / alike.environment / lock.name, lock)
    say(f"the lock of envs/{wanted.name} is made")
    _run([sys.executable, "envs/build.py", "lock", place.name], f"The lock of {wanted.name} cannot be made")
    lock.write_text(lock.read_text().replace(f"envs/{place.name}/", f"envs/{wanted.name}/"))


def _run(command: list[str], problem: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RepositoryError("\n".join([f"{problem}; nothing was changed:", *said]))


def _move_files(source: Path, target: Path) -> None:
    """Move what lies in a folder into another one. What running has made there stays: `make envs` removes it."""
    target.mkdir(exist_ok=True)
    for each in [each for each in source.glob("*") if each.name not in MADE]:
        each.rename(target / each.name)
    shutil.rmtree(source / "__pycache__", ignore_errors=True)
    if source.exists() and not any(source.iterdir()):
        source.rmdir()


def _change_list(text: str) -> None:
    """Replace the list in one step, and make anew what follows from it: processes read it at any time."""
    beside = (ROOT / LIST).with_name(".new-list")
    beside.write_text(text)
    beside.replace(ROOT / LIST)
    generate.write()


def _holds_files(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(each.name not in MADE for each in path.iterdir()))


def _place_of(word: str) -> str | None:
    """The first file in which code has this word as a text of its own, or as the start of a path."""
    meant = re.compile(rf"""(["']){word}(\1|/)""")
    for place in CODE:
        for path in sorted((ROOT / place).rglob("*.py")) or [ROOT / place]:
            if "tests" not in path.parts and meant.search(path.read_text()):
                return path.relative_to(ROOT).as_posix()
    return None


def _need(variable: str, came: str, expected: str, fits: bool) -> None:
    if not fits:
        raise RepositoryError(f"{variable}: expected {expected}, got {repr(came) if came else 'nothing'}: make help")


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Run one command; what does not fit is told in one sentence."""
    parser = argparse.ArgumentParser(description="Add a repository to the checkout, or take one away.")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("new")
    for name in ("name", "kind", "framework", "owner"):
        adding.add_argument(f"--{name}", default="")
    commands.add_parser("remove").add_argument("--name", default="")
    arguments = vars(parser.parse_args())
    try:
        if arguments.pop("command") == "new":
            new(Wanted(**arguments), _say)
        else:
            remove(arguments["name"], _say)
    except (RepositoryError, ListError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
