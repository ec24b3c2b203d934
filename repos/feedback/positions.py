"""How likely somebody looks at position 1, 2, ... of a page: the propensities of a position-based click model.

Knows no Dagster, no session and no text. Own code, because the click-model libraries bring JAX or torch with CUDA
(clax-models, ultr-bias-toolkit) or no longer build (pyclickmodels, 2021), and none has a prior for the positions.
"""

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field


class PositionParameters(BaseModel):
    """The prior of the propensities, and the end of the search for them."""

    model_config = ConfigDict(frozen=True)

    prior_eta: float = Field(default=1.0, ge=0.0, description="before any click, position k is looked at 1 / k^eta")
    prior_looks: float = Field(
        default=20.0, gt=0.0, description="looks at an attractive document, at each position, that the prior is worth"
    )
    iterations: int = Field(default=200, ge=1, description="after as many rounds the search ends in any case")
    tolerance: float = Field(default=1e-5, gt=0.0, description="a smaller change of every propensity ends the search")


def propensities(by_position: pl.DataFrame, positions: int, parameters: PositionParameters) -> np.ndarray:
    """Estimate the chance that each of `positions` is looked at, relative to the first, whose chance is 1.

    `by_position` has a row for each position that a document had for a query: query_id, doc_id, position, impressions,
    clicks. A click needs a look and an attractive document (Chuklin et al. 2015, "Click Models for Web Search", 3.3):
    propensities and attractiveness are estimated in turn, each given the other, as in Wang et al. 2018, "Position Bias
    Estimation for Unbiased Learning to Rank in Personal Search". Clicks are taken for Poisson, with mean impressions x
    propensity x attractiveness, and not for Bernoulli: then a document's attractiveness cancels from the propensities.
    Bernoulli's come out far too high where each document has few impressions, as most have.

    A document that was always at one position is left out: it tells nothing of positions, since any propensity fits it
    with some attractiveness (Agarwal et al. 2019, "Estimating Position Bias without Intrusive Interventions"). Where no
    position varies, the result is the prior.
    """
    prior = 1.0 / np.arange(1, positions + 1) ** parameters.prior_eta
    varied = by_position.filter(pl.len().over("query_id", "doc_id") > 1).sort("query_id", "doc_id", "position")
    document = varied.select(pl.struct("query_id", "doc_id").rank("dense") - 1).to_series().to_numpy()
    position = varied["position"].to_numpy() - 1
    impressions, clicks = varied["impressions"].to_numpy(), varied["clicks"].to_numpy()
    clicked_document = np.bincount(document, clicks)
    clicked_position = np.bincount(position, clicks, minlength=positions)
    estimate = prior
    for _ in range(parameters.iterations):
        attractive = clicked_document / np.bincount(document, impressions * estimate[position])
        expected = np.bincount(position, impressions * attractive[document], minlength=positions)
        before = estimate
        estimate = (clicked_position + parameters.prior_looks * prior) / (expected + parameters.prior_looks)
        estimate = estimate / estimate[0]
        if np.abs(estimate - before).max() < parameters.tolerance:
            break
    examined: np.ndarray = np.minimum(estimate, 1.0)
    return examined
