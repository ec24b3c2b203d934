"""When a lock is stale, and when an environment is made again."""

import importlib.util
import shutil
import subprocess
import sys

import pytest

from shared_ops.settings import ROOT


@pytest.fixture
def build(tmp_path):
    """envs/build.py of a copy of the environments' files."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns(".venv", ".venvs", ".uv"))
    shutil.copytree(ROOT / "shared_ops", tmp_path / "shared_ops", ignore=shutil.ignore_patterns("tests"))
    spec = importlib.util.spec_from_file_location("build", tmp_path / "envs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["build"]


def stale(build):
    return {lock.name for lock in build.locks() if lock.stale()}


def test_the_locks_that_are_committed_are_fresh(build):
    assert stale(build) == set()


def test_a_new_requirement_makes_its_lock_stale(build):
    with (build.ENVS / "search" / "requirements.in").open("a") as file:
        file.write("flask\n")
    assert stale(build) == {"envs/search/requirements.txt"}


def test_a_shared_requirement_makes_the_locks_that_include_it_stale(build):
    with (build.ENVS / "serving.in").open("a") as file:
        file.write("flask\n")
    assert "envs/corpus/requirements.txt" not in stale(build)
    assert {"envs/search/requirements.txt", "envs/ranker/requirements-gpu.txt"} <= stale(build)


def test_a_shared_version_makes_every_lock_stale(build):
    with (build.ENVS / "constraints.txt").open("a") as file:
        file.write("flask<4\n")
    assert stale(build) == {lock.name for lock in build.locks()}


def test_another_python_makes_its_lock_stale(build):
    (build.ENVS / "search" / ".python-version").write_text("3.12\n")
    assert stale(build) == {"envs/search/requirements.txt"}


def test_a_comment_does_not(build):
    path = build.ENVS / "search" / "requirements.in"
    path.write_text("# Another word on it.\n\n" + path.read_text().replace("jinja2", "jinja2   # the page, really"))
    assert stale(build) == set()


def test_nothing_is_made_from_a_stale_lock(build):
    with (build.ENVS / "search" / "requirements.in").open("a") as file:
        file.write("flask\n")
    with pytest.raises(build.BuildError, match=r"envs/search/requirements.txt: stale.*make lock"):
        build.sync(["search"])


def test_a_lock_names_no_index(build):
    for lock in build.locks():
        assert "://" not in lock.target.read_text()


def test_a_lock_changed_by_hand_is_told(build):
    lock = build.lock_of("search")
    held = build._pins(lock.target.read_text())
    name = next(iter(held))
    without = {key: hashes for key, hashes in held.items() if key != name}
    assert name in build._difference(held, without)
    assert name in build._difference(held, {**held, name: {"--hash=sha256:0"}})
    assert build._difference(held, {**held, name: held[name] | {"--hash=sha256:0"}}) is None


def test_torch_is_the_cpu_build_unless_asked_otherwise(build, monkeypatch):
    monkeypatch.delenv("SEARCHLOOP_TORCH", raising=False)
    assert build.lock_of("ranker").name == "envs/ranker/requirements.txt"
    monkeypatch.setenv("SEARCHLOOP_TORCH", "gpu")
    assert build.lock_of("ranker").name == "envs/ranker/requirements-gpu.txt"
    assert build.lock_of("keyword").name == "envs/keyword/requirements.txt"
    monkeypatch.setenv("SEARCHLOOP_TORCH", "tpu")
    with pytest.raises(build.BuildError, match="expected cpu or gpu"):
        build.lock_of("ranker")


def made_in(folder, text):
    """An environment that says what it was made from, and where."""
    folder.mkdir(parents=True)
    (folder / "made-from.txt").write_text(text)
    (folder / "requirements.txt").touch()


def test_an_environment_that_was_copied_from_another_checkout_is_not_made(build):
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


def test_a_checkout_without_environments_says_what_makes_them(build):
    with pytest.raises(build.BuildError, match="There are no environments yet: make up makes them"):
        build.check_place("platform")


def test_an_empty_choice_of_torch_is_none(build, monkeypatch):
    monkeypatch.setenv("SEARCHLOOP_TORCH", "")
    assert build.lock_of("ranker").name == "envs/ranker/requirements.txt"


def test_an_environment_whose_lock_has_changed_is_made_beside_the_one_that_processes_run_from(build):
    """What they have still to import must not change under them; what nothing runs from any more is removed."""
    before, idle = build._folder("search"), build.ENVS / "search" / ".venvs" / "idle"
    for folder in (before, idle):
        made_in(folder, "made")
    build._point(build._link("search"), before)
    (before / "bin").mkdir()
    (before / "bin" / "python").symlink_to(sys.executable)
    with subprocess.Popen([before / "bin" / "python", "-c", "input()"], stdin=subprocess.PIPE) as running:
        lock = build.lock_of("search").target
        lock.write_text(f"{lock.read_text()}# changed\n")
        after = build._folder("search")
        assert after != before and not build._is_made("search")
        made_in(after, build._stamped("search"))
        build._point(build._link("search"), after)
        assert build._is_made("search")
        build._remove_unused(after)
        assert before.exists() and after.exists() and not idle.exists()
        running.communicate(b"\n")
    build._remove_unused(after)
    assert [folder.name for folder in (build.ENVS / "search" / ".venvs").iterdir()] == [after.name]


def test_an_environment_of_before_they_lay_beside_each_other_gives_way(build):
    made_in(build._link("search"), "made")
    made_in(build._folder("search"), build._stamped("search"))
    build._point(build._link("search"), build._folder("search"))
    assert build._is_made("search") and build._link("search").is_symlink()


@pytest.mark.slow
def test_an_environment_is_made_once_in_each_place(build, tmp_path):
    command = [sys.executable, str(build.ENVS / "build.py"), "sync", "--next", "search"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "search    made" in first.stdout
    assert first.stdout.endswith("make up starts the stack\n")
    python = build.ENVS / "search" / ".venv" / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import shared_ops; print(shared_ops.__file__)"], capture_output=True, text=True, check=True
    )
    assert str(build.ROOT) in where.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == ""
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("envs", "shared_ops"):
        (build.ROOT / name).rename(moved / name)
    there = [sys.executable, str(moved / "envs" / "build.py"), "sync", "search"]
    assert "search    made" in subprocess.run(there, capture_output=True, text=True, check=True).stdout
    scripts = moved / "envs" / "search" / ".venv" / "bin"
    where = subprocess.run(
        [scripts / "python", "-c", "import shared_ops; print(shared_ops.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(moved) in where.stdout
    assert (scripts / "uvicorn").read_text().startswith(f"#!{moved}")
