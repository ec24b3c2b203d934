"""What a message advises helps where it is given: each command is taken from the message, and run.

The advice of a cold start, of doctor, of odd sources and of changed code is followed where those are tested; here that
which follows on a rollback, a pin, a cancelled training, and a command that cannot do what it was asked.
"""

import re
import shlex
import threading
from collections.abc import Callable

import pytest

from deploy.stack.dagit.client import Dagit
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import Staging
from tests.conftest import Stack, until

pytestmark = pytest.mark.slow

COMMAND = r"make (\S+(?: [A-Z]+=(?:\"[^\"]*\"|[^\s\";.]+))*)"


def advised(said: str, before: str) -> list[str]:
    """The words of the command that is advised behind these."""
    found = re.search(re.escape(before) + r".*?" + COMMAND, said, re.DOTALL)
    assert found, said
    return shlex.split(found[1])


@pytest.fixture(scope="module")
def one(stack: Stack, dagit: Dagit, sets: LiveSets) -> LiveSet:
    """The live set, once nothing is in flight."""
    dagit.settle()
    return sets.live()


@pytest.fixture(scope="module")
def two(stack: Stack, one: LiveSet, sets: LiveSets) -> LiveSet:
    """A set with a new keyword and a new ranker."""
    stack.make("train", "REPO=keyword", "FORCE=1")
    until(lambda: sets.live().releases["keyword"] != one.releases["keyword"], 300, "a set with the new keyword is live")
    return sets.live()


@pytest.fixture
def taken_back(stack: Stack, one: LiveSet, two: LiveSet, sets: LiveSets) -> LiveSet:
    """Set `two` was live, and was taken back."""
    if sets.live() != two:
        stack.make("rollback", f"SET={two.number}")
    stack.make("rollback", f"SET={one.number}")
    return two


def status(stack: Stack, taken_back: LiveSet) -> list[str]:
    return advised(stack.make("status").stdout, f"rolled back: set {taken_back.number} (")


def the_same_again(stack: Stack, taken_back: LiveSet) -> list[str]:
    said = stack.make("train", "REPO=keyword").stdout
    return advised(said, f"keyword/{taken_back.releases['keyword']} was taken back with set {taken_back.number}")


def pin(stack: Stack, taken_back: LiveSet) -> list[str]:
    said = stack.make("pin", "FAMILY=keyword", f"RELEASE={taken_back.releases['keyword']}", check=False)
    assert said.returncode
    return advised(said.stdout, "no set with it is promoted before that is brought back: ")


@pytest.mark.parametrize("asked", [status, the_same_again, pin])
def test_what_was_taken_back_is_brought_back_as_it_is_said(
    stack: Stack, sets: LiveSets, taken_back: LiveSet, asked: Callable[[Stack, LiveSet], list[str]]
) -> None:
    assert sets.live() != taken_back
    stack.make(*asked(stack, taken_back))
    assert sets.live() == taken_back


def test_a_set_that_newer_ones_followed_is_gone_back_to_as_it_is_said(
    stack: Stack, sets: LiveSets, one: LiveSet, two: LiveSet
) -> None:
    if sets.live() != two:
        stack.make("rollback", f"SET={two.number}")
    said = stack.make("promote", f"SET={one.number}", "WHY=a try", check=False)
    assert said.returncode
    stack.make(*advised(said.stdout, f"Set {one.number} was not taken back"))
    assert sets.live() == one
    stack.make("rollback", f"SET={two.number}")


def test_a_ranker_that_learns_from_a_release_is_trained_as_it_is_said(
    stack: Stack, sets: LiveSets, staging: Staging, one: LiveSet, two: LiveSet
) -> None:
    """A set of releases that no ranker learned from together: the older keyword, and all else as it is."""
    wanted = f"keyword/{one.releases['keyword']}"
    said = stack.make("promote", f"RELEASES=ranker/{two.releases['ranker']} {wanted}", "WHY=a try", check=False)
    assert said.returncode
    stack.make(*advised(said.stdout, f"A ranker that learns from {wanted} is trained after: "))
    try:
        assert staging.accepted("keyword") == one.releases["keyword"]
        until(
            lambda: sets.live().releases["keyword"] == one.releases["keyword"],
            300,
            "a ranker that learned from it is live",
        )
    finally:
        stack.make("unpin", "FAMILY=keyword")


def test_a_training_that_was_cancelled_starts_anew_as_it_is_said(stack: Stack, dagit: Dagit, two: LiveSet) -> None:
    dagit.settle()
    said: list[str] = []
    training = threading.Thread(
        target=lambda: said.append(stack.make("train", "REPO=keyword", "FORCE=1", check=False).stdout)
    )
    training.start()
    until(dagit.in_flight, 60, "the training is in flight")
    dagit.cancel([run.run_id for run in dagit.in_flight()])
    training.join(120)
    found = re.search(r"was cancelled, by make down or in Dagit: make (up), then make (train), starts anew", said[0])
    assert found, said
    for command in found.groups():
        stack.make(command)
    assert "SUCCESS" in stack.make("runs", "N=1").stdout
