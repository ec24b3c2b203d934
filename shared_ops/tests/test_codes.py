"""The code that a release runs with is kept by its hash, and read back only as it was kept."""

import hashlib
import os
import re
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared_ops import settings
from shared_ops.data import storage, tables
from shared_ops.data.feedback import TABLES, FeedbackManifest, FeedbackRef, Feedbacks
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release import codes, runtimes
from shared_ops.release.codes import CodeError
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.release.runtimes import Runtime, RuntimeMissingError
from shared_ops.settings import ROOT, Settings, python_of

MODEL = "repos/keyword/model.py"


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def keep(here: Settings, family: str = "keyword", **changed: bytes) -> str:
    """Keep a family's code, with other content in the `changed` files; returns its hash."""
    content = codes.tree(family) | {name.replace("__", "/") + ".py": text for name, text in changed.items()}
    return codes.keep(here.code_url, content)


def fetch(here: Settings, name: str) -> Path:
    return codes.fetch(here.code_url, name, here.home / "cache" / "code")


def test_what_trains_a_family_is_named_without_what_serves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content, versions = codes.tree("keyword"), []
    for changed in ({}, {"services/web.py": b""}, {"repos/keyword/stop_words.txt": b""}):
        monkeypatch.setattr(codes, "running_code", lambda _, changed=changed: content | changed)
        versions.append(codes.code_version("keyword"))
    assert versions[0] == versions[1] != versions[2]


def test_a_tree_holds_what_serves_a_release_and_no_tests() -> None:
    names = set(codes.tree("keyword"))
    assert {
        "repos/keyword/model.py",
        "repos/keyword/stop_words.txt",
        "shared_ops/src/shared_ops/release/codes.py",
    } <= names
    assert {"services/web.py", "services/prediction/app.py", "repos/__init__.py"} <= names
    assert not [name for name in names if "test" in name or name.startswith(("services/search", "repos/semantic"))]


def test_what_an_editor_leaves_beside_the_sources_is_no_code() -> None:
    leftovers = (".model.py.swp", "model.py~", ".DS_Store")
    assert not any(codes._belongs(Path("repos/keyword") / name) for name in leftovers)
    assert codes._belongs(Path("repos/keyword/model.py"))


def test_what_others_change_is_another_family_s_business(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {family: codes.present(family) for family in ("keyword", "semantic")}
    listed = (ROOT / "repos" / "repos.toml").read_text().replace('queue = "semantic"', 'queue = "other"')
    monkeypatch.setattr(settings, "repositories", lambda: settings.listed(listed))
    monkeypatch.setattr(codes, "repositories", lambda: settings.listed(listed))
    assert codes.present("keyword") == before["keyword"] and codes.present("semantic") != before["semantic"]


def test_its_entry_is_that_of_the_list_alone() -> None:
    entry = tomllib.loads(codes.tree("behavior")[codes.ENTRY].decode())
    assert entry == {"behavior": tomllib.loads((ROOT / "repos" / "repos.toml").read_text())["behavior"]}


def test_it_is_read_back_as_it_was_kept(here: Settings) -> None:
    name = keep(here)
    folder = fetch(here, name)
    assert (folder / "repos/keyword/model.py").read_bytes() == (ROOT / "repos/keyword/model.py").read_bytes()
    assert keep(here) == name and keep(here, repos__keyword__model=b"changed = 1\n") != name


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_what_is_not_as_it_was_kept_is_not_run(here: Settings, change: str) -> None:
    name = keep(here)
    damage(storage.local_path(here.code_url) / name, change)
    with pytest.raises(CodeError, match="is not what was kept there"):
        fetch(here, name)


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_a_copy_that_is_not_what_it_should_be_is_made_anew(here: Settings, change: str) -> None:
    name = keep(here)
    damage(fetch(here, name), change)
    folder = fetch(here, name)
    assert (folder / "repos/keyword/model.py").read_bytes() == (ROOT / "repos/keyword/model.py").read_bytes()
    assert not (folder / "repos/keyword/new.py").exists()


def test_a_copy_that_has_not_changed_is_read_once_for_a_process(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = keep(here)
    folder = fetch(here, name)
    monkeypatch.setattr(codes, "digest", lambda content: pytest.fail("its files are read once more"))
    assert fetch(here, name) == folder


@pytest.mark.parametrize("change", ["changed", "removed", "added", "half removed"])
def test_a_tree_that_is_damaged_in_the_store_is_mended_by_the_next_training(here: Settings, change: str) -> None:
    name = keep(here)
    store = storage.local_path(here.code_url) / name
    damage(store, change.removeprefix("half "))
    if change == "half removed":
        (store / codes.TREE).unlink()
    assert keep(here) == name
    folder = fetch(here, name)
    assert (folder / "repos/keyword/model.py").read_bytes() == (ROOT / "repos/keyword/model.py").read_bytes()


def loaded_by(folder: Path, meanwhile: str) -> subprocess.CompletedProcess[str]:
    """The ended process that loads the code in `folder` after it has run the statement `meanwhile`."""
    code = (
        "import os, sys, time\nfrom shared_ops.release import codes\n"
        f"model = codes.ROOT / {MODEL!r}\n{meanwhile}\n"
        "codes.running_code('keyword')  # as a code server, which goes no further\n"
        "codes.running_code('keyword')"
    )
    time.sleep(0.2)  # more than the clocks' steps
    paths = os.pathsep.join([str(folder), str(folder / "shared_ops" / "src")])
    variables = os.environ | {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, text=True, capture_output=True, check=False
    )


def test_a_run_whose_code_was_saved_while_it_was_loaded_makes_no_release(here: Settings) -> None:
    folder = fetch(here, keep(here))
    old = "os.utime(model, (0, 0))"  # as where a file that was written long ago is put in its place
    for saved in ("model.write_text('changed = 1')", f"model.write_text('changed = 1'); {old}"):
        done = loaded_by(folder, saved)
        assert f"{MODEL}: saved while this process loaded its code. Start the run again." in done.stderr


def test_a_process_knows_when_it_started() -> None:
    before = time.time()
    command = [sys.executable, "-c", "from shared_ops.release import codes; print(codes._began())"]
    began = float(subprocess.run(command, text=True, capture_output=True, check=True).stdout)
    assert before - codes.CLOCK_SECONDS < began < time.time()


def test_code_that_was_saved_before_or_that_states_a_time_to_come_is_run(here: Settings) -> None:
    folder = fetch(here, keep(here))
    os.utime(folder / MODEL, (2**32, 2**32))
    assert loaded_by(folder, "").returncode == 0
    put_back = "model.touch(); codes.time.time = lambda: 0"
    assert loaded_by(folder, put_back).returncode == 0, "what the clock says of before tells nothing"


def damage(folder: Path, change: str) -> None:
    file = folder / "repos" / "keyword" / ("new.py" if change == "added" else "model.py")
    if change == "removed":
        file.unlink()
    else:
        file.write_text("changed = 1\n")


def test_code_that_is_not_kept_is_told(here: Settings) -> None:
    with pytest.raises(CodeError, match=r"abc is not in .*Train the release again"):
        fetch(here, "abc")


def test_a_python_told_of_kept_code_imports_that_and_nothing_of_the_checkout(here: Settings) -> None:
    name = keep(here, repos__keyword__mark=b"MARK = 'kept'\n", shared_ops__src__shared_ops__mark=b"MARK = 'kept'\n")
    runtime = Runtime("keyword", name, "")
    code = (
        "import repos.keyword.mark as m, shared_ops.mark as s, shared_ops.settings as t; print(m.MARK, s.MARK, t.ROOT)"
    )
    command, variables = [sys.executable, "-c", code], runtime.variables(here)
    done = subprocess.run(command, cwd=ROOT, env=variables, text=True, capture_output=True, check=True)
    assert done.stdout == f"kept kept {runtime.folder(here)}\n"
    assert fetch(here, name) == runtime.folder(here), "what running it left behind is no change"


def test_kept_code_reads_what_was_published_though_its_list_names_its_family_alone(
    here: Settings, snapshot: SnapshotRef, empty_feedback: FeedbackRef
) -> None:
    """A release's worker runs in this way, and so does the process in which a champion answers."""
    runtime = runtimes.keep("keyword", codes.tree("keyword"), here)
    code = f"""
from shared_ops.data.feedback import Feedback, FeedbackRef
from shared_ops.data.snapshots import SnapshotRef, load
from shared_ops.settings import repositories
print(list(repositories()), len(load(SnapshotRef(id={snapshot.id!r}, url={snapshot.url!r})).documents()))
print(Feedback(FeedbackRef(id={empty_feedback.id!r}, url={empty_feedback.url!r})).manifest().watermark)
"""
    command, variables = [sys.executable, "-c", code], runtime.variables(here)
    done = subprocess.run(command, cwd=ROOT, env=variables, text=True, capture_output=True, check=True)
    assert done.stdout == "['keyword'] 8\n1\n"


@pytest.fixture
def empty_feedback(tmp_path: Path) -> FeedbackRef:
    content = {name: tables.empty(name) for name in TABLES}
    manifest = FeedbackManifest(
        applications={}, left_out={}, propensities=[1.0], held_back_sessions=0, oldest=None, newest=None, watermark=1
    )
    return Feedbacks((tmp_path / "feedback").as_uri()).publish(content, manifest)


def test_each_pair_of_code_and_environment_has_a_worker_of_its_own(here: Settings) -> None:
    pairs = [Runtime("keyword", code, lock) for code in ("a", "b") for lock in ("c", "d")]
    assert len({pair.worker for pair in pairs}) == len({pair.socket(here) for pair in pairs}) == 4
    assert all(pair.worker.startswith("keyword-") for pair in pairs)


def test_the_environment_is_found_by_its_lock(here: Settings) -> None:
    runtime = runtimes.keep("keyword", codes.tree("keyword"), here)
    assert runtime.environment == hashlib.sha256((ROOT / "envs/keyword/requirements.txt").read_bytes()).hexdigest()
    own = python_of("platform")  # the one environment that is surely here
    assert Runtime("keyword", runtime.code, str(runtimes.made_from(own.parents[1]))).python(here) == own
    with pytest.raises(RuntimeMissingError, match="No environment here is made from the lock 0123"):
        Runtime("keyword", runtime.code, "0123").python(here)


def test_an_environment_of_another_lock_is_made_again_from_the_one_that_was_kept(here: Settings) -> None:
    requirements = (ROOT / "envs" / "search" / "requirements.txt").read_text()
    lock = re.search(r"^idna==(?:.*\\\n)+.*\n", requirements, re.MULTILINE)[0].encode()
    name = hashlib.sha256(lock).hexdigest()
    for file, content in (("requirements.txt", lock), ("python-version", b"3.11\n")):
        storage.write_atomic(storage.join(here.locks_url, name, file), content)
    runtime = Runtime("keyword", "c", name)
    python = runtime.provide(here)
    assert python.is_relative_to(here.home / "environments")
    subprocess.run([python, "-c", "import idna"], check=True)
    created = python.stat().st_ctime
    assert runtime.provide(here) == runtime.python(here) == python and python.stat().st_ctime == created


def test_what_no_release_names_is_removed_a_day_after_it_was_last_trained_with(
    here: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed, unneeded = keep(here), keep(here, repos__keyword__mark=b"MARK = 1")
    for name in ("needed", "unneeded"):
        storage.write_atomic(storage.join(here.locks_url, name, runtimes.LOCK), b"")
    folder = tmp_path / "release"
    folder.mkdir()
    manifest = ReleaseManifest(
        family="keyword", version="v1", created_at=datetime.now(UTC), snapshot=SnapshotRef(id="s", url="file:///s"),
        parameters={}, hyperparameters={}, metrics={}, gate={}, environment="needed", code=needed, code_version="",
        deployment="dev", run_id="r",
    )  # fmt: skip
    Staging(here.staging_url("dev")).publish(folder, manifest)
    assert runtimes.tidy(here) == [], "a training that is under way names them at its end"
    monkeypatch.setattr(runtimes, "KEPT_SECONDS", -1)
    assert set(runtimes.tidy(here)) == {unneeded, "unneeded"}
    assert storage.names(here.code_url) == [needed] and storage.names(here.locks_url) == ["needed"]


def test_what_is_killed_while_it_removes_leaves_nothing_that_counts_as_kept(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = keep(here)
    monkeypatch.setattr(runtimes, "KEPT_SECONDS", -1)
    removed: list[str] = []
    monkeypatch.setattr(storage, "remove", removed.append)
    runtimes.tidy(here)
    assert removed == [storage.join(here.code_url, name, codes.TREE), storage.join(here.code_url, name)]


def test_where_a_manifest_cannot_be_read_nothing_is_removed(
    here: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = keep(here)
    monkeypatch.setattr(runtimes, "KEPT_SECONDS", -1)
    url = Staging(here.staging_url("prod")).release_url("keyword", "v1")
    storage.write_atomic(storage.join(url, "manifest.json"), b"{")
    assert runtimes.tidy(here) == [] and storage.names(here.code_url) == [name]
    assert "No code and no lock is removed: Release keyword/v1" in caplog.text


def test_what_makes_an_environment_again_gives_way_to_what_answers(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (runtimes.LOCK, runtimes.PYTHON):
        storage.write_atomic(storage.join(here.locks_url, "lock", file), b"")
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(RuntimeMissingError, match="no network"):
        Runtime("keyword", "c", "lock").provide(here)
    assert ran[0][:3] == ["nice", "-n", "10"]


def test_a_lock_that_cannot_be_installed_is_told(here: Settings) -> None:
    lock = b"no-such-package-anywhere==1.0 --hash=sha256:" + b"0" * 64 + b"\n"
    name = hashlib.sha256(lock).hexdigest()
    for file, content in (("requirements.txt", lock), ("python-version", b"3.11\n")):
        storage.write_atomic(storage.join(here.locks_url, name, file), content)
    with pytest.raises(RuntimeMissingError, match=r"(?s)could not be made again from the lock .*no-such-package"):
        Runtime("keyword", "c", name).provide(here)
