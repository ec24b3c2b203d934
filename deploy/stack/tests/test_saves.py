"""What is to be done for which changed path; and saves that come together are told together."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from queue import Empty, SimpleQueue
from threading import Event, Thread

import pytest
from dagster._grpc import client

from deploy.stack import saves as saving
from deploy.stack.dagit.client import Dagit
from deploy.stack.processes.lifecycle import StackError
from deploy.stack.processes.listing import environment_variables
from deploy.stack.processes.supervisor import Supervisor
from deploy.stack.saves import LIST_CHANGED, Work, saves, work_for
from deploy.stack.tests.test_supervisor import sleeper, wait_for
from shared_ops.settings import ROOT, Settings, repositories

LISTED = {"first": "light", "second": "heavy", "third": "light"}
"""Locations, with their environments."""
ALL = tuple(LISTED)


@pytest.mark.parametrize(
    ("path", "work"),
    [
        ("repos/first/ops.py", Work(("first",))),
        ("repos/second/readers/table.py", Work(("second",))),
        ("repos/second/stop_words.txt", Work(("second",))),
        ("repos/second/readers", Work(("second",))),
        ("repos/unlisted/ops.py", Work()),
        ("repos/__init__.py", Work(ALL)),
        ("repos/conftest.py", Work()),
        ("shared_ops/src/shared_ops/pipeline/ops.py", Work(ALL)),
        ("shared_ops/tests/test_ops.py", Work()),
        ("shared_ops/README.md", Work()),
        ("shared_ops/pyproject.toml", Work(environments=("light", "heavy"))),
        ("envs/heavy/requirements.txt", Work(environments=("heavy",))),
        ("envs/heavy/requirements.in", Work(environments=("heavy",))),
        ("envs/heavy/requirements-gpu.txt", Work(environments=("heavy",))),
        ("envs/heavy/overrides.txt", Work(environments=("heavy",))),
        ("envs/light/.python-version", Work(environments=("light",))),
        ("envs/constraints.txt", Work(environments=("light", "heavy"))),
        ("envs/pipeline.in", Work(environments=("light", "heavy"))),
        ("envs/build.py", Work()),
        ("envs/README.md", Work()),
        ("envs/light/.venv", Work()),
        ("envs/light/.venv.new", Work()),
        ("envs/light/.venvs/0123/requirements.txt", Work()),
        ("repos/first/tests/test_ops.py", Work()),
        ("repos/first/tests", Work()),
        ("repos/first/README.md", Work()),
        ("repos/first/__pycache__/ops.cpython-311.pyc", Work()),
        ("repos/first/.ops.py.swp", Work()),
        ("repos/first/.ops.py.swx", Work()),
        ("repos/first/ops.py~", Work()),
        ("repos/first/4913", Work()),
        ("repos/first/.#ops.py", Work()),
        ("repos/first/#ops.py#", Work()),
        ("deploy/stack/saves.py", Work()),
        ("services/search/app.py", Work()),
    ],
)
def test_a_path_asks_for_its_own_location_alone(path: str, work: Work) -> None:
    assert work_for([PurePath(path)], LISTED) == work


def test_each_location_is_named_once_in_the_order_of_the_list() -> None:
    paths = [PurePath(f"repos/{name}/{number}.py") for name in ("third", "first") for number in range(50)]
    assert work_for(paths, LISTED) == Work(("first", "third"))
    assert work_for([*paths, PurePath("shared_ops/src/shared_ops/settings.py")], LISTED) == Work(ALL)


def test_what_no_reload_brings_about_is_said() -> None:
    (listed,) = work_for([PurePath("repos/repos.toml")], LISTED).advice
    assert listed.startswith("repos/repos.toml has changed: make up")
    work = work_for([PurePath("envs/search/requirements.txt"), PurePath("envs/search/.python-version")], LISTED)
    assert work == Work(advice=("envs/search has changed, and no location runs in it: make down, then make up",))
    assert work_for([PurePath("envs/removed/requirements.txt")], LISTED) == Work()


class Follower:
    """Follows the saves in a checkout, and takes the next ones when it is free."""

    def __init__(self, root: Path) -> None:
        self.root, self.free = root, Event()
        self.taken: SimpleQueue[set[PurePath]] = SimpleQueue()
        Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        for paths in filter(None, saves(self.root)):
            self.taken.put(paths)
            self.free.wait()

    def save(self, *names: str) -> set[PurePath]:
        for name in names:
            (self.root / name).write_text(f"at {time.monotonic()}")
        return set(map(PurePath, names))

    def next(self, seconds: float = 30) -> set[PurePath] | None:
        """The next paths that were taken; None where there are none in time."""
        try:
            return self.taken.get(timeout=seconds)
        except Empty:
            return None


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    root = tmp_path / "tests" / "checkout"  # where it lies is of no interest
    for folder in ("repos/first/tests", "repos/second", "shared_ops/src/shared_ops", "envs/light/.venvs/0123"):
        (root / folder).mkdir(parents=True)
    (root / "envs/light/requirements.in").touch()
    made = Follower(root)
    made.free.set()
    for probe in ("repos/first/probe.py", "envs/light/.python-version"):  # until it looks there
        while made.save(probe) and not made.next(0.5):
            pass
    while made.next(0.5):
        pass
    return made


def test_a_hundred_files_are_one_change(follower: Follower) -> None:
    saved = follower.save(*(f"repos/{name}/{number}.py" for number in range(50) for name in ("first", "second")))
    assert len(saved) == 100 and follower.next() == saved
    assert follower.next(0.5) is None


def test_what_is_saved_while_a_reload_goes_on_comes_together_in_the_next(follower: Follower) -> None:
    follower.free.clear()
    saved = follower.save("repos/first/ops.py")
    assert follower.next() == saved
    saved = follower.save("repos/first/ops.py", "envs/light/requirements.txt")
    time.sleep(0.5)
    saved |= follower.save("repos/second/model.py")
    assert follower.next(0.5) is None
    follower.free.set()
    assert follower.next() == saved


def test_nothing_is_told_of_what_reloads_nothing(follower: Follower) -> None:
    follower.save("repos/first/tests/test_ops.py", "repos/first/README.md", "repos/first/.ops.py.swp")
    follower.save("repos/first/ops.py~", "repos/first/4913", "envs/light/.venvs/0123/requirements.txt")
    (follower.root / "repos" / "first" / "__pycache__").mkdir()
    assert follower.next(1) is None


def test_a_folder_that_is_added_is_watched_too(follower: Follower) -> None:
    (follower.root / "repos" / "third").mkdir()
    assert follower.next() == {PurePath("repos/third")}
    assert follower.next(1) is None
    saved = follower.save("repos/third/ops.py")
    assert follower.next() == saved


def test_a_code_server_is_asked_for_no_spare_once_its_repository_has_left_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, asked = dict(repositories()), list[int]()
    gone = listed["live"].port

    class CodeServer:
        def __init__(self, port: int, host: str) -> None:
            asked.append(port)

        def heartbeat(self, echo: str) -> None: ...

    def pause(_: float) -> None:
        listed.pop("live", None)
        if len(asked) > 2 * len(listed):
            raise KeyboardInterrupt

    for place in ("shared_ops.settings.repositories", "deploy.stack.saves.repositories"):
        monkeypatch.setattr(place, lambda: dict(listed))
    monkeypatch.setattr(client, "DagsterGrpcClient", CodeServer)
    monkeypatch.setattr(time, "sleep", pause)
    settings = Settings(home=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        saving.Follower(settings, Dagit("http://nowhere"), print).ask_for_spares()
    assert asked.count(settings.port_base + gone) == 1 and len(asked) > 2 * len(listed)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervisor]:
    """A stack of a sleeper, which has taken up none of the repositories."""
    settings = Settings(home=tmp_path, port_base=31_000, postgres_url=None)
    made = Supervisor(settings)
    made.start([sleeper("one")], environment_variables(settings))
    yield made
    if made.running():
        made.shut_down()


def test_of_a_location_that_the_stack_has_not_taken_up_it_is_said_that_make_up_starts_it(running: Supervisor) -> None:
    said: list[str] = []
    follower = saving.Follower(running.settings, Dagit("http://nowhere"), said.append)
    follower.take_up(Work(("live",)))
    assert said == ["live              is not in the running stack yet: make up"]
    follower.take_up(Work(("live",), advice=(LIST_CHANGED,)))
    assert said[1:] == [LIST_CHANGED], "as make new-repo saves them, once is enough"


@pytest.fixture
def at_work(running: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is said by whoever follows the stack's saves, in a thread that is at work, and ends with the stack."""
    monkeypatch.setattr(saving, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(saving.Follower, "ask_for_spares", lambda _: None)
    said: list[str] = []
    following = Thread(target=saving.follow, args=(running.settings, Dagit("http://nowhere"), said.append))
    following.start()
    wait_for(lambda: said)
    yield said
    if running.running():
        running.shut_down()
    following.join(30)
    assert not following.is_alive()


def test_who_follows_the_saves_of_a_stack_ends_with_it_and_says_so(running: Supervisor, at_work: list[str]) -> None:
    running.shut_down()
    home = running.settings.home
    wait_for(
        lambda: at_work[1:] == [f"the watching has ended, as the stack in {home} has: make up WATCH=1 starts both"]
    )


def test_a_second_who_would_follow_the_saves_of_a_stack_is_refused(running: Supervisor, at_work: list[str]) -> None:
    with pytest.raises(StackError, match=r"already reloads what is saved in the stack of .*: one is enough"):
        saving.follow(running.settings, Dagit("http://nowhere"), print)


def test_ctrl_c_is_heard_while_nothing_is_saved(follower: Follower) -> None:
    """Polars has a handler of the signal, too, by which a wait without an end would begin anew."""
    code = (
        "import pathlib, polars; from deploy.stack import saves, terminal; terminal.hear_interrupts()\n"
        f"for paths in filter(None, saves.saves(pathlib.Path({str(follower.root)!r}))): print('saved', flush=True)\n"
    )
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-W", "ignore", "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heeds) as waits:
        assert waits.stdout and waits.stderr
        reader = Thread(target=waits.stdout.readline, daemon=True)
        reader.start()
        while reader.is_alive():  # it looks, then
            follower.save("repos/first/ops.py")
            reader.join(0.5)
        time.sleep(1)
        try:
            waits.send_signal(signal.SIGINT)
            waits.wait(20)
        finally:
            waits.kill()
        assert "KeyboardInterrupt" in waits.stderr.read().decode()
