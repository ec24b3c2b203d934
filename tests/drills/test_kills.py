"""kill -9 at random moments of trainings and promotions: whatever dies, what is live is whole, and nothing is lost."""

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import psutil
import pytest

from deploy.stack.dagit.client import Dagit, DagitError
from deploy.stack.dagit.training import FORCE
from deploy.stack.processes import postgres
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.data import storage
from shared_ops.data.ubi import Store
from shared_ops.release import promotion
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import families, live_repository
from tests.conftest import Stack, until
from tests.drills.conftest import finish, told_sets
from tests.drills.people import People
from tests.drills.victims import PREDICTION, RUN_WORKER, VICTIMS, alive, service, worker

pytestmark = pytest.mark.slow

SEED = 20261124
KILLS = 50
TRAINING, PROMOTION = "training", "promotion"
JOBS = {TRAINING: ("keyword_prod", "ranker_prod"), PROMOTION: ("rollback_prod",)}
MOMENTS = {"keyword_prod": 5.0, "ranker_prod": 14.0, "rollback_prod": 0.6}
"""Seconds in which the moment lies: a training's from when its process is there, a promotion's from its proposal."""
ATTEMPTS = 10
SOONER = 0.9
"""How the moment of an attempt compares with that of the one before: on a quick machine a process ends before it."""
BACK_SECONDS = 60
"""How long what was killed may be away."""


def back_to(number: int) -> dict[str, Any]:
    """A rollback's configuration."""
    return {"ops": {"set_of_the_past": {"config": {"set_number": number}}}}


@dataclass(frozen=True)
class Kill:
    """What is killed, in the middle of what, and how far into that."""

    during: str
    victim: str
    share: float


def plan(seed: int, kills: int) -> list[Kill]:
    """Every victim as often in trainings as in promotions, in random order, at random moments."""
    chance, pairs = random.Random(seed), list(product(JOBS, VICTIMS))
    chosen = [pairs[number % len(pairs)] for number in range(kills)]
    chance.shuffle(chosen)
    return [Kill(*pair, chance.random()) for pair in chosen]


class Drill:
    """A stack under fire."""

    def __init__(self, stack: Stack, dagit: Dagit, sets: LiveSets, staging: Staging) -> None:
        self.stack, self.dagit, self.sets, self.staging = stack, dagit, sets, staging
        self.chance = random.Random(SEED)
        self.killed: Counter[str] = Counter()
        self.moves: list[int] = [sets.live().number]
        """The numbers of the live sets that were seen."""
        self.releases = {name: "" for name in self._published()}
        """The run that made each release, by family and version; empty for those that were there before."""

    def kill(self, wanted: Kill) -> None:
        """Begin what is to be disturbed, wait for the moment, and kill."""
        begin = self._training if wanted.during == TRAINING else self._promotion
        if wanted.victim == PREDICTION:
            # To kill the last search model that answers leaves no answers, which is no fault of the other processes.
            until(self._all_answer, BACK_SECONDS, "the other prediction services are back")
        for attempt in range(ATTEMPTS):
            job, run = begin()
            time.sleep(wanted.share * MOMENTS[job] * SOONER**attempt)
            victim = run if wanted.victim == RUN_WORKER else service(wanted.victim, self.stack.settings, self.chance)
            if victim is not None and alive(run) and alive(victim):
                victim.kill()
                self.killed[f"{wanted.victim}, {wanted.during}"] += 1
                return
        raise AssertionError(f"{wanted} has not come about in {ATTEMPTS} attempts")

    def check(self) -> None:
        """What holds at every moment: a whole set is live, and every service that is up comes to agree with it."""
        live = self.live()
        for family in families():
            for version in {live.releases[family], self.staging.accepted(family)}:
                self.staging.fetch(family, version)
        for family, version in self._published():
            if (family, version) not in self.releases:
                self.releases[family, version] = self.staging.manifest(family, version).run_id
        until(self._agreed, BACK_SECONDS, "the services that are up answer with the live set")

    def live(self) -> LiveSet:
        """The live set: it can be read at any time, is complete, and one of those that are kept."""
        live = self.sets.live()
        assert set(live.releases) == set(families()) and self.sets.past(live.number) == live
        if live.number != self.moves[-1]:
            self.moves.append(live.number)
        return live

    def whole(self) -> bool:
        """Whether every process runs, and every service answers with the live set."""
        running = {state.state for state in Supervisor(self.stack.settings).states().values()} == {"RUNNING"}
        return running and self._all_answer() and self._agreed()

    def launch(self, location: str, job: str, config: dict[str, Any]) -> str:
        """Launch a run, as soon as Dagit and all that it needs are there."""
        launched: list[str] = []

        def tried() -> bool:
            try:
                launched.append(self.dagit.launch(location, job, config))
            except DagitError:
                return False
            return True

        until(tried, BACK_SECONDS, f"{job} is launched", pause=0.5)
        return launched[0]

    def _published(self) -> list[tuple[str, str]]:
        return [(family, version) for family in families() for version in self.staging.versions(family)]

    def _all_answer(self) -> bool:
        return len(told_sets(self.stack)) == len(families()) + 1

    def _agreed(self) -> bool:
        return set(told_sets(self.stack).values()) <= {self.live().number}

    def _training(self) -> tuple[str, psutil.Process]:
        """A training's process: the ranker's that a trigger has launched, or else keyword's."""
        process = worker(self.dagit, JOBS[TRAINING])
        if process is None:
            self.launch("keyword", "keyword_prod", FORCE)
            process = self._worker(TRAINING)
        return process

    def _promotion(self) -> tuple[str, psutil.Process]:
        """The process that has just proposed a set of the past."""
        others = [number for number in self.sets.numbers() if number != self.live().number]
        began, proposed = time.time(), storage.local_path(storage.join(self.sets.url, "proposed.json"))
        number = self.chance.choice(others)
        self.launch(live_repository(), "rollback_prod", back_to(number))
        process = self._worker(PROMOTION)

        def has_proposed() -> bool:
            # One that a killed promotion left behind is older; one that has just become live is there no more.
            with suppress(FileNotFoundError):
                return not alive(process[1]) or proposed.stat().st_mtime > began
            return False

        until(has_proposed, BACK_SECONDS, "a set is proposed", pause=0.002)
        return process

    def _worker(self, during: str) -> tuple[str, psutil.Process]:
        until(lambda: worker(self.dagit, JOBS[during]), BACK_SECONDS, f"a process of a {during} is there")
        return worker(self.dagit, JOBS[during]) or self._worker(during)


@pytest.fixture
def two_sets(dagit: Dagit, sets: LiveSets) -> None:
    """There is a set to go back to."""
    if len(sets.numbers()) < 2:
        number = sets.live().number
        assert finish(dagit, dagit.launch("keyword", "keyword_prod", FORCE)) == "SUCCESS"
        until(lambda: sets.live().number > number, 300, "the ranker's training and the promotion follow")
    dagit.settle()


def test_whatever_is_killed_what_is_live_is_whole_and_nothing_is_lost(
    stack: Stack,
    dagit: Dagit,
    sets: LiveSets,
    staging: Staging,
    queries: list[str],
    two_sets: None,
    say: Callable[[str], None],
) -> None:
    drill, began = Drill(stack, dagit, sets, staging), time.monotonic()
    with People(stack.settings.url("search"), queries, rate=4, clicks=True).searching() as people:
        for kill in plan(SEED, KILLS):
            drill.kill(kill)
            drill.check()
        dagit.settle()
        until(drill.whole, BACK_SECONDS, "everything is back")
        the_next_trigger_goes_through(drill)
    assert drill.killed.total() == KILLS and len(drill.killed) == len(VICTIMS) * len(JOBS)
    made = {name: run_id for name, run_id in drill.releases.items() if run_id}
    no_retry_made_a_second_release(dagit, made)
    stored = every_search_and_click_is_stored_once(stack, people)
    assert people.failed == {}
    say(
        f"kills: {KILLS} in {time.monotonic() - began:.0f} s ("
        + "; ".join(f"{what} {count}" for what, count in sorted(drill.killed.items()))
        + f"), the live set moved {len(drill.moves) - 1} times, {len(made)} releases were made; "
        f"{len(people.searches)} searches, {people.failed.total()} failed, {people.degraded.total()} parts missing; "
        f"{len(people.event_ids)} clicks sent in {people.sent} requests, {stored} stored, none lost, none doubled"
    )


def test_a_rollback_whose_process_dies_once_the_set_is_live_goes_back_once(
    stack: Stack, dagit: Dagit, sets: LiveSets, two_sets: None, environment: None
) -> None:
    """The run is tried again, and must not take the set before for the one to go back to once more."""
    two, one = sets.live(), sets.past(sets.numbers()[0])
    ranker = Staging(sets.url).manifest(one.ranker, one.releases[one.ranker])
    three = promotion.promote(sets, ranker, one.snapshot, "drill", services=True)
    run = dagit.launch(live_repository(), "rollback_prod")
    until(lambda: worker(dagit, ["rollback_prod"]), BACK_SECONDS, "its process is there")
    _, process = worker(dagit, ["rollback_prod"])
    until(lambda: sets.live() != three, BACK_SECONDS, "the set before is live", pause=0.001)
    process.kill()
    assert finish(dagit, run) == "SUCCESS" and dagit.run(run).status == "FAILURE"
    assert sets.live() == two


def the_next_trigger_goes_through(drill: Drill) -> None:
    """A new keyword release leads to a ranker and to a live set, as if nothing had been."""
    assert finish(drill.dagit, drill.launch("keyword", "keyword_prod", FORCE)) == "SUCCESS"
    keyword = drill.staging.accepted("keyword")
    until(lambda: drill.live().releases["keyword"] == keyword, 300, f"a set with keyword/{keyword} is live")
    until(drill.whole, BACK_SECONDS, "every service answers with it")
    drill.check()


def no_retry_made_a_second_release(dagit: Dagit, made: dict[tuple[str, str], str]) -> None:
    roots = [dagit.run(run_id).tags.get("dagster/root_run_id", run_id) for run_id in made.values()]
    assert [version[-8:] for _, version in made] == [root[:8] for root in roots]
    assert len(set(roots)) == len(roots)


def every_search_and_click_is_stored_once(stack: Stack, people: People) -> int:
    """Returns how many clicks are stored."""

    def feedback() -> dict[str, Any]:
        told: dict[str, Any] = stack.get("search", "/health").json()["feedback"]
        return told

    until(lambda: feedback()["waiting"] == 0, BACK_SECONDS, "all that was recorded is shipped", pause=1)
    assert feedback()["set_aside"] == 0 and feedback()["lost"] == 0 and people.not_taken == []
    store = Store(postgres.url(stack.settings))
    window = store.window(0)
    queries = Counter(query.query_id for query in store.each_query(window) if query.application == people.application)
    events = Counter(event.event_id for event in store.each_event(window) if event.application == people.application)
    answered = {search.answer["query_id"] for search in people.searches if search.status == 200}
    assert answered <= set(queries) and set(queries.values()) == {1}
    assert events == dict.fromkeys(people.event_ids, 1)
    return len(events)
