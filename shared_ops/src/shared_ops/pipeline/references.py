"""What travels between ops: small references, never models or tables, so that a graph runs in one process or in many.

Knows no Dagster. The first reference of a training is `inputs.Inputs`: what it learns from.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared_ops.data.feedback import FeedbackRef
from shared_ops.data.home_urls import HomeUrl
from shared_ops.judge.gating import Verdict
from shared_ops.release.inputs import Inputs
from shared_ops.release.releases import Metrics

BECAUSE = "searchloop/because"
"""The tag of every run that says why it was started, in words."""
BY_HAND = "started by hand in Dagit"
"""The value of BECAUSE where whoever started the run gave no other reason."""
VERDICT, REASON = "searchloop/verdict", "searchloop/reason"
"""The tags of a judged run: accepted or rejected, and why. Dagster's own status says only whether the run succeeded."""
NO_FEEDBACK = "none"
"""The `feedback_id` in the configuration of a run that learns from no feedback, even where there is some by now."""
UNCHANGED = "searchloop/unchanged"
"""The tag of a run that trained nothing, as a release is the result of just that; its value names the release."""
OVERTAKEN = "searchloop/overtaken"
"""The tag, with the reason, of a run that moved nothing, since what its trigger had found was no longer the newest."""
HELD = "searchloop/held"
"""The tag, with the reason, of a run that moved nothing, since somebody has frozen the live set or pinned a family."""
AGAIN = "searchloop/again"
"""The tag, with the reason, of a run that failed for a passing cause: its trigger starts another run."""


class Candidate(BaseModel):
    """A trained model that is not yet a release: its files and its hits lie in the folder at `url`."""

    model_config = ConfigDict(frozen=True)

    inputs: Inputs
    key: str = Field(description="of the training (Inputs.key)")
    code: str = Field(description="hash of the code that trained it, and that a release of it runs with")
    code_version: str = Field(description="hash of the part of this code that trains")
    environment: str = Field(description="SHA-256 of the lock of the environment that trained it")
    url: HomeUrl
    parameters: dict[str, Any]
    hyperparameters: dict[str, Any]

    @property
    def family(self) -> str:
        """Whose model it is."""
        return self.inputs.family


class Challenger(BaseModel):
    """A candidate with its metrics; per-query values of it and of the champion lie in its folder."""

    model_config = ConfigDict(frozen=True)

    candidate: Candidate
    metrics: Metrics = Field(description="per slice, on queries that nothing learned from")
    feedback: FeedbackRef | None = Field(description="the feedback whose newest sessions judge beside the test queries")
    champion: str | None = Field(description="the accepted release's version, None before the first that answers")
    challenger_ms: float = Field(description="median time of one query, in milliseconds")
    champion_ms: float | None


class GateResult(BaseModel):
    """A challenger with the gate's verdict."""

    model_config = ConfigDict(frozen=True)

    challenger: Challenger
    verdict: Verdict


class ReleaseRef(BaseModel):
    """A release in the staging area."""

    model_config = ConfigDict(frozen=True)

    family: str
    version: str
    accepted: bool


class JudgedSet(BaseModel):
    """A set that was judged end to end, named by its ranker's release: the manifest says what else is in it."""

    model_config = ConfigDict(frozen=True)

    family: str
    version: str
    accepted: bool
    over: int = Field(description="the number of the live set that it was judged against, 0 where there was none")
