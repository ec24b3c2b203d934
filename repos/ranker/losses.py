"""Listwise losses and nDCG, on padded lists of candidates.

Knows no model. Shapes: scores [..., queries, documents], grades and mask [queries, documents], ideal [queries].
Scores of padding are ignored; a query needs at least one document with a grade above 0 for a loss.

Written here because the libraries that have them (allRank, pytorchltr) have had no release since 2021.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CUTOFF = 10
_PADDING = -1e9
_TIE = 1e-5


def ideal_dcg(grades: "Tensor") -> "Tensor":
    """The highest DCG@10 that an order of these grades can reach; gains are the grades, as in trec_eval."""
    best = grades.sort(dim=-1, descending=True).values[..., :CUTOFF]
    return (best * _discount(best.shape[-1])).sum(-1)


def ndcg(scores: "Tensor", grades: "Tensor", mask: "Tensor", ideal: "Tensor") -> "Tensor":
    """nDCG@10 of each query [..., queries]: 0 where the query has no relevant document.

    Scores closer than 1e-5 count as equal, and equal scores put relevant documents last: ties earn nothing.
    """
    top = (
        (scores - _TIE * (grades > 0)).masked_fill(~mask, _PADDING).topk(min(CUTOFF, scores.shape[-1]), dim=-1).indices
    )
    gains = grades.expand(scores.shape).gather(-1, top)
    return (gains * _discount(top.shape[-1])).sum(-1) / ideal.clamp(min=1e-9)


def list_net(scores: "Tensor", grades: "Tensor", mask: "Tensor") -> "Tensor":
    """Cross-entropy of the scores' softmax with the grades' share, per query [..., queries].

    Cao et al. (2007), "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML (top-one probabilities),
    with grades in place of their exponentials (Bruch et al. 2019: then it bounds nDCG).
    """
    log_share = scores.masked_fill(~mask, _PADDING).log_softmax(dim=-1)
    return -(grades / grades.sum(-1, keepdim=True) * log_share).sum(-1)


def lambda_loss(scores: "Tensor", grades: "Tensor", mask: "Tensor", ideal: "Tensor", mu: float = 10.0) -> "Tensor":
    """NDCG-Loss2++ at cutoff 10, per query [..., queries]; documents with a grade above 0 must stand first.

    Wang et al. (2018), "The LambdaLoss Framework for Ranking Metric Optimization", CIKM: a pair weighs what swapping it
    changes in DCG. Only pairs with a document among the first 10 count, as nDCG@10 sees no others.
    """
    import torch

    scores = scores.masked_fill(~mask, _PADDING)
    relevant = int((grades > 0).sum(-1).max())
    rank = scores.detach().argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).float() + 1
    upper, lower = rank[..., :relevant, None], rank[..., None, :]
    gain = grades / ideal[:, None]
    gained = (gain[:, :relevant, None] - gain[:, None, :]).clamp(min=0) * mask[:, None, :]
    apart = (upper - lower).abs().clamp(min=1)
    step = 1 / torch.log2(apart + 1) - 1 / torch.log2(apart + 2)
    swap = (1 / torch.log2(1 + upper) - 1 / torch.log2(1 + lower)).abs()
    near_top = (upper <= CUTOFF) | (lower <= CUTOFF)
    margin = scores[..., :relevant, None] - scores[..., None, :]
    return (gained * (mu * step + swap) * near_top * torch.nn.functional.softplus(-margin)).sum((-1, -2))


def _discount(documents: int) -> "Tensor":
    import torch

    return 1 / torch.log2(torch.arange(2, documents + 2, dtype=torch.float32))
