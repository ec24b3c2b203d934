"""The ranker's network: an ensemble of small networks, each a linear fusion plus what a hidden layer adds to it.

Knows tensors alone: no hits, no documents, no training. All members run in one matrix product.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from repos.ranker.features import Array

if TYPE_CHECKING:
    from torch import Generator, Tensor

LIMIT = 5.0
"""Beyond this, a standardised feature grows only with its logarithm: one odd document does not shift the order much,
and yet a score a thousand times beyond those of judged queries, as a query that is asked again has, still stands out.
"""

Weights = Mapping[str, "Tensor"]
"""fusion [fused, members], hidden [features, members x width], bias [members x width], output [members, width]."""


def start(fusions: Array, features: int, width: int, seed: int) -> dict[str, "Tensor"]:
    """Weights by which each member's scores are the linear fusion with its row of `fusions`.

    `fusions` [members, fused]; `features` and `width` are the hidden layer's inputs and units.
    """
    import torch

    members = len(fusions)
    generator = torch.Generator().manual_seed(seed)
    return {
        "fusion": torch.tensor(fusions.T.copy(), dtype=torch.float32),  # laid out as it is saved: the same sums
        "hidden": torch.randn(features, members * width, generator=generator) / features**0.5,
        "bias": torch.zeros(members * width),
        "output": torch.zeros(members, width),
    }


def scores(
    weights: Weights, features: "Tensor", fused: "Tensor", dropout: float = 0.0, generator: "Generator | None" = None
) -> "Tensor":
    """Every member's score of every candidate [members, queries, documents].

    `features` [queries, documents, features] are standardised, `fused` [queries, documents, fused] as they are.
    With `dropout` above 0, that share of the hidden units is left out, for all candidates of a query alike: the order
    within a list is then one network's.
    """
    import torch

    queries, documents = features.shape[:2]
    members, width = weights["output"].shape
    hidden = torch.addmm(weights["bias"], features.flatten(0, 1), weights["hidden"]).relu()
    output = weights["output"].expand(queries, 1, members, width)
    if dropout > 0:
        output = output * (torch.rand(output.shape, generator=generator) >= dropout) / (1 - dropout)
    added = (hidden.view(queries, documents, members, width) * output).sum(-1)
    return (fused @ weights["fusion"] + added).permute(2, 0, 1)


def member(weights: Weights, number: int) -> dict[str, "Tensor"]:
    """The weights of one member alone."""
    width = weights["output"].shape[1]
    units = slice(number * width, (number + 1) * width)
    return {
        "fusion": weights["fusion"][:, number : number + 1],
        "hidden": weights["hidden"][:, units],
        "bias": weights["bias"][units],
        "output": weights["output"][number : number + 1],
    }


class Scaler:
    """Features to mean 0 and deviation 1 over the training candidates; what is not known (NaN) becomes the mean."""

    def __init__(self, mean: Array, deviation: Array) -> None:
        self.mean, self.deviation = mean, deviation

    @classmethod
    def fit(cls, rows: Sequence[Array], width: int) -> "Scaler":
        """The scaler of these arrays [documents, features], of which there may be none, with `width` features."""
        features = np.concatenate([np.zeros((1, width)), *rows]).astype(np.float64)[bool(rows) :]
        deviation = np.nanstd(features, axis=0)
        # A feature that never varied in training says nothing, whatever value it takes later.
        deviation[deviation < 1e-6] = np.inf
        return cls(np.nanmean(features, axis=0).astype(np.float32), deviation.astype(np.float32))

    def __call__(self, features: Array) -> Array:
        """Standardised float32 features, the same shape."""
        standardised = np.nan_to_num((features - self.mean) / self.deviation, nan=0.0)
        beyond = np.log1p(np.maximum(np.abs(standardised) - LIMIT, 0.0))
        bounded: Array = (np.clip(standardised, -LIMIT, LIMIT) + np.sign(standardised) * beyond).astype(np.float32)
        return bounded
