"""A set goes live when every service is ready for it; otherwise what is live stays."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared_ops.livesets import LiveSets
from shared_ops.promotion import PromotionError, promote
from shared_ops.settings import families
from shared_ops.snapshots import SnapshotRef

SNAPSHOT = SnapshotRef(id="s", url="file:///s")
RELEASES = {family: "v1" for family in families()}


@pytest.fixture
def sets(tmp_path) -> LiveSets:
    return LiveSets((tmp_path / "staging").as_uri())


@pytest.fixture
def services(monkeypatch):
    """Servers on the ports of every service; `states` says what each answers, and can be changed in mid-test."""
    states = {name: {"state": "ready"} for name in [*families(), "search"]}
    servers, ports = [], {}
    for name in states:

        class Handler(BaseHTTPRequestHandler):
            service = name

            def do_GET(self):
                body = json.dumps(states[self.service]).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        ports[name] = server.server_port
    monkeypatch.setattr("shared_ops.settings.Settings.ports", ports)
    yield states
    for server in servers:
        server.shutdown()


def test_it_goes_live_when_all_are_ready(sets, services):
    live = promote(sets, RELEASES, SNAPSHOT, "first", services=True)
    assert sets.live() == live and sets.proposed() is None


def test_it_waits_for_one_that_still_loads(sets, services):
    services["ranker"] = {"state": "loading"}
    threading.Timer(0.5, lambda: services.update(ranker={"state": "ready"})).start()
    assert promote(sets, RELEASES, SNAPSHOT, "first", services=True).number == 1


def test_one_that_cannot_load_it_keeps_the_live_set(sets, services):
    before = promote(sets, RELEASES, SNAPSHOT, "first", services=True)
    services["semantic"] = {"state": "failed", "reason": "a file changed."}
    with pytest.raises(PromotionError, match=r"semantic could not load set 2: a file changed\."):
        promote(sets, RELEASES | {"semantic": "v2"}, SNAPSHOT, "second", services=True)
    assert sets.live() == before and sets.proposed() is None


def test_one_that_never_answers_ends_the_wait(sets, services):
    services["keyword"] = {"state": "loading"}
    with pytest.raises(PromotionError, match=r"not loaded by keyword within"):
        promote(sets, RELEASES, SNAPSHOT, "first", services=True, timeout_s=0.5)
    assert sets.live() is None and sets.proposed() is None


def test_a_set_lacks_no_family(sets):
    with pytest.raises(PromotionError, match="ranker has none"):
        promote(sets, {k: v for k, v in RELEASES.items() if k != "ranker"}, SNAPSHOT, "", services=False)


def test_the_same_set_again_changes_nothing(sets):
    first = promote(sets, RELEASES, SNAPSHOT, "first", services=False)
    assert promote(sets, RELEASES, SNAPSHOT, "again", services=False) == first
