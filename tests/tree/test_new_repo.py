"""`make new-repo` writes a repository that works, or leaves the checkout as it was; `make remove-repo` undoes it."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from deploy import checks, generate
from deploy import repositories as commands
from deploy.repositories import RepositoryError, Wanted, without
from shared_ops import settings
from shared_ops.settings import LIST, ROOT, families, listed, repositories
from tests.drills.checkouts import Checkout

ADDED = "a_name_as_long_as_one_may_be_1"
CACHES = {".uv", ".ruff_cache", ".mypy_cache", "__pycache__"}
FRAMEWORKS = list(commands.FRAMEWORKS)
MODELS = ("search", "ranker")
"""The kinds of repository that train a model."""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the checkout that the commands work upon."""
    copy = Checkout.copied(tmp_path / "checkout").root
    for module in (settings, generate, commands):
        monkeypatch.setattr(module, "ROOT", copy)
    return copy


def content(checkout: Path) -> dict[str, bytes]:
    """Every file of a checkout, by its path."""
    files = [path for path in checkout.rglob("*") if path.is_file() and CACHES.isdisjoint(path.parts)]
    return {path.relative_to(checkout).as_posix(): path.read_bytes() for path in files}


def wanted(**fields: str) -> Wanted:
    return Wanted(**{"name": ADDED, "kind": "search", "framework": "none", "owner": "@org/team"} | fields)


def new(**fields: str) -> list[str]:
    """Add a repository; returns what was said."""
    said: list[str] = []
    commands.new(wanted(**fields), said.append)
    return said


def ran(checkout: Path, python: Path, *arguments: str) -> str:
    """What a Python prints in a checkout, whose shared_ops it takes."""
    variables = os.environ | {"PYTHONPATH": str(checkout / "shared_ops" / "src")}
    command = [str(python), *arguments]
    done = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alike(framework: str) -> Path:
    """The Python of an environment that is there and holds what a model of this framework needs."""
    kind = commands.FRAMEWORKS[framework][0]
    environment = next(each.environment for each in families().values() if kind in (each.kind, "python"))
    return (ROOT / "envs" / environment / ".venv").resolve() / "bin" / "python"


JOBS = {"search": ("dev", "prod", "predict"), "ranker": ("dev", "prod", "predict"), "data": ("dev", "prod")}
"""The jobs of each kind of repository."""
WRITTEN = [*((kind, framework) for kind in MODELS for framework in FRAMEWORKS), ("data", FRAMEWORKS[0])]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "framework"), WRITTEN)
def test_what_is_written_passes_the_checks_and_its_tests_and_loads(
    checkout: Path, kind: str, framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, python = content(checkout), alike(framework)
    said = new(kind=kind, framework=framework)
    train = "make train" if kind == "search" else f"make train REPO={ADDED}"
    assert said[-1] == f"make up starts it, beside what runs; then: {train}"
    gained = sorted(content(checkout).keys() - before.keys())
    assert {name.rsplit("/", 1)[0] for name in gained} == {f"repos/{ADDED}", f"repos/{ADDED}/tests", f"envs/{ADDED}"}
    entry = repositories()[ADDED]
    assert (entry.owner, entry.environment, entry.queue) == ("@org/team", ADDED, ADDED)
    assert "".join(generate.differences()) == ""
    lock = (checkout / "envs" / ADDED / "requirements.txt").read_text()
    assert f"-r envs/{ADDED}/../pipeline.in" in lock and ".new-" not in lock
    code = f"repos/{ADDED}"
    tools = checks.TOOLS
    subprocess.run([tools / "ruff", "check", code], cwd=checkout, check=True)
    subprocess.run([tools / "ruff", "format", "--check", code], cwd=checkout, check=True)
    subprocess.run([tools / "mypy", f"--python-executable={python}", code], cwd=checkout, check=True)
    ran(checkout, python, "-m", "pytest", f"{code}/tests")
    loads = f"from repos.{ADDED}.definitions import defs; print(*(job.name for job in defs.jobs))"
    assert ran(checkout, python, "-W", "ignore", "-c", loads).split() == [f"{ADDED}_{end}" for end in JOBS[kind]]
    ran(checkout, Path(sys.executable), "envs/build.py", "lock", ADDED)
    assert (checkout / "envs" / ADDED / "requirements.txt").read_text() == lock, "it is what make lock makes"
    commands.remove(ADDED, lambda line: None)
    assert content(checkout) == before


@pytest.mark.slow
def test_the_site_of_the_documents_takes_a_new_repository_of_each_kind(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_lock", lambda wanted, place, say: (place / "requirements.txt").touch())
    for kind in commands.KINDS:
        new(name=f"{kind}_added", kind=kind)
    command = checks.commands()["site"]
    said = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False).stderr
    assert "_added" not in said


TAKEN = next(iter(repositories()))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"owner": "team"}, "OWNER: expected a person or a team as CODEOWNERS names them, @org/team, got 'team'"),
        ({"owner": ""}, "OWNER: expected a person or a team as CODEOWNERS names them, @org/team, got nothing"),
        ({"owner": '@org/a"\n'}, "OWNER: expected"),
        ({"name": ""}, "NAME: expected small letters, digits and _, a letter first, got nothing"),
        ({"name": "New-One"}, "NAME: expected small letters, digits and _, a letter first, got 'New-One'"),
        ({"name": "../x"}, "NAME: expected small letters"),
        ({"name": "lambda"}, "NAME: expected no word of Python's, got 'lambda'"),
        ({"name": f"{ADDED}2"}, "NAME: expected at most 30 characters"),
        ({"name": TAKEN}, f"NAME: repos/{TAKEN} is there already: choose another name than {TAKEN}"),
        ({"name": "platform"}, "NAME: envs/platform is there already: choose another name than platform"),
        ({"name": "conftest"}, "NAME: repos/conftest.py is there already"),
        ({"name": "dagit"}, "NAME: 'dagit' is a word of the code already ("),
        ({"framework": "jax"}, "FRAMEWORK: expected one of none, sklearn, torch, tensorflow, got 'jax'"),
        ({"kind": "sort"}, "KIND: expected one of search, ranker, data, got 'sort'"),
        ({"kind": "data", "framework": "torch"}, "FRAMEWORK: expected none, as KIND=data has no model, got 'torch'"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(fields: dict[str, str], said: str) -> None:
    with pytest.raises(RepositoryError) as told:
        wanted(**fields).check()
    assert str(told.value).startswith(said)


def fails(checkout: Path, add: Callable[[], object]) -> str:
    """What is said of a repository that cannot be added; the checkout is as it was."""
    before = content(checkout)
    with pytest.raises((RepositoryError, OSError)) as told:
        add()
    assert content(checkout) == before
    assert not [*checkout.glob("*/.new-*")]
    return str(told.value)


def test_a_lock_that_fails_leaves_the_checkout_as_it_was(checkout: Path) -> None:
    with (checkout / "envs" / "serving.in").open("a") as file:
        file.write("dagster==1.0.0  # not what envs/constraints.txt says\n")
    said = fails(checkout, new)
    assert said.startswith(f"The lock of {ADDED} cannot be made; nothing was changed:\n") and "dagster==1.0.0" in said


def failing_at(step: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the disk be full when a step is gone for this many times."""
    real, calls = getattr(commands, step), []

    def full(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == number:
            raise OSError("No space left on device")
        real(*arguments)

    monkeypatch.setattr(commands, step, full)


@pytest.mark.parametrize(("step", "number"), [("_move_files", 2), ("_change_list", 1)])
def test_a_failure_at_the_last_moment_leaves_the_checkout_as_it_was(
    checkout: Path, step: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_lock", lambda wanted, place, say: (place / "requirements.txt").touch())
    failing_at(step, number, monkeypatch)
    assert fails(checkout, new) == "No space left on device"


@pytest.mark.parametrize(("step", "number"), [("_move_files", 2), ("_change_list", 1)])
def test_a_repository_that_cannot_be_removed_stays_whole(
    checkout: Path, step: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(step, number, monkeypatch)
    assert fails(checkout, partial(remove, settings.search_families()[0])) == "No space left on device"


def test_an_environment_that_another_repository_uses_stays(checkout: Path) -> None:
    one, other = settings.search_families()[:2]
    used = [repositories()[name].environment for name in (one, other)]
    text = (checkout / LIST).read_text()
    (checkout / LIST).write_text(text.replace(f'environment = "{used[1]}"', f'environment = "{used[0]}"'))
    remove(one)
    assert not (checkout / "repos" / one).exists() and (checkout / "envs" / used[0] / "requirements.txt").exists()
    remove(other)
    assert not (checkout / "envs" / used[0]).exists() and other not in repositories()


def test_what_a_killed_one_left_beside_is_no_hindrance(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "repos" / f".new-{ADDED}").mkdir()
    (checkout / "repos" / f".new-{ADDED}" / "left").touch()
    (checkout / "envs" / ADDED / ".venvs").mkdir(parents=True)  # of one that was removed, and is needed still
    monkeypatch.setattr(commands, "_lock", lambda wanted, place, say: (place / "requirements.txt").touch())
    new()
    assert not (checkout / "repos" / ADDED / "left").exists() and (checkout / "repos" / ADDED / "model.py").exists()
    commands.remove(ADDED, lambda line: None)
    assert [path.name for path in (checkout / "envs" / ADDED).iterdir()] == [".venvs"]


def test_what_a_stack_cannot_be_without_is_not_removed(checkout: Path) -> None:
    roles = [repository.role for repository in repositories().values()]
    for name, repository in repositories().items():
        if roles.count(repository.role) == 1:
            assert f"[{name}] is the only repository with the role" in fails(checkout, partial(remove, name))
    assert "NAME: expected one of " in fails(checkout, partial(remove, "nosuch"))


def remove(name: str) -> None:
    commands.remove(name, lambda line: None)


def test_an_entry_goes_without_a_trace_wherever_it_stands() -> None:
    text = (ROOT / LIST).read_text()
    assert without(text + wanted().entry(), ADDED) == text
    for name, repository in listed(text).items():
        left = without(text, name)
        assert listed(left) == {each: entry for each, entry in listed(text).items() if entry != repository}
        assert left.endswith("\n") and "\n\n\n" not in left and left.startswith(text[:100])
