from collections.abc import Callable

# A test is loaded by no code server.
import ir_measures  # noqa: TID253
import pytest
import torch  # noqa: TID253

from repos.ranker.losses import ideal_dcg, lambda_loss, list_net, ndcg

GRADES = torch.tensor([[3.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
MASK = torch.tensor([[True] * 5, [True] * 4 + [False]])
IDEAL = ideal_dcg(GRADES)
Loss = Callable[[torch.Tensor], torch.Tensor]
LOSSES: dict[str, Loss] = {
    "list_net": lambda scores: list_net(scores, GRADES, MASK),
    "lambda_loss": lambda scores: lambda_loss(scores, GRADES, MASK, IDEAL),
}


def test_ndcg_is_that_of_ir_measures() -> None:
    generator = torch.Generator().manual_seed(0)
    grades = torch.randint(0, 4, (20, 30), generator=generator).float()
    scores = torch.randn(20, 30, generator=generator)
    qrels = [ir_measures.Qrel(str(q), str(d), int(grades[q, d])) for q in range(20) for d in range(30)]
    run = [ir_measures.ScoredDoc(str(q), str(d), float(scores[q, d])) for q in range(20) for d in range(30)]
    expected = {m.query_id: m.value for m in ir_measures.iter_calc([ir_measures.parse_measure("nDCG@10")], qrels, run)}
    measured = ndcg(scores, grades, torch.ones(20, 30, dtype=torch.bool), ideal_dcg(grades))
    assert measured.tolist() == pytest.approx([expected[str(q)] for q in range(20)], abs=1e-6)


def test_ndcg_of_ties_gives_nothing_away() -> None:
    assert ndcg(torch.zeros(1, 20), torch.eye(20)[:1], torch.ones(1, 20, dtype=torch.bool), torch.ones(1)).item() == 0.0


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_better_order_loses_less(loss: Loss) -> None:
    best = loss(torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]] * 2))
    worse = loss(torch.tensor([[3.0, 4.0, 2.0, 1.0, 0.0], [3.0, 4.0, 2.0, 1.0, 0.0]]))
    worst = loss(torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]] * 2))
    assert (best < worse).all()
    assert (worse < worst).all()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_step_against_the_gradient_raises_what_is_relevant(loss: Loss) -> None:
    scores = torch.zeros(2, 5, requires_grad=True)
    loss(scores).sum().backward()
    assert scores.grad[0, 0] < 0 < scores.grad[0, 4]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_padding_counts_for_nothing(loss: Loss) -> None:
    scores = torch.tensor([[1.0, 2.0, 0.0, 1.0, 0.0]] * 2)
    padded_higher = scores.clone()
    padded_higher[1, 4] = 50.0
    assert loss(scores)[1] == loss(padded_higher)[1]


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_members_are_scored_each_for_itself(loss: Loss) -> None:
    one, other = torch.tensor([[1.0, 2.0, 0.0, 1.0, 0.0]] * 2), torch.tensor([[2.0, 1.0, 0.0, 3.0, 0.0]] * 2)
    together = loss(torch.stack([one, other]))
    assert together.shape == (2, 2)
    assert torch.allclose(together, torch.stack([loss(one), loss(other)]))


def test_lambda_loss_minds_the_top_most() -> None:
    grades = torch.zeros(1, 40)
    grades[0, 0] = 1
    mask, ideal = torch.ones(1, 40, dtype=torch.bool), torch.ones(1)

    def gained(rank: int) -> float:
        """The pull on a relevant document at this rank, all scores close to one another."""
        scores = -torch.arange(40.0) / 1000
        scores = torch.cat([scores[rank - 1 : rank], scores[: rank - 1], scores[rank:]])[None].requires_grad_()
        lambda_loss(scores, grades, mask, ideal).sum().backward()
        return -float(scores.grad[0, 0])

    assert gained(2) > 0
    assert gained(11) > gained(38) / 2
    assert gained(38) > 0
