"""SIMULATED people whose searches teach nothing: asked before and after, they tell whether the order became better."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from deploy.stack.traffic import visits
from deploy.stack.traffic.search_client import SearchApp
from deploy.stack.traffic.visits import Wish

SESSIONS = 100
SURE = 2.0
"""Standard errors by which a mean difference must lie above 0."""


class HeldBack(BaseModel):
    """nDCG@10 of what these people were shown, by what would please them: means over their searches."""

    searches: int
    before: float
    after: float
    difference: float
    standard_error: float = Field(description="of the mean difference, search by search")

    @property
    def surely_better(self) -> bool:
        """Whether the order became better, and not by chance."""
        return self.difference > SURE * self.standard_error

    @property
    def sentence(self) -> str:
        """What was measured, in words."""
        return (
            f"{self.searches} searches of {SESSIONS} sessions that taught nothing: nDCG@10 {self.before:.3f} before, "
            f"{self.after:.3f} after, difference {self.difference:+.3f}, standard error {self.standard_error:.3f}"
            f" ({'surely better' if self.surely_better else 'it may be chance'})"
        )


def wishes_after(sessions: int, seed: int, usual: Sequence[Wish]) -> list[Wish]:
    """What those people would ask who come after the first `sessions` of the same seed."""
    planned = visits.plan(range(sessions, sessions + SESSIONS), seed, usual)
    return [wish for visit in planned for wish in visit.wishes]


def quality(app: SearchApp, wishes: Sequence[Wish]) -> list[float]:
    """nDCG@10 of the search app's present answer to each wish; the app is asked not to record these searches."""
    answers = (app.whole_search(wish.text, visits.PAGE_SIZE) for wish in wishes)
    return [
        visits.worth(wish, [hit["doc_id"] for hit in answer["hits"]])
        for wish, answer in zip(wishes, answers, strict=True)
    ]


def compared(before: Sequence[float], after: Sequence[float]) -> HeldBack:
    """Compare the nDCG@10 of the same searches before and after."""
    differences = np.subtract(after, before)
    return HeldBack(
        searches=len(differences),
        before=float(np.mean(before)),
        after=float(np.mean(after)),
        difference=float(differences.mean()),
        standard_error=float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else 0.0,
    )
