"""Waiting: it ends when what is seen will do, or at its limit, with what was seen last."""

import time

import pytest

from shared_ops.waiting import until


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def test_it_ends_with_what_was_waited_for(pauses: list[float]) -> None:
    seen = iter(["", "", "here"])
    assert until(lambda: next(seen), every=0.5) == "here" and pauses == [0.5, 0.5]


def test_what_is_so_already_is_not_waited_for(pauses: list[float]) -> None:
    assert until(lambda: [], lambda found: not found, every=5) == [] and not pauses


def test_at_the_limit_it_ends_with_what_was_seen_last() -> None:
    began = time.monotonic()
    assert until(lambda: 0, every=0.01, seconds=0.1) == 0
    assert 0.1 <= time.monotonic() - began < 5


@pytest.mark.parametrize("given", [(), (1.0, 2.0, 4.0)])
def test_pauses_are_made_in_their_order_and_then_no_more(pauses: list[float], given: tuple[float, ...]) -> None:
    looks = []
    assert until(lambda: looks.append(1), every=given) is None
    assert tuple(pauses) == given and len(looks) == len(given) + 1


def test_what_a_look_raises_ends_the_waiting(pauses: list[float]) -> None:
    def look() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        until(look, every=1)
    assert not pauses
