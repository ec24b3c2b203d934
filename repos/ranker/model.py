"""The ranker: the order of the union of the search models' hits. Load, rank, save.

Knows no Dagster and no judgements, and nothing of how weights are learned (that is train.py).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from repos.ranker import network
from repos.ranker.features import Array, Candidates, FeatureSpace
from shared_ops.data.tables import Hits
from shared_ops.judge.fusion import best_first

FORMAT = 3

Kind = Literal["fusion", "linear", "network"]
"""What orders the candidates: min-max fusion with equal weights, or with learned ones (and likeness to the best
beside), or the network on top of that."""


class Parameters(BaseModel):
    """How to train the ranker."""

    seed: int = Field(default=0, description="Seed of the folds, the first weights, the batches and the dropout.")
    loss: Literal["list_net", "lambda_loss"] = Field(default="lambda_loss", description="The listwise loss.")
    kind: Literal["auto", "fusion", "linear", "network"] = Field(
        default="auto",
        description="What orders the candidates; auto takes the network where it is clearly better than the linear "
        "fusion.",
    )
    caution: float = Field(
        default=1.0,
        ge=0,
        description="Standard errors by which the network must be better than the linear fusion to be taken.",
    )
    folds: int = Field(default=5, ge=2, description="Members of the ensemble; each leaves out one fold of the queries.")
    width: int = Field(default=32, ge=1, description="Hidden units of a member.")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="Share of hidden units left out in a training step.")
    weight_decay: float = Field(default=0.05, ge=0, description="AdamW's, on the hidden layer and what it adds.")
    learning_rate: float = Field(default=2e-3, gt=0, description="AdamW's.")
    epochs: int = Field(default=20, ge=1, description="At most so many passes over the training queries.")
    patience: int = Field(default=5, ge=1, description="Stop after so many passes without a better order.")
    batch: int = Field(default=32, ge=1, description="Queries in a training step.")
    depth: int = Field(default=128, ge=10, description="Candidates of a query in a training step: answers, then best.")
    missing: float = Field(
        default=0.2, ge=0, description="Share of training queries that are learned a second time without one family."
    )
    click_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of a list from clicks of much evidence, a judged one's being 1, and at most of all of them "
        "together beside all judged ones; 0 learns from judgements alone.",
    )
    click_evidence: float = Field(
        default=20.0, gt=0, description="Examinations in a list from clicks at which it has half its weight."
    )
    click_margin: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="A clicked document's relevance must be above the mean by this share of what is left to certainty.",
    )
    click_steps: int = Field(
        default=400,
        ge=0,
        description="Training steps, in whole passes, in which a network that is chosen learns from clicks beside "
        "judgements.",
    )
    click_caution: float = Field(
        default=2.0, ge=0, description="Standard errors that the order of judged queries may lose by it."
    )
    click_lists: int = Field(
        default=5_000, ge=0, description="At most so many lists from clicks: of the most evidence."
    )
    fusions: int = Field(default=300, ge=1, description="Weights tried for the linear fusion.")
    prior: float = Field(
        default=200.0,
        ge=0,
        description="Queries from which the weights that are best together count as much as what each family is worth "
        "alone, in the linear fusion.",
    )
    max_optimism: float = Field(
        default=0.15,
        ge=0,
        description="Refuse a family whose nDCG@10 on train is surely (3 standard errors) this much above dev's.",
    )
    threads: int = Field(default=1, ge=1, description="Threads of torch in training: weights depend on them.")


class Ranker:
    """Orders the union of hits. Safe to use from many threads at once."""

    def __init__(
        self, space: FeatureSpace, kind: Kind, fusion: Array, scaler: network.Scaler, weights: network.Weights
    ) -> None:
        self.space, self.kind, self.fusion, self.scaler, self.weights = space, kind, fusion, scaler, dict(weights)

    @property
    def families(self) -> tuple[str, ...]:
        """The families whose hits it learned from."""
        return self.space.families

    def rank(self, text: str, hits: Mapping[str, Hits]) -> Hits:
        """All documents of the union of `hits`, best first; equal scores by doc_id.

        A family that is absent, as when its service is down, counts as one that found nothing; a document newer than
        the release is ordered by what the models say of it alone.

        Raises:
            ValueError: when `hits` names a family that the ranker has not learned from, or a score is not finite.
        """
        return self._order(self.space.candidates(text, hits))

    def explain(self, text: str, hits: Mapping[str, Hits], n: int) -> tuple[Hits, Array]:
        """What `rank` gives, and the features of its first `n` documents as they were scored.

        The features are float32 [documents, features], unscaled, with the columns of the feature space's `names`; NaN
        stands for what is not known.

        Raises:
            ValueError: as `rank`.
        """
        candidates = self.space.candidates(text, hits)
        order = self._order(candidates)
        row = {doc_id: row for row, doc_id in enumerate(candidates.doc_ids)}
        return order, candidates.features[[row[doc_id] for doc_id, _ in order[:n]]]

    def _order(self, candidates: Candidates) -> Hits:
        if not candidates.doc_ids:
            return []
        scored = self.score(candidates.features)
        return best_first(dict(zip(candidates.doc_ids, scored.tolist(), strict=True)))

    def rank_many(self, texts: Sequence[str], hits: Sequence[Mapping[str, Hits]]) -> list[Hits]:
        """`rank` for each text and its hits."""
        return [self.rank(text, by_family) for text, by_family in zip(texts, hits, strict=True)]

    def score(self, features: Array) -> Array:
        """The score of each candidate [documents] from its unscaled features [documents, features]."""
        fused = features[:, : self.space.fused]
        if self.kind != "network":
            return np.asarray(fused @ self.fusion, np.float64)
        import torch

        with torch.inference_mode():
            rows = torch.from_numpy(self.scaler(features))[None]
            members = network.scores(self.weights, rows, torch.from_numpy(np.ascontiguousarray(fused))[None])
            return np.asarray(members.mean(dim=0)[0], np.float64)

    def save(self, folder: Path) -> None:
        """Write the ranker into `folder`: JSON and safetensors, the same bytes for the same ranker."""
        from safetensors.numpy import save_file

        self.space.save(folder)
        tensors = {name: tensor.numpy() for name, tensor in self.weights.items()}
        tensors |= {"mean": self.scaler.mean, "deviation": self.scaler.deviation, "fused": self.fusion}
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / "ranker.safetensors")
        (folder / "ranker.json").write_text(json.dumps({"format": FORMAT, "kind": self.kind}), encoding="utf-8")


def load(folder: Path) -> Ranker:
    """The ranker that `Ranker.save` wrote into `folder`.

    Torch computes on one thread: a query is too small to share out, and the other cores belong to other models.

    Raises:
        ValueError: when the folder was written in another format.
    """
    import torch
    from safetensors.numpy import load_file

    described: dict[str, Any] = json.loads((folder / "ranker.json").read_text(encoding="utf-8"))
    if described["format"] != FORMAT:
        raise ValueError(
            f"Expected a ranker in format {FORMAT}, got {described['format']}: load it with the code that wrote it, "
            "or train it again."
        )
    torch.set_num_threads(1)
    tensors = load_file(folder / "ranker.safetensors")
    scaler = network.Scaler(tensors.pop("mean"), tensors.pop("deviation"))
    fusion = tensors.pop("fused")
    weights = {name: torch.from_numpy(array) for name, array in tensors.items()}
    return Ranker(FeatureSpace.load(folder), described["kind"], fusion, scaler, weights)
