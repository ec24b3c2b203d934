"""The loop with nobody touching it: SIMULATED people click, models learn, prove themselves, go live, and roll back.

One stack for all of it, in an order that builds up. The corpus is small and real; the clicks are simulated and marked.
"""

import time
import uuid
from collections import Counter

import httpx
import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.processes import postgres
from deploy.stack.traffic.simulation import Record
from shared_ops.data.feedback import Feedback
from shared_ops.data.ubi import SIMULATION, Store
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import families
from tests.conftest import Stack, asked_graphql, until

pytestmark = pytest.mark.slow

TREND = 3
SESSIONS = 200


@pytest.fixture(scope="module")
def first(sets: LiveSets) -> LiveSet:
    """The set that was live before anybody clicked."""
    return sets.live()


@pytest.fixture(scope="module")
def record(stack: Stack, first: LiveSet) -> Record:
    """SIMULATED people searched and clicked while some documents were in the news, and another set went live."""
    stack.make("simulate", f"SESSIONS={SESSIONS}", f"TREND={TREND}", "WATCH=1", "SEED=1", seconds=1200)
    written = sorted((stack.settings.home / "simulation").glob("*.json"))[-1]
    return Record.model_validate_json(written.read_text())


@pytest.fixture(scope="module")
def learned(dagit: Dagit, record: Record, sets: LiveSets, staging: Staging) -> LiveSet:
    """The live set once nothing is left to learn from the clicks: behavior and ranker both learned from them."""
    dagit.settle()
    live = sets.live()
    for family in ("behavior", "ranker"):
        assert staging.manifest(family, live.releases[family]).feedback, f"{family} of {live} learned from no click"
    return live


def test_clicks_alone_bring_a_new_set(first: LiveSet, learned: LiveSet) -> None:
    assert learned.number > first.number
    assert learned.releases["behavior"] != first.releases["behavior"]
    assert learned.releases["ranker"] != first.releases["ranker"]


def test_what_learns_from_no_clicks_is_not_trained_again(first: LiveSet, learned: LiveSet, staging: Staging) -> None:
    for family in ("keyword", "semantic"):
        assert learned.releases[family] == first.releases[family]
        assert staging.versions(family) == [first.releases[family]]


def test_the_documents_in_the_news_have_risen_for_their_queries(stack: Stack, record: Record, learned: LiveSet) -> None:
    assert len({trend.doc_id for trend in record.trends}) == TREND
    risen = 0
    for trend in record.trends:
        doc_ids = [hit["doc_id"] for hit in stack.search(trend.text, k=100)["hits"]]
        now = doc_ids.index(trend.doc_id) + 1
        assert now <= trend.before, f"{trend.doc_id} fell from {trend.before} to {now} for {trend.text!r}"
        risen += now < trend.before
    assert risen >= 0.8 * len(record.trends)


def test_every_search_and_click_is_stored_once_and_marked_as_simulated(stack: Stack, record: Record) -> None:
    store = Store(postgres.url(stack.settings))
    window = store.window(0)
    searches, events = store.queries(window), store.events(window)
    simulated = [event for event in events if event.application == SIMULATION]
    assert len(simulated) == record.counts.clicks
    assert max(Counter(event.event_id for event in events).values()) == 1
    shown = {search.query_id: search.query_response_hit_ids for search in searches}
    for event in simulated:
        object_id, position = event.event_attributes.object.object_id, event.event_attributes.position.ordinal
        assert shown[event.query_id][position - 1] == object_id


def test_releases_say_how_much_came_from_where(learned: LiveSet, staging: Staging) -> None:
    for family in ("behavior", "ranker"):
        manifest = staging.manifest(family, learned.releases[family])
        counts = Feedback(manifest.feedback).manifest().applications
        assert counts[SIMULATION].clicks > 0 and counts[SIMULATION].sessions > 0
    behavior = staging.manifest("behavior", learned.releases["behavior"]).hyperparameters["learned_from"]
    assert behavior["feedback"]["clicks"] > 0 and behavior["bootstrap (simulated)"]["clicks"] > 0
    ranker = staging.manifest("ranker", learned.releases["ranker"]).hyperparameters
    assert ranker["clicked/lists"] > 0 and ranker["judged/lists"] > 0


def test_the_ranker_was_served_the_features_that_training_computes(stack: Stack, learned: LiveSet) -> None:
    (check,) = asked_graphql(
        stack,
        """query { assetCheckExecutions(assetKey: {path: ["prod", "ranker", "release"]},
             checkName: "served_features", limit: 1) { status evaluation { description } } }""",
    )["assetCheckExecutions"]
    assert check["status"] == "SUCCEEDED" and " 0 unequal" in check["evaluation"]["description"]
    assert not check["evaluation"]["description"].startswith("0 served requests")


def test_every_trigger_says_why(stack: Stack, learned: LiveSet) -> None:
    data = asked_graphql(
        stack,
        """query { sensorsOrErrors: repositoriesOrError { ... on RepositoryConnection { nodes { sensors {
             name sensorState { status ticks(limit: 5) { status skipReason runIds error { message } } } } } } } }""",
    )
    sensors = {
        each["name"]: each["sensorState"] for node in data["sensorsOrErrors"]["nodes"] for each in node["sensors"]
    }
    expected = {f"{family}_new_data" for family in families()} | {"sources_changed", "enough_clicks", "drift"}
    assert expected | {"new_accepted_ranker", "failed_runs"} <= set(sensors)
    for name in expected:
        state = sensors[name]
        assert state["status"] == "RUNNING", name
        for tick in state["ticks"]:
            assert tick["error"] is None and (tick["skipReason"] or tick["runIds"] or tick["status"] == "STARTED"), name


def test_the_gates_verdicts_stand_in_dagit_with_their_numbers(stack: Stack, learned: LiveSet) -> None:
    for path, name in ((["prod", "behavior", "challenger"], "gate"), (["prod", "proposed_set"], "end_to_end")):
        (check,) = asked_graphql(
            stack,
            """query ($path: [String!]!, $name: String!) { assetCheckExecutions(assetKey: {path: $path},
                 checkName: $name, limit: 1) { status evaluation { description metadataEntries { label } } } }""",
            path=path,
            name=name,
        )["assetCheckExecutions"]
        labels = {entry["label"] for entry in check["evaluation"]["metadataEntries"]}
        assert {"difference", "confidence_low", "confidence_high", "p_value", "queries", "slices"} <= labels


def newest_set_of_dagit(stack: Stack) -> int:
    query = """query { assetOrError(assetKey: {path: ["prod", "live_set"]}) { ... on Asset {
        assetMaterializations(limit: 1) { metadataEntries { label ... on IntMetadataEntry { intValue } } } } } }"""
    (told,) = asked_graphql(stack, query)["assetOrError"]["assetMaterializations"]
    number: int = next(entry["intValue"] for entry in told["metadataEntries"] if entry["label"] == "set")
    return number


def test_a_rollback_answers_with_the_set_before_and_stays(stack: Stack, sets: LiveSets, learned: LiveSet) -> None:
    before = stack.make("rollback", "WHY=a wrong order").stdout
    back = sets.live()
    assert sets.moves()[0].number == back.number and sets.moves()[0].note.endswith(": a wrong order")
    assert newest_set_of_dagit(stack) == back.number
    assert back.number < learned.number and f"live set {back.number}" in before
    assert stack.search("sort", k=1)["live_set"]["number"] == back.number
    time.sleep(15)  # the promotion trigger has looked meanwhile, and left it alone
    assert sets.live() == back
    stack.make("rollback", f"SET={learned.number}")
    assert sets.live() == learned


def test_lineage_goes_from_the_sources_to_the_weights(stack: Stack, learned: LiveSet) -> None:
    told = stack.make("lineage").stdout
    for family, version in learned.releases.items():
        assert f"{family}/{version}" in told
    assert "SIMULATED" in told and learned.snapshot.id in told and "SHA-256" in told and "kind pydocs" in told


@pytest.mark.parametrize("family", list(families()))
def test_a_release_can_be_trained_again_bit_for_bit(stack: Stack, learned: LiveSet, family: str) -> None:
    told = stack.make("reproduce", f"RELEASE={family}/{learned.releases[family]}", seconds=600).stdout
    assert "are the same, bit for bit" in told


def test_status_shows_the_live_set_and_its_metrics(stack: Stack, learned: LiveSet) -> None:
    told = stack.make("status").stdout
    assert f"live set {learned.number}" in told and all(version in told for version in learned.releases.values())


def ticks_of(stack: Stack, location: str, sensor: str) -> list[str]:
    """What a sensor's newest ticks said, where they started nothing."""
    query = """query ($name: String!, $location: String!) { sensorOrError(sensorSelector: {sensorName: $name,
        repositoryLocationName: $location, repositoryName: "__repository__"}) { ... on Sensor {
        sensorState { ticks(limit: 3) { skipReason } } } } }"""
    told = asked_graphql(stack, query, name=sensor, location=location)
    return [tick["skipReason"] or "" for tick in told["sensorOrError"]["sensorState"]["ticks"]]


def test_a_training_that_was_cancelled_is_made_again_as_its_trigger_says(
    stack: Stack, dagit: Dagit, sets: LiveSets, staging: Staging, learned: LiveSet
) -> None:
    def of_ranker() -> list[str]:
        return [run.run_id for run in dagit.in_flight() if run.job == "ranker_prod"]

    stack.make("train", "REPO=keyword", "FORCE=1")
    until(of_ranker, 120, "the new keyword release starts the ranker's training")
    dagit.cancel(of_ranker())
    advice = "again by itself: make train REPO=ranker."
    until(lambda: advice in " ".join(ticks_of(stack, "ranker", "ranker_new_data")), 120, "its trigger says what to do")
    assert sets.live() == learned
    stack.make("train", "REPO=ranker")
    assert sets.live().releases["keyword"] == staging.accepted("keyword") != learned.releases["keyword"]


def test_invented_sessions_with_one_click_each_bring_no_document_up(
    stack: Stack, dagit: Dagit, learned: LiveSet
) -> None:
    query, invented = "sort an array", 220
    before = [hit["doc_id"] for hit in stack.search(query, k=50)["hits"]]
    wanted = before[29]
    with httpx.Client(base_url=stack.settings.url("search"), timeout=30) as client:
        for _ in range(invented):
            session = uuid.uuid4().hex
            answer = client.get("/search", params={"q": query, "k": 50}, headers={"x-session-id": session}).json()
            position = [hit["doc_id"] for hit in answer["hits"]].index(wanted) + 1
            click = {
                "action_name": "click",
                "event_id": uuid.uuid4().hex,
                "query_id": answer["query_id"],
                "session_id": session,
                "event_attributes": {"object": {"object_id": wanted}, "position": {"ordinal": position}},
            }
            assert client.post("/events", json=click).status_code == 202
    check = """query { assetCheckExecutions(assetKey: {path: ["prod", "feedback"]}, checkName: "bursts",
        limit: 1) { evaluation { success description } } }"""

    def told() -> str:
        description: str = asked_graphql(stack, check)["assetCheckExecutions"][0]["evaluation"]["description"]
        return description

    until(lambda: query in told(), 300, "the burst is told, with its query")
    dagit.settle()
    after = [hit["doc_id"] for hit in stack.search(query, k=50)["hits"]]
    assert after.index(wanted) >= 20, f"from 30 to {after.index(wanted) + 1}: {told()}"
