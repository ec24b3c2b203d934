# environment: platform
"""How long new clicks take to change the answers: from the click that is enough to the first answer of the new set.

    envs/platform/.venv/bin/python -m bench.loop

Needs a running stack (`make up`) with its daemon. SIMULATED people search and click until there are enough clicks for
the feedback trigger; from then on nobody touches anything. Prints that time beside the sum of the runs within it
(feedback, what learns from it, promotion, each from its start to its end): the difference is what triggers, queue and
processes cost.
"""

import sys
import time

from bench._figures import tell, where
from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.training import PROMOTION, job_of
from deploy.stack.processes import postgres
from deploy.stack.search.searching import ask
from deploy.stack.traffic import simulation
from deploy.stack.traffic.simulation import TrafficRequest
from shared_ops.data import snapshots
from shared_ops.data.feedback import Feedbacks
from shared_ops.data.ubi import Store
from shared_ops.release.livesets import NOTHING_LIVE, LiveSet, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import Settings, repositories
from shared_ops.waiting import until

LONGEST_SECONDS = 1800
NOTICED_EARLIER = 10
"""How many seconds before the end of the last simulated session the trigger may have acted."""
SESSIONS_AT_ONCE = 20
"""Sessions between two counts of the clicks: few, as the click that was enough may have come in any of them."""


def main() -> None:
    """Measure and print."""
    settings = Settings()
    before = LiveSets(settings.staging_url("prod")).live()
    if before is None:
        sys.exit(NOTHING_LIVE)
    print(f"{where()}; set {before.number}, SIMULATED clicks")
    dagit = Dagit(settings.url("dagit"))
    dagit.settle(LONGEST_SECONDS)  # runs that an earlier change started must not count
    feedbacks = Feedbacks(settings.feedback_url("prod"))
    watermark = feedbacks.watermark()
    _click_until_enough(settings, watermark)
    began = time.time()
    live = _answering(settings, before, watermark, feedbacks)
    took = time.time() - began
    runs = _runs(dagit, began - NOTICED_EARLIER)
    trained = sum(runs.values())
    print(f"set {live.number} answers {took:.1f} s after the click that was enough")
    print("runs on its way: " + ", ".join(f"{job} {seconds:.1f} s" for job, seconds in runs.items()))
    print(f"their sum {trained:.1f} s; the rest is triggers, queue and processes")
    tell("from clicks to the new set answering, beside its runs", took - trained)


def _click_until_enough(settings: Settings, watermark: int) -> None:
    store, seed = Store(postgres.url(settings)), int(time.time())
    while store.clicks(store.window(watermark)) < settings.enough_clicks:
        simulation.simulate(settings, TrafficRequest(sessions=SESSIONS_AT_ONCE, seed=seed), lambda line: None)
        seed += 1


def _answering(settings: Settings, before: LiveSet, watermark: int, feedbacks: Feedbacks) -> LiveSet:
    """The set that learned from the new clicks, once the search app answers with it."""
    sets, staging = LiveSets(settings.staging_url("prod")), Staging(settings.staging_url("prod"))
    query = snapshots.load(before.snapshot).queries()["text"][0]

    def answering() -> LiveSet | None:
        live, newest = sets.live(), feedbacks.latest()
        if live and live != before and newest and feedbacks.watermark() > watermark:
            learned = staging.manifest(live.ranker, live.releases[live.ranker]).feedback
            if learned == newest and ask(settings, query, 1)["live_set"]["number"] == live.number:
                return live
        return None

    if live := until(answering, every=0.2, seconds=LONGEST_SECONDS):
        return live
    sys.exit(f"No set that learned from the new clicks is live after {LONGEST_SECONDS} s: make status says why.")


def _runs(dagit: Dagit, since: float) -> dict[str, float]:
    """The seconds that the newest run of each prod job since then took."""
    taught = [name for name, each in repositories().items() if each.role == "feedback" or each.feedback]
    jobs = [job_of(graph) for graph in (*taught, PROMOTION)]
    return {run.job: run.seconds for run in reversed(dagit.ended_runs(since)) if run.job in jobs}


if __name__ == "__main__":
    main()
