"""The order of training, and what a TREC run looks like."""

import pytest

from deploy.stack import training
from deploy.stack.evaluation import write_run


def test_data_first_then_the_searches_side_by_side_then_the_ranker():
    assert training.waves() == [["corpus"], ["keyword", "semantic", "behavior"], ["ranker"]]


def test_one_repository_trains_alone():
    assert training.waves(["semantic"]) == [["semantic"]]


def test_an_unknown_repository_is_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"No repository keywrod\. There are: corpus, keyword"):
        training.waves(["keywrod"])


def test_a_run_keeps_the_order_of_equal_scores_and_parts_its_fields_by_spaces(tmp_path):
    write_run(tmp_path / "final.run", "final", ["q 1", "q2"], [[("b", 0.5), ("a c", 0.5)], []])
    rows = [line.split() for line in (tmp_path / "final.run").read_text().splitlines()]
    assert rows == [["q%201", "Q0", "b", "1", "100", "final"], ["q%201", "Q0", "a%20c", "2", "99", "final"]]
