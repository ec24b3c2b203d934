"""A set goes live when every service is ready for it; otherwise what is live stays."""

import json
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Never

import pytest

from shared_ops.data import storage
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.data.wire import WIRE
from shared_ops.release import promotion
from shared_ops.release.agreement import disagreements
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.promotion import OvertakenError, PromotionError, TakenBackError, promote, rollback
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.release.runtimes import Runtime, RuntimeMissingError, of_release
from shared_ops.settings import Settings, families, search_families

SNAPSHOT = SnapshotRef(id="s", url="file:///s")
HEALTH = {"service": "a host", "status": "ok", "live_set": None, "held": [], "sets": [], "reason": None}
"""What the first hosts said of themselves; they named neither their code nor a version of the wire."""

States = dict[str, dict[str, Any]]
"""What each service answers of a set."""


@pytest.fixture
def sets(tmp_path: Path) -> LiveSets:
    """No set yet, and some releases of every family, which name no code."""
    staging, folder = Staging((tmp_path / "staging" / "prod").as_uri()), tmp_path / "release"
    folder.mkdir()
    for family in search_families():
        for version in ("v1", "v2"):
            staging.publish(folder, manifest(family, version))
    for version in ("v1", "r1", "r2", "r3"):
        staging.publish(folder, ranker(version))
    return LiveSets(staging.url)


def ranker(version: str = "v1", **learned_from: str) -> ReleaseManifest:
    return manifest("ranker", version, learned_from=dict.fromkeys(search_families(), "v1") | learned_from)


def manifest(family: str, version: str, **more: Any) -> ReleaseManifest:
    return ReleaseManifest(
        family=family, version=version, created_at=datetime.now(UTC), snapshot=SNAPSHOT, parameters={},
        hyperparameters={}, metrics={}, gate={"accepted": True}, environment="", code_version="", deployment="prod",
        run_id="r", **more,
    )  # fmt: skip


class OnSocket(ThreadingHTTPServer):
    """A server on a Unix socket, as a worker is."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", 0


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[States]:
    """Every family's worker, and the search app; yields the answer of each, which a test may change."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path))
    settings = Settings()
    settings.sockets.mkdir(exist_ok=True)
    states: States = {name: {"state": "ready"} for name in [*families(), "search"]}
    servers, ports = [], {}
    for name in states:

        class ServiceHandler(BaseHTTPRequestHandler):
            service = name

            def do_GET(self) -> None:
                number = self.path.removeprefix("/sets/")
                asked = HEALTH if self.path == "/health" else {"number": int(number), "reason": None}
                body = json.dumps({**asked, **states[self.service]}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        if name == "search":
            server = ThreadingHTTPServer(("127.0.0.1", 0), ServiceHandler)
        else:
            address: Any = str(Runtime(name, "", "").socket(settings))  # typeshed knows ports alone
            server = OnSocket(address, ServiceHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        ports[name] = server.server_port
    monkeypatch.setattr("shared_ops.settings.Settings.ports", ports)
    yield states
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_goes_live_when_all_are_ready(sets: LiveSets, services: States) -> None:
    live = promote(sets, ranker(), SNAPSHOT, "first", services=True)
    assert sets.live() == live and sets.proposed() is None


def test_it_waits_for_one_that_still_loads(sets: LiveSets, services: States) -> None:
    services["ranker"] = {"state": "loading"}
    threading.Timer(0.5, lambda: services.update(ranker={"state": "ready"})).start()
    assert promote(sets, ranker(), SNAPSHOT, "first", services=True).number == 1


def test_one_that_cannot_load_it_keeps_the_live_set(sets: LiveSets, services: States) -> None:
    before = promote(sets, ranker(), SNAPSHOT, "first", services=True)
    services["semantic"] = {"state": "failed", "reason": "a file changed."}
    with pytest.raises(PromotionError, match=r"semantic could not load set 2: a file changed\."):
        promote(sets, ranker("r2", semantic="v2"), SNAPSHOT, "second", services=True)
    assert sets.live() == before and sets.proposed() is None


def test_what_is_no_state_of_a_set_is_not_taken_for_one(sets: LiveSets, services: States) -> None:
    services["semantic"] = {"state": "splendid"}
    with pytest.raises(PromotionError, match=r"was not loaded by semantic .*last: semantic: not reached"):
        promote(sets, ranker(), SNAPSHOT, "first", services=True, timeout_s=0.5)


def test_one_that_speaks_another_version_of_the_wire_keeps_the_live_set(sets: LiveSets, services: States) -> None:
    services["semantic"] = {"state": "ready", "wire": 99}
    with pytest.raises(PromotionError, match="semantic could not load set 1: It speaks version 99 of the wire"):
        promote(sets, ranker(), SNAPSHOT, "first", services=True)
    services["semantic"] = {"state": "ready", "wire": WIRE}
    assert promote(sets, ranker(), SNAPSHOT, "first", services=True) == sets.live()


def test_a_search_app_that_was_started_with_an_older_wire_is_asked_to_be_started_anew(
    sets: LiveSets, services: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not read the workers' answers, although this code, which is newer, could."""
    monkeypatch.setattr(promotion, "WIRE", 2)
    monkeypatch.setattr(promotion, "SPOKEN", (1, 2))
    services["keyword"] = {"state": "ready", "wire": 2}
    with pytest.raises(PromotionError, match=r"search could not load set 1: It speaks version 1.*make down, then"):
        promote(sets, ranker(), SNAPSHOT, "first", services=True)
    services["search"] = {"state": "ready", "wire": 2}
    assert promote(sets, ranker(), SNAPSHOT, "first", services=True) == sets.live()


def test_one_that_never_answers_ends_the_wait(sets: LiveSets, services: States) -> None:
    services["keyword"] = {"state": "loading"}
    with pytest.raises(PromotionError, match=r"not loaded by keyword within"):
        promote(sets, ranker(), SNAPSHOT, "first", services=True, timeout_s=0.5)
    assert sets.live() is None and sets.proposed() is None


def test_a_set_holds_its_ranker_and_just_what_that_learned_from(sets: LiveSets) -> None:
    live = promote(sets, manifest("ranker", "r9", learned_from={"keyword": "v2"}), SNAPSHOT, "", services=False)
    assert live.releases == {"keyword": "v2", "ranker": "r9"}
    assert live.roles == {"keyword": "search", "ranker": "rank"}
    assert live.search_families == ["keyword"] and live.ranker == "ranker"


def test_a_ranker_that_the_list_does_not_name_is_one_by_its_manifest(sets: LiveSets) -> None:
    live = promote(sets, manifest("novel", "r1", learned_from={"trending": "t1"}), SNAPSHOT, "", services=False)
    assert live.search_families == ["trending"] and live.ranker == "novel" and sets.live() == live


def test_what_is_no_ranker_makes_no_set(sets: LiveSets) -> None:
    with pytest.raises(PromotionError, match=r"keyword/v1 learned from no family's hits"):
        promote(sets, manifest("keyword", "v1"), SNAPSHOT, "", services=False)


def test_a_set_that_was_made_before_sets_said_so_has_the_roles_of_the_list(sets: LiveSets) -> None:
    fields = promote(sets, ranker(), SNAPSHOT, "", services=False).model_dump(mode="json")
    before = LiveSet.model_validate({name: value for name, value in fields.items() if name != "roles"})
    assert before == sets.live()


def test_the_same_set_again_changes_nothing(sets: LiveSets) -> None:
    first = promote(sets, ranker(), SNAPSHOT, "first", services=False)
    assert promote(sets, ranker(), SNAPSHOT, "again", services=False) == first


def sets_of(sets: LiveSets, count: int) -> list[LiveSet]:
    """Promote so many sets, each with a ranker of its own; returns them. The last one is live."""
    for number in range(1, count + 1):
        promote(sets, ranker(f"r{number}"), SNAPSHOT, f"set {number}", services=False)
    return [sets.past(number) for number in range(1, count + 1)]


def test_a_rollback_makes_the_set_before_live_again(sets: LiveSets, services: States) -> None:
    first, _ = sets_of(sets, 2)
    assert rollback(sets, note="by hand", services=True) == first == sets.live()
    assert sets.proposed() is None and sets.numbers() == [1, 2]


def test_a_set_can_be_chosen_by_its_number_and_taken_forward_again(sets: LiveSets) -> None:
    first, _, third = sets_of(sets, 3)
    assert rollback(sets, 1, note="by hand", services=False) == first
    assert rollback(sets, 3, note="by hand", services=False) == third == sets.live()
    assert (
        rollback(sets, note="by hand", services=False) == first
    )  # set 2 was taken back too, and nobody has brought it back


def test_one_rollback_after_the_other_goes_further_back(sets: LiveSets) -> None:
    sets_of(sets, 3)
    assert [rollback(sets, note="by hand", services=False).number for _ in range(2)] == [2, 1]
    with pytest.raises(PromotionError, match="no set before set 1"):
        rollback(sets, note="by hand", services=False)


def test_a_set_that_was_rolled_back_is_not_promoted_again_by_itself(sets: LiveSets) -> None:
    _, second = sets_of(sets, 2)
    rollback(sets, note="by hand", services=False)
    with pytest.raises(PromotionError, match=r"Set 2 held just these releases.*make promote SET=2 WHY="):
        promote(sets, ranker(second.releases["ranker"]), SNAPSHOT, "again", services=False)
    assert promote(sets, ranker("r3"), SNAPSHOT, "new", services=False).number == 3


def test_a_ranker_that_learned_from_what_was_taken_back_meanwhile_is_not_promoted(sets: LiveSets) -> None:
    promote(sets, ranker("r1"), SNAPSHOT, "first", services=False)
    promote(sets, ranker("r2", keyword="v2"), SNAPSHOT, "second", services=False)
    rollback(sets, note="by hand", services=False)
    with pytest.raises(TakenBackError, match=r"r3 learned from keyword/v2, which was taken back with set 2"):
        promote(sets, ranker("r3", keyword="v2"), SNAPSHOT, "its training was under way", services=False)
    rollback(sets, 2, note="by hand", services=False)
    assert promote(sets, ranker("r3", keyword="v2"), SNAPSHOT, "it is back", services=False).number == 3


def test_a_set_that_is_gone_cannot_be_rolled_back_to(sets: LiveSets) -> None:
    sets_of(sets, 2)
    with pytest.raises(PromotionError, match=r"no set 7. Kept are: 1, 2"):
        rollback(sets, 7, note="by hand", services=False)


def test_a_rollback_does_not_wait_for_a_service_that_is_down(
    sets: LiveSets, services: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = sets_of(sets, 2)
    from shared_ops.settings import Settings

    monkeypatch.setattr("shared_ops.settings.Settings.ports", Settings().ports | {"semantic": 1})
    assert rollback(sets, note="by hand", services=True) == first


def test_a_rollback_that_a_service_cannot_load_changes_nothing(sets: LiveSets, services: States) -> None:
    _, second = sets_of(sets, 2)
    services["ranker"] = {"state": "failed", "reason": "a file changed."}
    with pytest.raises(PromotionError, match="ranker could not load set 1"):
        rollback(sets, note="by hand", services=True)
    assert sets.live() == second and sets.rolled_back() == [] and sets.proposed() is None


def test_a_rollback_during_a_promotion_wins(sets: LiveSets, services: States) -> None:
    """An operator's rollback must not be undone by a promotion that was under way."""
    sets_of(sets, 2)
    services["keyword"] = {"state": "loading"}

    def roll_back() -> None:
        rollback(sets, note="by hand", services=False)
        services["keyword"] = {"state": "ready"}

    threading.Timer(0.5, roll_back).start()
    with pytest.raises(OvertakenError, match="meanwhile set 1 is live"):
        promote(sets, ranker("r3"), SNAPSHOT, "third", services=True)
    assert sets.live().number == 1


def test_a_promotion_that_was_overtaken_waits_no_longer(sets: LiveSets, services: States) -> None:
    sets_of(sets, 2)
    services["keyword"] = {"state": "loading"}
    threading.Timer(0.3, lambda: rollback(sets, note="by hand", services=False)).start()
    began = time.monotonic()
    with pytest.raises(OvertakenError, match="meanwhile set 1 is live"):
        promote(sets, ranker("r3"), SNAPSHOT, "third", services=True, timeout_s=30)
    assert time.monotonic() - began < 20


def test_a_proposal_that_another_move_drops_is_made_again(sets: LiveSets, services: States) -> None:
    """A service reads the proposal now and then, so it may never have read one that lasted a moment."""
    sets_of(sets, 2)
    services["keyword"] = {"state": "unknown"}

    def drop() -> None:
        sets.withdraw()
        dropped.set()

    def load() -> None:
        dropped.wait()
        while sets.proposed() is None:
            time.sleep(0.01)
        services["keyword"] = {"state": "ready"}

    dropped = threading.Event()
    threading.Timer(0.3, drop).start()
    threading.Thread(target=load, daemon=True).start()
    live = promote(sets, ranker("r3"), SNAPSHOT, "third", services=True, timeout_s=10)
    assert sets.live() == live and live.number == 3


def test_old_sets_are_forgotten_and_the_live_one_never(sets: LiveSets) -> None:
    sets_of(sets, 5)
    rollback(sets, 1, note="by hand", services=False)
    assert sets.forget(keep=2) == [2, 3]
    assert sets.numbers() == [1, 4, 5] and sets.live().number == 1


def test_a_verdict_against_another_set_than_the_live_one_promotes_nothing(sets: LiveSets) -> None:
    """As after a rollback while the gate was at work."""
    first, second = sets_of(sets, 2)
    rollback(sets, note="by hand", services=False)
    with pytest.raises(OvertakenError, match=r"ranker/r3 was judged against set 2; set 1 is live by now, and stays\."):
        promote(sets, ranker("r3"), SNAPSHOT, "third", services=False, over=second.number)
    assert sets.live() == first and sets.proposed() is None
    assert promote(sets, ranker("r3"), SNAPSHOT, "third", services=False, over=1).number == 3
    assert promote(sets, ranker("r3"), SNAPSHOT, "again", services=False, over=1).number == 3, "as a retry finds it"


@pytest.mark.slow
def test_a_rollback_that_fails_leaves_what_was_taken_back_as_it_was(sets: LiveSets, services: States) -> None:
    sets_of(sets, 3)
    rollback(sets, 2, note="by hand", services=True)
    services["ranker"] = {"state": "failed", "reason": "a file changed."}
    for number in (1, 3):
        with pytest.raises(PromotionError):
            rollback(sets, number, note="by hand", services=True)
        assert sets.rolled_back() == [3]


def test_a_rollback_that_is_interrupted_leaves_what_was_taken_back_as_it_was(
    sets: LiveSets, services: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets_of(sets, 2)
    monkeypatch.setattr("shared_ops.release.promotion._await_services", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rollback(sets, note="by hand", services=True)
    assert sets.rolled_back() == [] and sets.live().number == 2


def test_a_verdict_holds_over_a_set_that_shows_another_snapshot_since(sets: LiveSets) -> None:
    """The set still holds the releases that the challenger was judged against."""
    first, _ = sets_of(sets, 2)
    live = sets.live()
    newest = SnapshotRef(id="t", url="file:///t")
    promote(sets, ranker("r2"), newest, "a new snapshot", services=False, over=live.number)
    assert promote(sets, ranker("r3"), newest, "third", services=False, over=live.number).number == 4
    with pytest.raises(OvertakenError):
        promote(sets, ranker("r5"), newest, "fifth", services=False, over=first.number)


def test_a_promotion_that_begins_while_a_rollback_waits_takes_no_mark_away(
    sets: LiveSets, services: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = sets_of(sets, 2)
    waits = promotion._await_services

    def meanwhile(*_: object, **__: object) -> None:
        monkeypatch.setattr(promotion, "_await_services", interrupted)
        with pytest.raises(KeyboardInterrupt):
            promote(sets, ranker("r3"), SNAPSHOT, "third", services=True)
        monkeypatch.setattr(promotion, "_await_services", waits)

    monkeypatch.setattr(promotion, "_await_services", meanwhile)
    rollback(sets, note="by hand", services=True)
    assert sets.live().number == 1 and sets.rolled_back() == [two.number]


def interrupted(*_: object, **__: object) -> Never:
    raise KeyboardInterrupt


def test_a_rollback_that_is_killed_half_way_takes_no_live_set_back(sets: LiveSets) -> None:
    _, two = sets_of(sets, 2)
    sets.mark_rolled_back([two.number])  # and killed before set 1 is live
    assert sets.rolled_back() == []
    promote(sets, ranker("r3"), SNAPSHOT, "third", services=False)
    assert sets.rolled_back() == [] and rollback(sets, note="by hand", services=False) == two


def test_back_is_to_a_set_that_answers_otherwise(sets: LiveSets) -> None:
    """A kill just before a set went live left it in the history; the next try made another set of the same releases."""
    one, two = sets_of(sets, 2)
    twin = two.model_copy(update={"number": 3, "note": "of the next try"})
    sets.go_live(twin)
    assert rollback(sets, note="by hand", services=False) == one


def test_a_live_set_whose_release_is_gone_can_be_gone_back_from(sets: LiveSets, services: States) -> None:
    one, two = sets_of(sets, 2)
    storage.remove(Staging(sets.url).release_url("ranker", two.releases["ranker"]))
    of_release.cache_clear()
    assert rollback(sets, note="by hand", services=True) == one


def test_what_a_release_cannot_run_without_is_told_before_anything_moves(
    sets: LiveSets, services: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, two = sets_of(sets, 2)
    monkeypatch.setattr("shared_ops.release.runtimes.Runtime.provide", missing)
    with pytest.raises(PromotionError, match=r"/v1 cannot go live: uv is offline\. The live set stays\."):
        rollback(sets, note="by hand", services=True)
    with pytest.raises(PromotionError, match=r"uv is offline"):
        promote(sets, ranker("r3"), SNAPSHOT, "third", services=True)
    assert sets.live() == two and sets.proposed() is None and sets.rolled_back() == []


def missing(*_: object) -> Never:
    raise RuntimeMissingError("uv is offline.")


def test_what_kept_a_worker_from_starting_once_keeps_no_later_try(sets: LiveSets, services: States) -> None:
    one, _ = sets_of(sets, 2)
    problem = Runtime("keyword", "", "").problem(Settings())
    problem.write_text("uv was offline.")
    assert rollback(sets, note="by hand", services=True) == one and not problem.exists()


@pytest.mark.slow
def test_a_service_that_has_seen_another_set_of_the_same_number_is_waited_for(sets: LiveSets, services: States) -> None:
    for state in ("ready", "failed"):
        services["semantic"] = {"state": state, "release": "of a set that was withdrawn", "reason": "r"}
        with pytest.raises(PromotionError, match="semantic: loading, it has seen another set of this number"):
            promote(sets, ranker(), SNAPSHOT, "first", services=True, timeout_s=3)
    services["semantic"] = {"state": "ready", "release": "v1"}
    services["search"] = {"state": "ready", "snapshot": SNAPSHOT.id}
    assert promote(sets, ranker(), SNAPSHOT, "first", services=True) == sets.live()


def test_a_failure_of_a_try_before_is_not_believed_at_once(sets: LiveSets, services: States) -> None:
    services["semantic"] = {"state": "failed", "release": "v1", "reason": "of a moment ago"}
    threading.Timer(0.5, lambda: services.update(semantic={"state": "ready", "release": "v1"})).start()
    assert promote(sets, ranker(), SNAPSHOT, "first", services=True) == sets.live()


def test_two_proposals_at_once_have_two_numbers(sets: LiveSets) -> None:
    with ThreadPoolExecutor(8) as pool:
        proposals = list(pool.map(lambda n: sets.propose({"keyword": str(n)}, SNAPSHOT, ""), range(8)))
    assert sorted(each.number for each in proposals) == list(range(1, 9)) and sets.proposed() in proposals


def test_every_move_is_kept_with_when_and_by_whom_and_why(sets: LiveSets) -> None:
    sets_of(sets, 2)
    rollback(sets, note="rollback by ada: wrong order", services=False)
    moves = sets.moves()
    assert [(move.number, move.instead_of) for move in moves] == [(1, 2), (2, 1), (1, None)]
    assert [move.note for move in moves] == ["rollback by ada: wrong order", "set 2", "set 1"]
    assert moves[0].at >= moves[1].at >= moves[2].at
    assert sets.live().note == "set 1", "what a set was made for stays"
    assert [move.number for move in sets.moves(newest=1)] == [1]


def test_what_did_not_go_live_is_no_move(sets: LiveSets, services: States) -> None:
    sets_of(sets, 2)
    services["ranker"] = {"state": "failed", "reason": "a file changed."}
    with pytest.raises(PromotionError):
        rollback(sets, note="by hand", services=True)
    assert [move.number for move in sets.moves()] == [2, 1]


def test_a_move_is_kept_as_long_as_its_set_and_the_next_is_counted_on(sets: LiveSets) -> None:
    sets_of(sets, 3)
    rollback(sets, note="back", services=False)
    sets.forget(2)
    assert [move.number for move in sets.moves()] == [2, 3, 2]
    sets.forget(1)
    assert sets.numbers() == [2, 3] and [move.number for move in sets.moves()] == [2, 3, 2], "the live one stays"
    rollback(sets, 3, note="forth", services=False)
    sets.forget(1)
    assert [move.note for move in sets.moves()] == ["forth", "set 3"]


# Whether the services answer as the live set says.


@pytest.fixture
def told(sets: LiveSets, services: States, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> States:
    """The state that each service reports, with set 1 live; its releases name no code."""
    monkeypatch.setenv("SEARCHLOOP_STAGING", str(tmp_path / "staging"))
    promote(sets, ranker(), SNAPSHOT, "first", services=True)
    for state in services.values():
        state["live_set"] = 1
    return services


def test_nothing_is_said_where_all_agree_and_where_nothing_is_live(
    told: States, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert disagreements(Settings()) == []
    monkeypatch.setenv("SEARCHLOOP_STAGING", str(tmp_path / "none"))
    assert disagreements(Settings()) == []


def test_who_answers_with_another_set_is_named(told: States) -> None:
    told["semantic"]["live_set"] = told["search"]["live_set"] = None
    assert disagreements(Settings()) == [
        "search answers from set None, and set 1 is live",
        "semantic answers with live set None, and live set 1 is stated",
    ]


def test_a_set_that_is_not_whole_is_named(told: States, sets: LiveSets) -> None:
    live = sets.live()
    sets.go_live(live.model_copy(update={"releases": live.releases | {"keyword": "v2"}}))
    assert disagreements(Settings()) == ["ranker learned from v1 of keyword, and set 1 holds v2"]


def test_a_family_whose_worker_is_not_there_is_named(
    told: States, sets: LiveSets, tmp_path: Path, services: States
) -> None:
    release = manifest("keyword", "v3", code="the code that made it").model_copy(update={"environment": "its lock"})
    Staging(sets.url).publish(tmp_path / "release", release)
    staged = ranker("r2", keyword="v3")
    Staging(sets.url).publish(tmp_path / "release", staged)
    promote(sets, staged, SNAPSHOT, "second", services=False)
    for state in services.values():
        state["live_set"] = 2
    (sentence,) = [line for line in disagreements(Settings()) if line.startswith("keyword")]
    assert "keyword does not say what it answers with" in sentence, "no worker of that code is there"
