from repos.semantic.encoder import Encoder
from repos.semantic.passages import PassageLimits, cut, grant, pack

WHOLE = PassageLimits(size=64, title=24, passages=100, budget=10**9)


def words(encoder: Encoder, passage: list[int]) -> str:
    return encoder.tokenizer.decode(passage)


def test_sentences_are_packed_in_order_and_stay_whole() -> None:
    assert pack([[1, 1], [2, 2], [3, 3, 3]], 4) == [[1, 1, 2, 2], [3, 3, 3]]


def test_a_sentence_longer_than_a_passage_is_cut() -> None:
    assert pack([[1], [2] * 7], 4) == [[1], [2] * 4, [2] * 3]


def test_every_passage_stands_behind_the_title(encoder: Encoder) -> None:
    text = "The first sentence is here. " * 30
    passages = cut(encoder, ["numpy.sort"], [text], WHOLE)
    assert len(passages.inputs) > 1
    assert all(words(encoder, passage).startswith("numpy. sort the first") for passage in passages.inputs)


def test_with_enough_budget_the_last_sentence_of_a_long_text_is_read(encoder: Encoder) -> None:
    text = "Nothing to see in this line. " * 200 + "The treasure lies under the oak."
    passages = cut(encoder, ["map"], [text], WHOLE)
    assert passages.share == 1.0
    assert "under the oak" in words(encoder, passages.inputs[-1])


def test_what_is_not_read_is_counted(encoder: Encoder) -> None:
    passages = cut(
        encoder, ["map"], ["Nothing to see in this line. " * 200], PassageLimits(64, 24, passages=1, budget=10**9)
    )
    assert len(passages.inputs) == 1
    assert 0 < passages.covered <= 64 < passages.tokens
    assert passages.share == passages.covered / passages.tokens


def test_a_document_begins_where_the_one_before_ends(encoder: Encoder) -> None:
    passages = cut(encoder, ["one", "two", "three"], ["short", "A long one. " * 60, " "], WHOLE)
    assert passages.starts[0] == 0
    assert passages.starts[1] == 1
    assert passages.starts[2] == len(passages.inputs) - 1
    assert words(encoder, passages.inputs[-1]) == "three"


def test_the_budget_is_spent_in_rounds() -> None:
    costs = [[10], [10, 10], [10, 10, 10]]
    assert grant(costs, budget=0) == [1, 1, 1]
    assert grant(costs, budget=40) == [1, 1, 2]
    assert grant(costs, budget=50) == [1, 2, 2]
    assert grant(costs, budget=60) == [1, 2, 3]
    assert grant(costs, budget=10**9) == [1, 2, 3]
