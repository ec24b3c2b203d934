"""Challengers of a known true difference, made of real per-query differences: for bench/gate.py and the tests."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from shared_ops.judge.evaluation import PRIMARY

FILE = Path(__file__).with_name("_differences.json")
"""Measured by `python -m bench.gate --measure`; it holds the differences that are not zero, and how many there are."""


def pairs() -> dict[str, np.ndarray]:
    """The real differences in nDCG@10, challenger minus champion, of each pair of settings."""
    return {
        name: np.concatenate([pair["changed"], np.zeros(pair["queries"] - len(pair["changed"]))])
        for name, pair in json.loads(FILE.read_text()).items()
    }


def challengers(pair: np.ndarray, true: float, queries: int, trials: int, seed: int) -> np.ndarray:
    """Differences of `trials` challengers whose expected difference is `true`: (trials, queries)."""
    return np.random.default_rng(seed).choice(pair, (trials, queries), p=_tilted(pair, true))


def _tilted(pair: np.ndarray, true: float) -> np.ndarray:
    """Each query's weight (len(pair),): exp(strength · difference), with the strength that makes the mean `true`."""
    from scipy.optimize import brentq

    def weights(strength: float) -> np.ndarray:
        raised = np.exp(strength * pair)
        return np.asarray(raised / raised.sum())

    return weights(brentq(lambda strength: weights(strength) @ pair - true, -50, 50))


def frames(differences: np.ndarray, slices: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """What the gate reads: challenger, champion, and members of `all` and of slices of equal sizes."""
    query_ids = [f"q{place:06}" for place in range(len(differences))]
    champion = np.where(differences < 0, -differences, 0.0)
    names = [f"slice {place % slices}" for place in range(len(differences))]
    members = pl.DataFrame({"query_id": query_ids * 2, "slice": ["all"] * len(query_ids) + names})
    challenger = pl.DataFrame({"query_id": query_ids, PRIMARY: champion + differences})
    return challenger, pl.DataFrame({"query_id": query_ids, PRIMARY: champion}), members
