"""Fusing several models' hits without learning: the baselines the ranker must beat, and what answers when it is down.

Knows no model and no service: only `Hits`. A document that a model did not return adds nothing for that model.
Ties are broken by doc_id, so the same hits give the same order everywhere.
"""

from collections import defaultdict
from collections.abc import Mapping

from shared_ops.data.tables import Hits


def reciprocal_rank_fusion(hits: Mapping[str, Hits], k: int = 60) -> Hits:
    """The union of the models' hits, best first, by the sum of 1 / (k + rank), rank counted from 1.

    Cormack, Clarke, Buettcher (2009), "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR; k = 60 is theirs.

    Raises:
        ValueError: when k is negative.
    """
    if k < 0:
        raise ValueError(f"Expected k >= 0 for reciprocal rank fusion, got {k}.")
    fused: defaultdict[str, float] = defaultdict(float)
    for model_hits in hits.values():
        for rank, (doc_id, _) in enumerate(model_hits, start=1):
            fused[doc_id] += 1 / (k + rank)
    return best_first(fused)


def min_max_fusion(hits: Mapping[str, Hits], weights: Mapping[str, float] | None = None) -> Hits:
    """The union of the models' hits, best first, by the sum of scores scaled to 0..1 within each model's list.

    "CombSUM" of Fox and Shaw (1994) after min-max normalisation (Lee 1997): with equal weights, or each model's scaled
    scores times its weight.
    """
    fused: defaultdict[str, float] = defaultdict(float)
    for model, model_hits in hits.items():
        for doc_id, scaled in min_max(model_hits).items():
            fused[doc_id] += scaled if weights is None else weights[model] * scaled
    return best_first(fused)


def min_max(hits: Hits) -> dict[str, float]:
    """A model's documents with their scores scaled to 0..1; where all scores are equal, each is 1."""
    if not hits:
        return {}
    scores = [score for _, score in hits]
    low, span = min(scores), max(scores) - min(scores)
    return {doc_id: (score - low) / span if span > 0 else 1.0 for doc_id, score in hits}


def best_first(scores: Mapping[str, float]) -> Hits:
    """Documents with their scores as hits: highest score first, equal scores by doc_id."""
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
