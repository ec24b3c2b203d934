"""The order of training."""

import pytest

from deploy.stack import training


def test_data_first_then_the_searches_side_by_side_then_the_ranker():
    assert training.waves() == [["corpus"], ["keyword", "semantic", "behavior"], ["ranker"]]


def test_one_repository_trains_alone():
    assert training.waves(["semantic"]) == [["semantic"]]


def test_an_unknown_repository_is_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"No repository keywrod\. There are: corpus, keyword"):
        training.waves(["keywrod"])
