"""What travels between ops: small references, never models or tables. Then one graph runs in one process or in many.

Knows no Dagster.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared_ops.gating import Verdict
from shared_ops.releases import Metrics
from shared_ops.snapshots import SnapshotRef


class Candidate(BaseModel):
    """A trained model that is not yet a release: its files and its hits lie in the folder at `url`."""

    model_config = ConfigDict(frozen=True)

    family: str
    url: str
    snapshot: SnapshotRef
    parameters: dict[str, Any]
    hyperparameters: dict[str, Any]
    learned_from: dict[str, str] = {}
    inputs: dict[str, Any] = {}


class Evaluated(BaseModel):
    """A candidate with its metrics; per-query values of it and of the champion lie in its folder."""

    model_config = ConfigDict(frozen=True)

    candidate: Candidate
    metrics: Metrics = Field(description="on the test split, per slice")
    champion: str | None = Field(description="the accepted release's version, None before the first")


class Judged(BaseModel):
    """An evaluated candidate with the gate's verdict."""

    model_config = ConfigDict(frozen=True)

    evaluated: Evaluated
    verdict: Verdict


class Staged(BaseModel):
    """A release in the staging area."""

    model_config = ConfigDict(frozen=True)

    family: str
    version: str
    accepted: bool
