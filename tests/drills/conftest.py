"""What the drills share: one stack of their own on a small real corpus, and ways to ask it how it stands."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from deploy.stack.dagit.client import Dagit
from shared_ops.data import snapshots
from shared_ops.release.livesets import LiveSets
from shared_ops.settings import families
from tests.conftest import Stack, own_stack, share_vectors
from tests.drills.checkouts import Checkout, another_python

VARIABLES: dict[str, Any] = {
    # The drills' clicks start no training: what is in flight is what a drill has started.
    "SEARCHLOOP_ENOUGH_CLICKS": "1000000",
    # A machine that is busy with other things shows in the times alone: an answer that lacks a model lacks it for what
    # is drilled.
    "SEARCHLOOP_MODEL_TIMEOUT_MS": "20000",
    "SEARCHLOOP_WAITING_LIMIT": "1000",
    "SEARCHLOOP_SEARCHES_AT_ONCE": "1000",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have a warning fail no drill: what is killed on purpose leaves much behind that warns."""
    for item in items:
        if "tests/drills" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack on a small real corpus, up and trained, that may be put under stress."""
    made = share_vectors(own_stack(tmp_path_factory.mktemp("drills"), **VARIABLES))
    try:
        made.make("up")
        yield made
    finally:
        made.make("down", check=False)


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Checkout, Stack]]:
    """A copy of the checkout that a drill may change, and a stack that runs from it, up and trained."""
    checkout = Checkout.copied(tmp_path_factory.mktemp("checkout") / "searchloop")
    variables = VARIABLES | {"SEARCHLOOP_GRACE_SECONDS": "5"}
    made = share_vectors(own_stack(tmp_path_factory.mktemp("house"), checkout.root, **variables))
    if python := another_python():  # found where uv looks, after all others
        made.environment["PATH"] += f":{python[1]}"
    try:
        made.make("up")
        yield checkout, made
    finally:
        made.make("down", check=False)


@pytest.fixture(scope="session")
def queries(stack: Stack, sets: LiveSets) -> list[str]:
    """Real queries of the live snapshot."""
    return snapshots.load(sets.live().snapshot).queries("train").sort("query_id")["text"].to_list()


@pytest.fixture
def environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the stack's environment: its promotions ask the stack's services."""
    for name, value in stack.environment.items():
        if name.startswith("SEARCHLOOP_"):
            monkeypatch.setenv(name, value)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a drill's counts, whatever pytest captures."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return line


def finish(dagit: Dagit, run_id: str, seconds: float = 300) -> str:
    """The status that a run ends with; where it was lost and is tried again, that of the last try."""
    deadline = time.monotonic() + seconds
    while True:
        assert time.monotonic() < deadline, f"run {run_id} has not ended within {seconds} s"
        time.sleep(0.3)
        page = dagit.run(run_id)
        if retry := page.tags.get("dagster/auto_retry_run_id"):
            run_id = retry
        elif page.status in ("SUCCESS", "CANCELED") or (
            page.status == "FAILURE" and page.tags.get("dagster/will_retry") != "true"
        ):
            return page.status


def told_sets(stack: Stack) -> dict[str, int | None]:
    """The number of the live set that each service names; one that is not up, or has nothing yet, is left out."""
    numbers = {}
    for name in (*families(), "search"):
        try:
            answer = httpx.get(f"{stack.settings.url(name)}/health", timeout=5)
        except httpx.HTTPError:
            continue
        if answer.status_code == 200:
            numbers[name] = answer.json()["live_set"]
    return numbers
