"""When a lock is stale, and when an environment is made again."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Never

import pytest

from deploy import environments
from shared_ops.data import storage
from shared_ops.release import runtimes
from shared_ops.settings import Settings
from tests.conftest import made_in


def stale(build: ModuleType) -> set[str]:
    return {lock.name for lock in build.locks() if lock.stale()}


def test_the_locks_that_are_committed_are_fresh(build: ModuleType) -> None:
    assert stale(build) == set()


def test_a_new_requirement_makes_its_lock_stale(build: ModuleType) -> None:
    with (build.ENVS / "search" / "requirements.in").open("a") as file:
        file.write("flask\n")
    assert stale(build) == {"envs/search/requirements.txt"}


def test_a_shared_requirement_makes_the_locks_that_include_it_stale(build: ModuleType) -> None:
    with (build.ENVS / "serving.in").open("a") as file:
        file.write("flask\n")
    assert "envs/light/requirements.txt" not in stale(build)
    assert {"envs/search/requirements.txt", "envs/ranker/requirements-gpu.txt"} <= stale(build)


def test_a_shared_version_makes_every_lock_stale(build: ModuleType) -> None:
    with (build.ENVS / "constraints.txt").open("a") as file:
        file.write("flask<4\n")
    assert stale(build) == {lock.name for lock in build.locks()}


def test_another_python_makes_its_lock_stale(build: ModuleType) -> None:
    (build.ENVS / "search" / ".python-version").write_text("3.12\n")
    assert stale(build) == {"envs/search/requirements.txt"}


def test_a_comment_does_not(build: ModuleType) -> None:
    path = build.ENVS / "search" / "requirements.in"
    path.write_text("# Another word on it.\n\n" + path.read_text().replace("jinja2", "jinja2   # the page, really"))
    assert stale(build) == set()


def test_nothing_is_made_from_a_stale_lock(build: ModuleType) -> None:
    with (build.ENVS / "search" / "requirements.in").open("a") as file:
        file.write("flask\n")
    with pytest.raises(build.BuildError, match=r"envs/search/requirements.txt: stale.*make lock"):
        build.sync(["search"])


@pytest.mark.slow
def test_a_stale_lock_is_made_anew_as_the_message_says_and_no_other(build: ModuleType) -> None:
    with (build.ENVS / "keyword" / "requirements.in").open("a") as file:
        file.write("packaging\n")  # which others need already
    with pytest.raises(build.BuildError, match=r"has changed since: make lock$"):
        build.sync(["keyword"])
    others = {lock.name: lock.target.read_bytes() for lock in build.locks() if not lock.stale()}
    build.compile_locks(["keyword"])
    assert stale(build) == set()
    assert others == {lock.name: lock.target.read_bytes() for lock in build.locks() if lock.name in others}


def test_a_lock_names_no_index(build: ModuleType) -> None:
    for lock in build.locks():
        assert "://" not in lock.target.read_text()


def test_a_lock_changed_by_hand_is_told(build: ModuleType) -> None:
    lock = build.lock_of("search")
    held = build._pins(lock.target.read_text())
    name = next(iter(held))
    without = {key: hashes for key, hashes in held.items() if key != name}
    assert name in build._difference(held, without)
    assert name in build._difference(held, {**held, name: {"--hash=sha256:0"}})
    assert build._difference(held, {**held, name: held[name] | {"--hash=sha256:0"}}) is None


def test_torch_is_the_cpu_build_unless_asked_otherwise(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEARCHLOOP_TORCH", raising=False)
    assert build.lock_of("ranker").name == "envs/ranker/requirements.txt"
    monkeypatch.setenv("SEARCHLOOP_TORCH", "gpu")
    assert build.lock_of("ranker").name == "envs/ranker/requirements-gpu.txt"
    assert build.lock_of("keyword").name == "envs/keyword/requirements.txt"
    monkeypatch.setenv("SEARCHLOOP_TORCH", "tpu")
    with pytest.raises(build.BuildError, match="expected cpu or gpu"):
        build.lock_of("ranker")


def test_an_environment_that_was_copied_from_another_checkout_is_not_made(build: ModuleType) -> None:
    here = build._folder("search")
    made_in(here, build._stamped("search"))
    build._point(build._link("search"), here)
    assert build._is_made("search")
    build.check_place("search")
    elsewhere = build._stamped("search").replace(str(build.ROOT), "/another/checkout")
    (here / "made-from.txt").write_text(elsewhere)
    assert not build._is_made("search")
    with pytest.raises(build.BuildError, match=r"made in another place, and point to it still: make envs"):
        build.check_place("search")


def test_a_checkout_without_environments_says_what_makes_them(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match="There are no environments yet: make up makes them"):
        build.check_place("platform")


def test_an_empty_choice_of_torch_is_none(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHLOOP_TORCH", "")
    assert build.lock_of("ranker").name == "envs/ranker/requirements.txt"


def test_an_environment_whose_lock_has_changed_is_made_beside_the_one_of_before_which_stays(build: ModuleType) -> None:
    """What runs from it may still import, and releases may need it: a stack's start removes it once nothing does."""
    before = build._folder("search")
    made_in(before, build._stamped("search"))
    build._point(build._link("search"), before)
    lock = build.lock_of("search").target
    lock.write_text(f"{lock.read_text()}# changed\n")
    after = build._folder("search")
    assert after != before and not build._is_made("search")
    with pytest.raises(build.BuildError, match=r"The lock of search has changed .*: make envs"):
        build.check_place("search")
    made_in(after, build._stamped("search"))
    assert build._make("no uv", "search") is None
    assert build._is_made("search") and build._link("search").resolve() == after and before.exists()


def test_an_environment_whose_python_is_gone_is_made_again(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, ran = build._folder("search"), []
    made_in(folder, build._stamped("search"))
    build._point(build._link("search"), folder)
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/no/such/python")
    assert not build._is_made("search")
    with pytest.raises(build.BuildError, match="is not on this machine any more: make envs"):
        build.check_place("search")

    def killed(command: list[str], *_: object) -> Never:
        ran.append(command)
        raise build.BuildError("killed")

    monkeypatch.setattr(build, "_run", killed)
    assert build._make("uv", "search") == "search: killed"
    assert "venv" in ran[0] and not (folder / "made-from.txt").exists(), "what is killed in between is not made"


def test_what_is_wrong_is_listed_with_the_command_that_mends_it(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in build.environments():
        made_in(build._folder(name), build._stamped(name))
        build._point(build._link(name), build._folder(name))
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\necho uv 0.13.9\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(uv.parent))
    assert build.problems() == []
    with (build.ENVS / "keyword" / "requirements.in").open("a") as file:
        file.write("flask\n")
    with build.lock_of("light").target.open("a") as file:
        file.write("# changed\n")
    build._link("search").unlink()
    uv.write_text("#!/bin/sh\necho uv 0.1.0\n")
    assert build.problems() == [
        "envs/keyword/requirements.txt is stale, what is asked for has changed since it was made: make lock",
        "The lock of light has changed since its environment was made: make envs",
        "the environment search is not made: make envs",
        "no uv of version 0.9 or newer is here to make environments: make check installs one",
    ]


def test_a_list_of_repositories_that_cannot_be_read_is_told_before_any_command(build: ModuleType) -> None:
    """What every command of the Makefile begins with, `make doctor` too."""
    (build.ROOT / "repos" / "repos.toml").write_text("[corpus\n")
    command = [sys.executable, str(build.ENVS / "build.py"), "place", "platform"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode and re.match(r"repos/repos.toml cannot be read: .*line 1.*Mend it there\.$", done.stderr)


def test_an_environment_that_is_made_again_is_made_once_and_whole(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ran = tmp_path / "again", []
    made_in(folder, "made")
    monkeypatch.setattr(build, "find_uv", lambda: "uv")
    monkeypatch.setattr(build, "_run", lambda command, *_: ran.append(command))
    build.make_again(build.lock_of("search").target, "3.11", folder)
    assert not ran
    (folder / "bin" / "python").unlink()
    build.make_again(build.lock_of("search").target, "3.11", folder)
    assert [command[1] for command in ran] == ["venv", "pip"] and (folder / "made-from.txt").exists()


def test_an_environment_of_before_they_lay_beside_each_other_gives_way(build: ModuleType) -> None:
    made_in(build._link("search"), "made")
    made_in(build._folder("search"), build._stamped("search"))
    build._point(build._link("search"), build._folder("search"))
    assert build._is_made("search") and build._link("search").is_symlink()


def test_what_makes_an_environment_again_does_not_hang_for_ever(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match=r"sleep 60 was ended after 0.1 s"):
        build._run(["sleep", "60"], seconds=0.1)


def placed(envs: Path) -> str:
    """What every command says first of an environment that it cannot run in; nothing of one that it can."""
    command = [sys.executable, str(envs / "build.py"), "place", "search"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.mark.slow
def test_an_environment_is_made_once_in_each_place(build: ModuleType, tmp_path: Path) -> None:
    assert "There are no environments yet: make up makes them" in placed(build.ENVS)
    command = [sys.executable, str(build.ENVS / "build.py"), "sync", "search"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "search    made" in first.stdout and placed(build.ENVS) == ""
    python = build.ENVS / "search" / ".venv" / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import shared_ops; print(shared_ops.__file__)"], capture_output=True, text=True, check=True
    )
    assert str(build.ROOT) in where.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == ""
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("envs", "shared_ops", "repos"):
        (build.ROOT / name).rename(moved / name)
    assert "were made in another place, and point to it still: make envs" in placed(moved / "envs")
    there = [sys.executable, str(moved / "envs" / "build.py"), "sync", "search"]
    assert "search    made" in subprocess.run(there, capture_output=True, text=True, check=True).stdout
    assert placed(moved / "envs") == ""
    scripts = moved / "envs" / "search" / ".venv" / "bin"
    where = subprocess.run(
        [scripts / "python", "-c", "import shared_ops; print(shared_ops.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(moved) in where.stdout
    assert str(moved) in (scripts / "uvicorn").read_text().partition("import")[0]  # a long path is not after "#!"


def test_make_envs_alone_has_removed_what_git_has_no_more_and_says_what_comes_next(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not `make up`, which starts processes first and may fail before; nor what makes environments by the way."""
    asked = []
    monkeypatch.setattr(build, "sync", lambda names: True)
    monkeypatch.setattr(build.subprocess, "run", lambda command, **_: asked.append(command[-1]))
    for arguments in (["sync", "search"], ["sync"], ["sync", "--alone"]):
        monkeypatch.setattr(sys, "argv", ["build.py", *arguments])
        build.main()
    assert asked == ["deploy.environments"]
    next_line = "make up starts what is new: the stack, or in a running one what repos/repos.toml has gained\n"
    assert capsys.readouterr().out == next_line


def environment(folder: Path) -> Path:
    """An environment as it was made, in a folder of envs/ that holds nothing else."""
    (folder / ".venvs" / "made" / "bin").mkdir(parents=True)
    (folder / ".venvs" / "made" / "bin" / "python").symlink_to(sys.executable)
    (folder / ".venvs" / "made" / runtimes.STAMP).touch()
    (folder / ".venvs" / "made" / runtimes.LOCK).write_text("its lock")
    return folder


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is left of an environment that git has no more."""
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    return environment(tmp_path / "envs" / f"gone-{tmp_path.name}")


def home(tmp_path: Path, name: str) -> Settings:
    return Settings(home=tmp_path / name, staging=None)


def removed(settings: Settings) -> list[str]:
    """What is said of what is left."""
    said: list[str] = []
    environments.remove_left(settings, said.append)
    return said


def test_what_git_has_no_more_is_known_by_what_it_holds(gone: Path, tmp_path: Path) -> None:
    (gone.parent / "linked").mkdir()
    (gone.parent / "linked" / ".venv").symlink_to("gone")
    stay = [environment(gone.parent / name) for name in ("in_git", "own")]
    (stay[0] / "requirements.in").touch()
    (stay[1] / "notes").touch()
    (gone.parent / "empty").mkdir()
    assert [line.split()[0] for line in removed(home(tmp_path, "home"))] == [gone.name, "linked"]
    assert sorted(folder.name for folder in gone.parent.iterdir()) == ["empty", "in_git", "own"]


def test_what_is_left_stays_while_a_process_runs_from_it_and_then_goes(gone: Path, tmp_path: Path) -> None:
    settings = home(tmp_path, "home")
    with subprocess.Popen(
        [gone / ".venvs" / "made" / "bin" / "python", "-c", "input()"], stdin=subprocess.PIPE
    ) as running:
        (said,) = removed(settings)
        running.communicate(b"\n")
    assert gone.exists() and said.endswith("a process runs from it. Once it has ended: make envs")
    (said,) = removed(settings)
    assert not gone.exists() and said.endswith("removed: git has it no more")


@pytest.mark.parametrize("whose", ["one", "another"])
def test_what_is_left_stays_as_long_as_any_stack_keeps_a_release_that_was_made_in_it(
    gone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    lock = gone / ".venvs" / "made" / runtimes.LOCK
    (lock.parent / runtimes.PYTHON).write_text("3.11")
    monkeypatch.setattr(runtimes, "environment_lock", lambda _: storage.sha256(lock))
    monkeypatch.setattr(runtimes, "lock_file", lambda _: lock)
    keeps = home(tmp_path, whose)
    kept = runtimes.keep("keyword", {"model.py": b""}, keeps)
    (said,) = removed(home(tmp_path, "one"))
    assert gone.exists() and said.endswith(f"with its lock in {keeps.locks_url}. Once none is: make envs")
    storage.remove(storage.join(keeps.locks_url, kept.environment))
    removed(home(tmp_path, "one"))
    assert not gone.exists()


def test_a_store_that_cannot_be_asked_may_keep_it(gone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gone / ".venvs" / "made" / runtimes.KEPT_IN).write_text("nosuch://bucket/locks\n")
    (said,) = removed(home(tmp_path, "home"))
    assert gone.exists() and "nosuch://bucket/locks" in said
