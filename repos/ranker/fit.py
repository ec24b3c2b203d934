"""Learning from padded lists: the weights of a linear fusion, and the network upon it, each scored out of fold.

Knows tensors alone: no tables, no files. Every random choice is drawn from the seed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from repos.ranker import losses, network
from repos.ranker.features import Array
from repos.ranker.lists import Padded
from repos.ranker.model import Kind, Parameters

if TYPE_CHECKING:
    from torch import Tensor

Log = Callable[[str], None]
AT_ONCE = 256
AVERAGED = 10
SHARPNESS = 10.0
"""What the fusion's weights sum to when the network starts: a softmax over scores in 0..1 would be all but flat."""


@dataclass(frozen=True)
class Data:
    """What to learn from: the train queries, after them some of these again without one family, and the dev queries."""

    learn: Padded
    folds: "Tensor"
    """[queries of learn]: the member that does not learn from it."""
    whole: int
    """How many of `learn` are the train queries as they are."""
    dev: Padded

    @property
    def train(self) -> Padded:
        """The train queries as they are."""
        return self.learn.take(slice(self.whole))


@dataclass(frozen=True)
class Fit:
    """A way to order, with its scores: [queries, documents] of train out of fold, and of dev."""

    kind: Kind
    fusion: Array
    train: "Tensor"
    dev: "Tensor"
    weights: network.Weights = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def values(self, data: Data) -> Array:
        """nDCG@10 of each train query, then of each dev query."""
        import torch

        return torch.cat([_ndcg(self.train, data.train), _ndcg(self.dev, data.dev)]).numpy()


def equal_fusion(data: Data) -> Fit:
    """Min-max fusion with equal weights: nothing is learned."""
    families = data.train.scaled.shape[-1]
    return Fit("fusion", np.ones(families, np.float32), data.train.scaled.sum(-1), data.dev.scaled.sum(-1))


def linear_fusion(data: Data, parameters: Parameters) -> tuple[Fit, Array]:
    """Min-max fusion with learned weights, and the weights [folds, families] that were learned without each fold.

    nDCG is not smooth in the weights and they are few, so they are drawn at random (Bergstra and Bengio 2012), evenly
    from all that sum to 1, and the best few are averaged: the very best on a handful of queries is mostly luck. Since
    equal weights are the average of all, little evidence leaves the weights near them.
    """
    import torch

    train, families = data.train, data.train.scaled.shape[-1]
    drawn = np.random.default_rng(parameters.seed).dirichlet(np.ones(families), size=parameters.fusions)
    tried = torch.tensor(drawn, dtype=torch.float32)
    tables = [
        torch.stack([_ndcg(part.scaled @ weights, part) for weights in tried], dim=-1) for part in train.parts(AT_ONCE)
    ]
    table, folds = torch.cat(tables), data.folds[: data.whole]

    def best(rows: "Tensor") -> "Tensor":
        order = table[rows].mean(dim=0).argsort(descending=True, stable=True)
        return tried[order[:AVERAGED]].mean(dim=0)

    by_fold = torch.stack([best(folds != fold) for fold in range(parameters.folds)])
    final = best(folds >= 0)
    out_of_fold = (train.scaled * by_fold[folds][:, None, :]).sum(-1)
    return Fit("linear", final.numpy(), out_of_fold, data.dev.scaled @ final), by_fold.numpy()


def network_fit(data: Data, fusions: Array, parameters: Parameters, log: Log) -> Fit:
    """The ensemble: member i learns from all folds but i, starting from the fusion `fusions[i]`.

    Stops at the pass whose order is best over train queries out of fold and dev queries.
    """
    import torch

    weights = network.start(SHARPNESS * fusions, data.train.features.shape[-1], parameters.width, parameters.seed)
    for tensor in weights.values():
        tensor.requires_grad_()
    decayed = [weights["hidden"], weights["output"]]
    free = [weights["fusion"], weights["bias"]]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": parameters.weight_decay}, {"params": free, "weight_decay": 0.0}],
        lr=parameters.learning_rate,
    )
    generator = torch.Generator().manual_seed(parameters.seed)
    answered = (data.learn.grades.sum(-1) > 0).nonzero().flatten()
    best = _scored(weights, data, fusions, 0)
    best_value = best.values(data).mean()
    for epoch in range(1, parameters.epochs + 1):
        for rows in answered[torch.randperm(len(answered), generator=generator)].split(parameters.batch):
            batch = data.learn.take(rows, parameters.depth)
            scores = network.scores(weights, batch.features, batch.scaled, parameters.dropout, generator)
            loss = _loss(parameters.loss, scores, batch)
            learns = torch.arange(parameters.folds)[:, None] != data.folds[rows]
            optimizer.zero_grad()
            (loss * learns).sum().div(len(batch)).backward()
            optimizer.step()
        now = _scored(weights, data, fusions, epoch)
        value = now.values(data).mean()
        if value > best_value:
            best, best_value = now, value
        log(f"pass {epoch}: {value:.4f} (best {best_value:.4f})")
        if epoch - best.notes["epochs_kept"] >= parameters.patience:
            break
    return best


def _loss(name: str, scores: "Tensor", batch: Padded) -> "Tensor":
    if name == "list_net":
        return losses.list_net(scores, batch.grades, batch.mask)
    return losses.lambda_loss(scores, batch.grades, batch.mask, batch.ideal)


def _scored(weights: network.Weights, data: Data, fusions: Array, epoch: int) -> Fit:
    """The ensemble as it is now: train scored by the member that left the query out, dev by all."""
    import torch

    kept = {name: tensor.detach().clone() for name, tensor in weights.items()}
    train = data.train
    own = torch.zeros(train.grades.shape)
    with torch.inference_mode():
        for fold in range(len(fusions)):
            rows = (data.folds[: data.whole] == fold).nonzero().flatten()
            for part in rows.split(AT_ONCE):
                lists = train.take(part)
                own[part] = network.scores(network.member(kept, fold), lists.features, lists.scaled)[0]
        dev = [network.scores(kept, part.features, part.scaled).mean(dim=0) for part in data.dev.parts(AT_ONCE)]
    return Fit("network", fusions.mean(axis=0), own, torch.cat(dev), kept, {"epochs_kept": epoch})


def _ndcg(scores: "Tensor", padded: Padded) -> "Tensor":
    return losses.ndcg(scores, padded.grades, padded.mask, padded.ideal)
