"""Learning from padded lists: the weights of a linear fusion, and the network on top of it, each scored out of fold.

Knows tensors alone: no tables, no files. Every random choice is drawn from the seed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from repos.ranker import losses, network
from repos.ranker.features import Array
from repos.ranker.lists import ListBatch
from repos.ranker.model import Kind, Parameters

if TYPE_CHECKING:
    from torch import Generator, Tensor

Log = Callable[[str], None]
AT_ONCE = 256
AVERAGED = 10
ALIKE = -1
"""The column of likeness to the best, among those that a linear fusion adds up; the others are the families'."""
LIKENESS = 1 / 6
"""Its share where nothing tells better: about that much helps on six of eight collections (docs/quality.md)."""
SHARPNESS = 10.0
"""What the fusion's weights sum to at the start: with 1, a softmax over scores in 0..1 would be nearly flat."""


@dataclass(frozen=True)
class Lessons:
    """Lists that the network learns from."""

    lists: ListBatch
    folds: "Tensor"
    """[queries]: the number of the one member that does not learn from the list; negative where all members do."""
    weights: "Tensor"
    """[queries]: the weight of each list in the loss."""

    def take(self, rows: "Tensor | slice", depth: int | None = None) -> "Lessons":
        """The lessons of these rows, cut to the first `depth` candidates if given."""
        return Lessons(self.lists.take(rows, depth), self.folds[rows], self.weights[rows])


@dataclass(frozen=True)
class Data:
    """What to learn from and to choose by."""

    learn: Lessons
    """The train lists, then some of them again without the hits of one family."""
    whole: int
    """How many of `learn` are the train lists as they are."""
    queries: "Tensor"
    """[train lists]: the number of each list's query, from 0; lists of one query are not independent evidence."""
    clicked: Lessons
    """Lists from clicks: the network alone learns from them, and nothing is chosen by them."""
    dev: ListBatch

    @property
    def train(self) -> ListBatch:
        """The train lists as they are."""
        return self.learn.lists.take(slice(self.whole))

    @property
    def folds(self) -> "Tensor":
        """[train lists]: the number of the member that does not learn from the list."""
        return self.learn.folds[: self.whole]

    @property
    def answered(self) -> int:
        """How many train queries have an answer among their candidates."""
        return len(self.queries[self.train.grades.sum(-1) > 0].unique())


@dataclass(frozen=True)
class RankerFit:
    """A way to order documents, with the scores that it gives.

    `train` and `dev` hold a score for each query and candidate [queries, documents]. A train query's are those of a
    model that did not learn from the query.
    """

    kind: Kind
    fusion: Array
    train: "Tensor"
    dev: "Tensor"
    weights: network.Weights = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def values(self, data: Data) -> Array:
        """nDCG@10 of each train query, then of each dev query."""
        import torch

        sums = torch.zeros(int(data.queries.max()) + 1 if len(data.queries) else 0)
        ones = torch.ones(len(data.queries))
        by_query = sums.index_add(0, data.queries, _ndcg(self.train, data.train)) / sums.index_add(
            0, data.queries, ones
        )
        return torch.cat([by_query, _ndcg(self.dev, data.dev)]).numpy()


def equal_fusion(data: Data) -> RankerFit:
    """Min-max fusion of the families' scores with equal weights: nothing is learned."""
    import torch

    weights = torch.ones(data.train.fused.shape[-1])
    weights[ALIKE] = 0.0
    return RankerFit("fusion", weights.numpy(), data.train.fused @ weights, data.dev.fused @ weights)


def linear_fusion(data: Data, parameters: Parameters) -> tuple[RankerFit, Array]:
    """Min-max fusion with learned weights, and the weights [folds, fused] that were learned without each fold.

    Between two estimates, by how many queries there are to learn from. With few, each family weighs what its own order
    is worth, its nDCG@10 alone, and likeness to the best the share LIKENESS. With many, the weights that are best
    together: nDCG is not smooth in the weights and they are few, so they are drawn at random (Bergstra and Bengio
    2012), evenly from all that sum to 1, and the best few are averaged, since the very best is mostly luck. `prior`
    queries make both count the same.

    The weights of the result are learned from train and dev queries; its scores of dev queries are by weights that were
    learned from train queries alone.
    """
    import torch

    train, columns = data.train, data.train.fused.shape[-1]
    samples = np.random.default_rng(parameters.seed).dirichlet(np.ones(columns), size=parameters.fusions)
    tried = torch.cat([torch.eye(columns), torch.tensor(samples, dtype=torch.float32)])
    table, dev_table = _tried(tried, train), _tried(tried, data.dev)
    folds, queries = data.folds, data.queries

    def best(rows: "Tensor", also: "Tensor") -> "Tensor":
        values = torch.cat([table[rows], also]).mean(dim=0)
        order = values.argsort(descending=True, stable=True)
        together = tried[order[:AVERAGED]].mean(dim=0)
        alone = values[:columns] + 1e-3
        alone[ALIKE] = alone[:ALIKE].sum() * LIKENESS / (1 - LIKENESS)
        count = len(queries[rows].unique()) + len(also)
        return torch.lerp(alone / alone.sum(), together, count / (count + parameters.prior))

    nothing, everywhere = dev_table[:0], folds >= 0
    by_fold = torch.stack([best(folds != fold, nothing) for fold in range(parameters.folds)])
    out_of_fold = (train.fused * by_fold[folds][:, None, :]).sum(-1)
    dev = data.dev.fused @ best(everywhere, nothing)
    return RankerFit("linear", best(everywhere, dev_table).numpy(), out_of_fold, dev), by_fold.numpy()


def _tried(weights: "Tensor", lists: ListBatch) -> "Tensor":
    """nDCG@10 of each list by each of these weights [lists, weights]."""
    import torch

    parts = [torch.stack([_ndcg(part.fused @ each, part) for each in weights], dim=-1) for part in lists.parts(AT_ONCE)]
    return torch.cat([torch.zeros(0, len(weights)), *parts])


def network_fit(data: Data, fusions: Array, parameters: Parameters, log: Log) -> RankerFit:
    """The ensemble: member i learns from all folds but i, starting from the fusion `fusions[i]`.

    Learns from `data.learn` alone. Keeps the pass whose order is best over train queries out of fold and dev queries,
    and stops after `patience` passes without a better one.
    """
    weights = network.start(SHARPNESS * fusions, data.train.features.shape[-1], parameters.width, parameters.seed)
    fusion = fusions.mean(axis=0)
    best = _scored(weights, data, fusion, {"epochs_kept": 0})
    best_value = best.values(data).mean()
    passes = _passes(weights, data, parameters, clicks=False)
    for epoch, _ in zip(range(1, parameters.epochs + 1), passes, strict=False):
        now = _scored(weights, data, fusion, {"epochs_kept": epoch})
        value = now.values(data).mean()
        if value > best_value:
            best, best_value = now, value
        log(f"pass {epoch}: {value:.4f} (best {best_value:.4f})")
        if epoch - best.notes["epochs_kept"] >= parameters.patience:
            break
    return best


def learn_clicks(fit: RankerFit, data: Data, parameters: Parameters, log: Log) -> RankerFit:
    """The network after more passes, in which it learns from clicks beside judgements.

    Keeps the last pass whose order of judged queries (train out of fold, and dev) is not worse than before by more than
    `click_caution` standard errors: so clicks teach what judgements cannot, and next to nothing is unlearned. The
    default is two standard errors, since the order before was the best of many passes, which is partly luck.
    """
    weights = {name: tensor.clone() for name, tensor in fit.weights.items()}
    latest, before = fit, fit.values(data)
    most = ceil(parameters.click_steps / len(_answered(data).split(parameters.batch)))
    passes = _passes(weights, data, parameters, clicks=True)
    for number, _ in zip(range(1, most + 1), passes, strict=False):
        now = _scored(weights, data, fit.fusion, {**fit.notes, "click_epochs_kept": number})
        gain = now.values(data) - before
        error = gain.std() / np.sqrt(len(gain))
        log(f"pass {number} with clicks: {gain.mean():+.4f} on judged queries, standard error {error:.4f}")
        if gain.mean() >= -parameters.click_caution * error:
            latest = now
    return latest


def _answered(data: Data) -> "Tensor":
    """The rows of `data.learn` whose lists hold an answer: the others teach nothing."""
    return (data.learn.lists.grades.sum(-1) > 0).nonzero().flatten()


def _passes(weights: dict[str, "Tensor"], data: Data, parameters: Parameters, clicks: bool) -> Iterator[None]:
    """Train `weights` in place; each step of the iterator is one pass over the judged lists.

    With `clicks`, each step learns from a batch of the judged lists and from its share of the lists from clicks.
    """
    import torch

    for tensor in weights.values():
        tensor.requires_grad_()
    decayed = [weights["hidden"], weights["output"]]
    free = [weights["fusion"], weights["bias"]]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": parameters.weight_decay}, {"params": free, "weight_decay": 0.0}],
        lr=parameters.learning_rate,
    )
    generator = torch.Generator().manual_seed(parameters.seed)
    answered = _answered(data)
    while True:
        judged = answered[torch.randperm(len(answered), generator=generator)].split(parameters.batch)
        clicked = torch.randperm(len(data.clicked.lists) if clicks else 0, generator=generator)
        for rows, shared in zip(judged, clicked.tensor_split(len(judged)), strict=True):
            loss = _loss(weights, data.learn.take(rows, parameters.depth), parameters, generator)
            if len(shared):
                loss = loss + _loss(weights, data.clicked.take(shared), parameters, generator)
            optimizer.zero_grad()
            loss.div(len(rows)).backward()
            optimizer.step()
        yield


def _loss(weights: network.Weights, batch: Lessons, parameters: Parameters, generator: "Generator") -> "Tensor":
    """The loss of all members that learn from these lists, summed."""
    import torch

    lists = batch.lists
    scores = network.scores(weights, lists.features, lists.fused, parameters.dropout, generator)
    if parameters.loss == "list_net":
        loss = losses.list_net(scores, lists.grades, lists.mask)
    else:
        loss = losses.lambda_loss(scores, lists.grades, lists.mask, lists.ideal)
    learns = torch.arange(parameters.folds)[:, None] != batch.folds
    return (loss * learns * batch.weights).sum()


def _scored(weights: network.Weights, data: Data, fusion: Array, notes: dict[str, Any]) -> RankerFit:
    """The ensemble with its present weights, and its scores.

    The member that does not learn from a train query scores it; of a dev query the scores are the mean of all members'.
    """
    import torch

    frozen = {name: tensor.detach().clone() for name, tensor in weights.items()}
    train = data.train
    own = torch.zeros(train.grades.shape)
    with torch.inference_mode():
        for fold in range(len(frozen["output"])):
            rows = (data.folds == fold).nonzero().flatten()
            for part in rows.split(AT_ONCE):
                lists = train.take(part)
                own[part] = network.scores(network.member(frozen, fold), lists.features, lists.fused)[0]
        dev = [network.scores(frozen, part.features, part.fused).mean(dim=0) for part in data.dev.parts(AT_ONCE)]
    return RankerFit("network", fusion, own, torch.cat(dev), frozen, notes)


def _ndcg(scores: "Tensor", batch: ListBatch) -> "Tensor":
    return losses.ndcg(scores, batch.grades, batch.mask, batch.ideal)
