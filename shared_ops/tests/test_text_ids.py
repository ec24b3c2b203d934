"""The id of a text, and which split it belongs to."""

import pytest

from shared_ops.data.text import Split, split_of, stands_in, text_id

SHARES: dict[Split, float] = {"train": 0.6, "dev": 0.1, "test": 0.3}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Norm of a matrix.", "norm  of a\nMATRIX"),
        ("caf\u00e9 au lait", "cafe\u0301 au lait"),  # an accent, in one character and in two
    ],
)
def test_equal_texts_have_one_id_and_one_split(one: str, other: str) -> None:
    assert text_id(one) == text_id(other)
    assert split_of(one, SHARES) == split_of(other, SHARES)


def test_a_text_has_the_same_id_and_split_for_ever() -> None:
    assert text_id("Compute the singular value decomposition.") == "ec594ab70679793b"
    assert [split_of(f"query {i}", SHARES) for i in range(8)] == ["train"] * 3 + ["test"] + ["train"] * 3 + ["test"]


def test_the_order_in_which_shares_are_written_changes_no_split() -> None:
    turned: dict[Split, float] = {"test": 0.3, "dev": 0.1, "train": 0.6}
    assert all(split_of(f"query {i}", SHARES) == split_of(f"query {i}", turned) for i in range(200))


def test_splits_have_the_shares_that_were_asked_for() -> None:
    splits = [split_of(f"query {i}", SHARES) for i in range(5000)]
    assert {split: round(splits.count(split) / 5000, 1) for split in SHARES} == SHARES


def test_a_split_without_a_share_gets_nothing() -> None:
    assert {split_of(f"query {i}", {"train": 1.0, "dev": 0.0, "test": 0.0}) for i in range(100)} == {"train"}


def test_words_stand_in_a_text_as_whole_words() -> None:
    assert stands_in("Norm of a matrix.", "The (norm of\na Matrix) is computed")
    assert not stands_in("norm of a mat", "the norm of a matrix")
