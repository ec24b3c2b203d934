"""A team changes its family's code, format, packages or Python; a family is added and removed, and a ranker.

Each change reaches the people who search with its set, through the gates, and goes back with it. They search all the
while: none fails, no answer lacks a model, and each is just what its set's releases make of the query in their own code
and environment. The stack runs from a copy of the checkout, with environments of its own.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.data import snapshots
from shared_ops.release import runtimes
from shared_ops.release.agreement import disagreements
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import families
from tests.conftest import Stack, asked_graphql, until
from tests.drills.checkouts import FAMILY, ONE_PACKAGE_MORE, Checkout, another_python, sitting
from tests.drills.conftest import finish
from tests.drills.people import People, Search

pytestmark = pytest.mark.slow

ADDED, RANKS = "trending", "blend"
"""The search family and the ranker that docs/adding-a-model.md adds."""
RATE, CALM = 20, 2
"""Searches a second; and while models are trained, where the machine is too slow for both."""
QUICK_MS = 40
"""A machine whose idle stack answers a search in this time carries RATE beside trainings, too."""
QUERIES = 10
SHOWN = 10
MODEL = f"repos/{FAMILY}/model.py"
THE_LINE = ("score_row[:count].tolist()", "(1000 * score_row[:count]).tolist()")
"""A line of the model, and what it is changed to."""
FORMATS = {
    FAMILY: ("index.safetensors", "postings.safetensors"),
    "ranker": ("ranker.safetensors", "weights.safetensors"),
}
"""What a family's file is called, and what it is called in another format."""
BY_HAND = """
import importlib, json, sys
family, folder, *texts = sys.argv[1:]
from pathlib import Path
model = importlib.import_module(f"repos.{family}.model").load(Path(folder))
print(json.dumps([model.search([text], 100)[0] for text in texts]))
"""

UPSTREAM = """
query { repositoriesOrError { ... on RepositoryConnection { nodes {
  location { name } assetNodes { assetKey { path } dependencyKeys { path } }
} } } }
"""

Order = list[tuple[str, float]]


@dataclass
class House:
    """The stack, the checkout that it runs from, and what each of its sets makes of the queries.

    `expected` holds their final order, `scores` the hits of FAMILY alone: a ranker may scale a change of those away.
    """

    checkout: Checkout
    stack: Stack
    rate_beside_trainings: int = RATE
    say: Callable[[str], None] = field(default=print)
    expected: dict[int, dict[str, Order]] = field(default_factory=dict)
    scores: dict[int, list[Order]] = field(default_factory=dict)
    searching: People | None = None

    @property
    def sets(self) -> LiveSets:
        return LiveSets(self.stack.settings.staging_url("prod"))

    @property
    def staging(self) -> Staging:
        return Staging(self.stack.settings.staging_url("prod"))

    @property
    def live(self) -> LiveSet:
        live = self.sets.live()
        assert live is not None
        return live

    @property
    def queries(self) -> list[str]:
        return snapshots.load(self.live.snapshot).queries("train").sort("query_id")["text"].to_list()[:QUERIES]

    def manifest(self, family: str = FAMILY, of: LiveSet | None = None) -> ReleaseManifest:
        return self.staging.manifest(family, (of or self.live).releases[family])

    def runtime(self, family: str = FAMILY) -> Runtime:
        return runtimes.of_release(self.staging.url, family, self.live.releases[family])

    def asked(self, family: str, path: str, **question: object) -> Order:
        """What the worker of the live set's release answers."""
        with runtimes.client(self.runtime(family).socket(self.stack.settings), 30) as client:
            body = {"release": self.live.releases[family], **question}
            answer = client.post(f"http://localhost/{path}", json=body).raise_for_status().json()
        return list(zip(answer["doc_ids"], answer["scores"], strict=True))

    def learn(self) -> LiveSet:
        """See that everybody answers with the live set, as it did before, and remember what it makes of each query."""
        until(lambda: not disagreements(self.stack.settings), 30, f"all answer as set {self.live.number} says")
        live = self.live
        scores = [self.asked(FAMILY, "search", query=query, k=SHOWN) for query in self.queries]
        assert self.scores.setdefault(live.number, scores) == scores
        if live.number not in self.expected:
            self.expected[live.number] = {query: self._final(live, query) for query in self.queries}
        return live

    def _final(self, live: LiveSet, query: str) -> Order:
        orders = {family: self.asked(family, "search", query=query, k=100) for family in live.search_families}
        hits = {
            family: {"doc_ids": [doc for doc, _ in order], "scores": [score for _, score in order]}
            for family, order in orders.items()
        }
        return self.asked(live.ranker, "rank", query=query, hits=hits)[:SHOWN]

    def by_hand(self, family: str = FAMILY) -> list[Order]:
        """The answers of a script that loads the live release in its own code and environment."""
        runtime, settings = self.runtime(family), self.stack.settings
        folder = self.staging.fetch(family, self.live.releases[family])
        done = subprocess.run(
            [str(self.python(runtime)), "-c", BY_HAND, family, str(folder), *self.queries],
            env=self.stack.environment | runtime.variables(settings), cwd=self.checkout.root, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return [[(doc_id, score) for doc_id, score in order] for order in json.loads(done.stdout)]

    def python(self, runtime: Runtime) -> Path:
        """The Python of a runtime's environment."""
        folders = [*self.checkout.root.glob("envs/*/.venvs/*"), *self.stack.settings.home.glob("environments/*")]
        return next(each for each in folders if runtimes.made_from(each) == runtime.environment) / "bin" / "python"

    @contextmanager
    def people(self, what: str) -> Iterator[People]:
        """People search all the while; in the end nothing has failed, nothing was lacking, and nothing was mixed."""
        self.learn()
        with People(self.stack.settings.url("search"), self.queries, RATE).searching() as people:
            self.searching = people
            yield people
            self.learn()
        numbers = sorted({search.answer["live_set"]["number"] for search in people.searches if search.answer})
        mixed = [search for search in people.searches if search.status == 200 and not self._is_of_its_set(search)]
        self.say(
            f"{what}: {len(people.searches)} searches, {RATE} a second, {self.rate_beside_trainings} while models are "
            f"trained; {people.failed.total()} failed, "
            f"{people.degraded.total()} lacked a model, {len(mixed)} mixed; answered by sets {numbers}; "
            f"p50 {people.quantile(0.5):.0f} ms, p99 {people.quantile(0.99):.0f} ms"
        )
        assert people.failed == {} and people.degraded == {} and mixed == []

    def _is_of_its_set(self, search: Search) -> bool:
        shown = [(hit["doc_id"], hit["score"]) for hit in search.answer["hits"]]
        return shown == self.expected[search.answer["live_set"]["number"]][search.query]

    def trained(self, *arguments: str) -> tuple[LiveSet, str]:
        """`make train` brings a new set; returns it, and what was said."""
        assert self.searching is not None
        before, self.searching.rate = self.live, self.rate_beside_trainings
        with ThreadPoolExecutor(1) as pool:
            training = pool.submit(self.stack.make, "train", *arguments)
            until(lambda: training.done() or self.sets.proposed(), 900, "a set is proposed")
            self.searching.rate = RATE
            said = training.result().stdout
        assert self.live.number > before.number, said
        return self.learn(), said

    def there_and_back(self, before: LiveSet, after: LiveSet) -> None:
        """A rollback brings back the set before, and the set after comes again by its number."""
        self.stack.make("rollback", f"SET={before.number}")
        assert self.learn() == before
        self.stack.make("rollback", f"SET={after.number}")
        assert self.learn() == after


@pytest.fixture(scope="module")
def house(copied: tuple[Checkout, Stack]) -> House:
    made = House(*copied)
    if median_ms(made) > QUICK_MS:
        made.rate_beside_trainings = CALM
    return made


def median_ms(house: House) -> float:
    """The median of the milliseconds that a search takes, one after the other."""
    with httpx.Client(base_url=house.stack.settings.url("search"), timeout=30, trust_env=False) as client:
        fresh = {"cache-control": "no-cache"}
        answers = [client.get("/search", params={"q": query}, headers=fresh) for query in 5 * house.queries]
    return median(answer.raise_for_status().elapsed.total_seconds() * 1000 for answer in answers)


@pytest.fixture(autouse=True)
def _prints(house: House, say: Callable[[str], None]) -> None:
    house.say = say


def reload(house: House, *names: str) -> None:
    for family in names or (FAMILY,):
        house.stack.make("code-server", f"REPO={family}")


def times(factor: float, orders: list[Order]) -> list[Any]:
    return [[(doc_id, pytest.approx(factor * score, rel=1e-5)) for doc_id, score in order] for order in orders]


def test_changed_code_goes_live_with_its_set_and_back_with_it(house: House) -> None:
    before, scores = house.learn(), house.by_hand()
    with house.people("code changed"):
        house.checkout.change(MODEL, *THE_LINE)
        reload(house)
        assert [house.asked(FAMILY, "search", query=query) for query in house.queries] == scores
        after, _ = house.trained()
        assert house.by_hand() == times(1000, scores)
        assert [house.asked(FAMILY, "search", query=query) for query in house.queries] == house.by_hand()
        house.there_and_back(before, after)
    assert house.manifest().code != house.manifest(of=before).code


def test_a_restart_brings_people_no_code_that_no_gate_let_through(house: House) -> None:
    before = house.learn()
    house.checkout.change(MODEL, "1000 * score_row", "7 * score_row")
    configuration = house.checkout.root / "deploy" / "dagster.yaml"
    configuration.write_text(configuration.read_text() + "# of another version\n")
    told = house.stack.make("up", check=False)
    advised = re.search(r"another version of the platform's code .* make (down), then make (up)\.$", told.stdout, re.M)
    assert told.returncode and advised, told.stdout
    for command in advised.groups():
        house.stack.make(command)
    assert house.learn() == before
    house.checkout.change(MODEL, "7 * score_row", "1000 * score_row")
    reload(house)


def test_a_changed_format_lock_and_python_are_no_dead_end(house: House) -> None:
    """The champion is measured in its own code and environment, and each is there to go back to."""
    before, python = house.learn(), another_python()
    with house.people(f"format and lock changed, {f'Python {python[0]}' if python else 'no other Python here'}"):
        for family, (old, new) in FORMATS.items():
            model = house.checkout.root / "repos" / family / "model.py"
            model.write_text(model.read_text().replace(old, new))
        requirements = house.checkout.root / "envs" / FAMILY / "requirements.in"
        requirements.write_text(requirements.read_text() + ONE_PACKAGE_MORE)
        if python:
            (house.checkout.root / "envs" / FAMILY / ".python-version").write_text(f"{python[0]}\n")
        house.stack.make("lock", f"REPO={FAMILY}")
        house.stack.make("envs")
        told = house.stack.make("up").stdout
        advised = re.search(rf"code-{FAMILY} .* which has changed: make (code-server) (REPO={FAMILY})$", told, re.M)
        assert advised, told
        house.stack.make(*advised.groups())
        reload(house, *set(FORMATS) - {FAMILY})
        after, _ = house.trained()
        house.there_and_back(before, after)
    said = house.stack.make("reproduce", f"RELEASE={FAMILY}/{before.releases[FAMILY]}").stdout
    assert "7 of 7 files are the same, bit for bit" in said
    for family, files in FORMATS.items():
        held = [{entry.path for entry in house.manifest(family, each).files} & {*files} for each in (before, after)]
        assert held == [{files[0]}, {files[1]}]
    assert house.manifest().environment != house.manifest(of=before).environment
    if python:
        asked = [str(house.python(house.runtime())), "--version"]
        assert f"Python {python[0]}." in subprocess.run(asked, capture_output=True, text=True, check=True).stdout


def test_code_and_packages_that_are_taken_back_bring_their_release_back(house: House) -> None:
    changed = house.learn()
    before = house.sets.past(changed.number - 1)
    assert before is not None
    with house.people("code, lock and Python taken back"):
        house.checkout.restore(*(f"repos/{family}/model.py" for family in FORMATS), "envs/keyword")
        house.checkout.change(MODEL, *THE_LINE)
        house.stack.make("envs")
        reload(house, *FORMATS)
        again, said = house.trained()
    old, new = (f"{FAMILY}/{each.releases[FAMILY]}" for each in (before, changed))
    assert f"{old} is accepted again, in place of {new}" in said
    assert again.number > changed.number and again.releases == before.releases


def pids(house: House) -> dict[str, int]:
    """The pids of everything that runs, except the workers, which come and go with the sets."""
    running = Supervisor(house.stack.settings)
    return {name: state.pid for name, state in running.states().items() if name not in running.workers()}


def upstream(house: House, location: str, *path: str) -> set[str]:
    """The families whose releases Dagit draws an arrow from, to this asset, as a location's definitions have it."""
    nodes = asked_graphql(house.stack, UPSTREAM)["repositoriesOrError"]["nodes"]
    (assets,) = [node["assetNodes"] for node in nodes if node["location"]["name"] == location]
    (asset,) = [each for each in assets if each["assetKey"]["path"] == [*path]]
    keys = [each["path"] for each in asset["dependencyKeys"]]
    return {key[1] for key in keys if key[0] == path[0] and key[-1] == "release"}


def test_a_family_that_is_added_takes_part_once_a_ranker_has_learned_from_it(house: House) -> None:
    before, running, (new, tests, up, train) = house.learn(), pids(house), sitting("In")
    with house.people("a family added"):
        house.stack.make(*new)
        house.stack.make(*tests)
        said = house.stack.make(*up).stdout
        assert {name: pid for name, pid in pids(house).items() if name in running} == running, said
        assert set(pids(house)) - set(running) == {f"code-{ADDED}"}
        dagit = Dagit(house.stack.settings.url("dagit"))
        assert ADDED in dagit.load_errors()
        assert upstream(house, "live", "prod", "proposed_set") == {*before.releases, ADDED}
        assert upstream(house, "ranker", "prod", "ranker", "challenger") == {*before.search_families, ADDED}
        assert finish(dagit, dagit.launch(ADDED, f"{ADDED}_dev")) == "SUCCESS"
        after, _ = house.trained(*train[1:])
        assert set(after.releases) == {*before.releases, ADDED}
        house.there_and_back(before, after)
    assert ADDED in house.manifest("ranker").learned_from
    assert f"{ADDED} " in httpx.get(house.stack.settings.url("search"), params={"q": house.queries[0]}).text


def test_a_ranker_that_is_added_takes_no_place_unless_it_is_better_or_a_person_says_so(house: House) -> None:
    before, (new, tests, up, train) = house.learn(), sitting("A ranker")
    with house.people("a ranker added"):
        for command in (new, tests, up):
            house.stack.make(*command)
        said = house.stack.make(*train).stdout
        assert f"To take the place of {before.ranker}, another family, it has to rule out any loss. Rejected" in said
        assert house.live == before
        house.stack.make("promote", f"RELEASES={RANKS}/{house.staging.accepted(RANKS)}", "WHY=a drill")
        after = house.learn()
        assert after.ranker == RANKS and after.search_families == before.search_families
        house.there_and_back(before, after)
    assert f"{before.ranker:<9} takes no part in this set: {RANKS} is its ranker" in house.stack.make("status").stdout


def test_a_ranker_that_is_removed_gives_its_place_back(house: House) -> None:
    """Though what takes it was decided upon before: nothing has to be trained for it."""
    with house.people("a ranker removed"):
        house.stack.make("remove-repo", f"NAME={RANKS}")
        house.stack.make("up")
        until(lambda: house.live.ranker != RANKS, 300, "another ranker's set is live")
        house.learn()
        until(lambda: not workers_of(house, RANKS), 30, f"the worker of {RANKS} has ended")


def test_a_family_that_is_removed_answers_until_a_ranker_does_without_it(house: House) -> None:
    before, running, (remove, up, train) = house.learn(), pids(house), sitting("Out")
    house.stack.make("freeze", "WHY=the ranker's trigger is quicker than a drill that looks")
    with house.people("a family removed"):
        house.stack.make(*remove)
        said = house.stack.make(*up).stdout
        assert upstream(house, "live", "prod", "proposed_set") == {*families()}
        shown = asked_graphql(house.stack, UPSTREAM)["repositoriesOrError"]["nodes"]
        keys = [asset["assetKey"]["path"] for node in shown for asset in node["assetNodes"]]
        assert keys and not [key for key in keys if ADDED in key]
        assert f"code-{ADDED}" in said and set(running) - set(pids(house)) == {f"code-{ADDED}"}
        assert "not in repos/repos.toml any more" in house.stack.make("status").stdout
        assert house.live == before and house.asked(ADDED, "search", query=house.queries[0])
        house.stack.make("thaw")
        after, _ = house.trained(*train[1:])
        assert set(after.releases) == {*families()}
        until(lambda: not workers_of(house, ADDED), 30, f"the worker of {ADDED} has ended")
        house.there_and_back(before, after)
        until(lambda: not workers_of(house, ADDED), 30, f"the worker of {ADDED} has ended again")


def workers_of(house: House, family: str) -> list[str]:
    return [name for name in Supervisor(house.stack.settings).workers() if name.startswith(f"{family}-")]
