"""Learning from padded lists: the weights of a linear fusion, and the network upon it, each scored out of fold.

Knows tensors alone: no tables, no files. Every random choice is drawn from the seed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from repos.ranker import losses, network
from repos.ranker.features import Array
from repos.ranker.lists import Padded
from repos.ranker.model import Kind, Parameters

if TYPE_CHECKING:
    from torch import Generator, Tensor

Log = Callable[[str], None]
AT_ONCE = 256
AVERAGED = 10
SHARPNESS = 10.0
"""What the fusion's weights sum to when the network starts: a softmax over scores in 0..1 would be all but flat."""


@dataclass(frozen=True)
class Data:
    """What to learn from: train queries and the fold each belongs to, the same with a family missing, dev queries."""

    train: Padded
    folds: "Tensor"
    missing: Padded
    missing_folds: "Tensor"
    dev: Padded


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

    families = data.train.scaled.shape[-1]
    drawn = np.random.default_rng(parameters.seed).dirichlet(np.ones(families), size=parameters.fusions)
    tried = torch.tensor(drawn, dtype=torch.float32)
    tables = [
        torch.stack([_ndcg(part.scaled @ weights, part) for weights in tried], dim=-1)
        for part in data.train.parts(AT_ONCE)
    ]
    table = torch.cat(tables)

    def best(rows: "Tensor") -> "Tensor":
        order = table[rows].mean(dim=0).argsort(descending=True, stable=True)
        return tried[order[:AVERAGED]].mean(dim=0)

    by_fold = torch.stack([best(data.folds != fold) for fold in range(parameters.folds)])
    final = best(data.folds >= 0)
    train = (data.train.scaled * by_fold[data.folds][:, None, :]).sum(-1)
    return Fit("linear", final.numpy(), train, data.dev.scaled @ final), by_fold.numpy()


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
    best = _scored(weights, data, fusions, 0)
    best_value = best.values(data).mean()
    for epoch in range(1, parameters.epochs + 1):
        for batch, folds in _batches(data, parameters, generator):
            scores = network.scores(weights, batch.features, batch.scaled, parameters.dropout, generator)
            loss = _loss(parameters.loss, scores, batch)
            learns = torch.arange(parameters.folds)[:, None] != folds
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


def _batches(data: Data, parameters: Parameters, generator: "Generator") -> Iterator[tuple[Padded, "Tensor"]]:
    """One pass over what a loss can learn from: batches of lists, cut to `depth`, with their folds."""
    import torch

    answered = [(part.grades.sum(-1) > 0).nonzero().flatten() for part in (data.train, data.missing)]
    rows = torch.cat([answered[0], answered[1] + len(data.train)])
    for chunk in rows[torch.randperm(len(rows), generator=generator)].split(parameters.batch):
        whole = chunk[chunk < len(data.train)]
        lacking = chunk[chunk >= len(data.train)] - len(data.train)
        for part, folds, taken in ((data.train, data.folds, whole), (data.missing, data.missing_folds, lacking)):
            if len(taken):
                yield part.take(taken, parameters.depth), folds[taken]


def _loss(name: str, scores: "Tensor", batch: Padded) -> "Tensor":
    if name == "list_net":
        return losses.list_net(scores, batch.grades, batch.mask)
    return losses.lambda_loss(scores, batch.grades, batch.mask, batch.ideal)


def _scored(weights: network.Weights, data: Data, fusions: Array, epoch: int) -> Fit:
    """The ensemble as it is now: train scored by the member that left the query out, dev by all."""
    import torch

    kept = {name: tensor.detach().clone() for name, tensor in weights.items()}
    with torch.inference_mode():
        train = torch.cat([network.scores(kept, p.features, p.scaled) for p in data.train.parts(AT_ONCE)], dim=1)
        dev = [network.scores(kept, p.features, p.scaled).mean(dim=0) for p in data.dev.parts(AT_ONCE)]
        own = train[data.folds, torch.arange(len(data.train))]
    return Fit("network", fusions.mean(axis=0), own, torch.cat(dev), kept, {"epochs_kept": epoch})


def _ndcg(scores: "Tensor", padded: Padded) -> "Tensor":
    return losses.ndcg(scores, padded.grades, padded.mask, padded.ideal)
