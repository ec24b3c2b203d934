"""Dagit answers its own page and programs; what another site's page asks of it changes nothing. A real webserver."""

import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, Never

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from deploy.stack.processes import instance, webserver
from deploy.stack.processes.listing import environment_variables, processes
from shared_ops.settings import ROOT, Settings
from shared_ops.waiting import until

MUTATION = "mutation { setNuxSeen }"
"""Changes something, and needs no code location."""
START_SECONDS = 180


@pytest.fixture(scope="module", params=["127.0.0.1", "::1"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a webserver that runs as in the stack, on an instance in SQLite; its code locations are away."""
    if ":" in request.param and not _has(request.param):
        pytest.skip("This machine has no IPv6.")
    home, port_base = tmp_path_factory.mktemp("home"), random.randrange(33_000, 60_000, 50)
    settings = Settings(home=home, port_base=port_base, host=request.param)
    instance.place_workspace(settings, instance.workspace_content(settings))
    (dagit,) = (process for process in processes(settings) if process.name == "dagit")
    with (settings.home / "log").open("wb") as log:
        running = subprocess.Popen(
            dagit.command, cwd=ROOT, env=os.environ | environment_variables(settings), stdout=log, stderr=log
        )
    try:
        until(lambda: running.poll() is not None or dagit.ready() is None, every=0.1, seconds=START_SECONDS)
        assert running.poll() is None and dagit.ready() is None, (settings.home / "log").read_text()
        yield settings
    finally:
        running.terminate()
        running.wait(30)


def _has(address: str) -> bool:
    with socket.socket(socket.AF_INET6) as tried:
        try:
            tried.bind((address, 0))
        except OSError:
            return False
    return True


@pytest.fixture
def ask(settings: Settings) -> Iterator[Callable[..., httpx.Response]]:
    """Sends a request to the webserver, with a browser's headers or none."""
    with httpx.Client(base_url=settings.url("dagit"), trust_env=False, timeout=30) as client:

        def send(method: str = "POST", path: str = "/graphql", **more: Any) -> httpx.Response:
            return client.request(method, path, **more)

        yield send
        assert not changed(settings), "A refused request has changed something."


def changed(settings: Settings) -> bool:
    asked = httpx.post(f"{own(settings)}/graphql", json={"query": "{ shouldShowNux }"}, trust_env=False, timeout=30)
    return not asked.json()["data"]["shouldShowNux"]


def own(settings: Settings) -> str:
    return settings.url("dagit")


def socket_address(url: str) -> str:
    return f"ws{url.removeprefix('http')}"


GRAPHQL = Subprotocol("graphql-ws")
JSON: dict[str, Any] = {"json": {"query": MUTATION}}
FORM = {"params": {"query": MUTATION}, "data": {"a": "b"}}
TEXT = {"params": {"query": MUTATION}, "content": "x", "headers": {"content-type": "text/plain"}}


@pytest.mark.parametrize("question", [JSON, FORM, TEXT, {"params": {"query": MUTATION}}])
@pytest.mark.parametrize(
    "page",
    [
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"referer": "http://elsewhere.example/page"},
    ],
    ids=str,
)
def test_another_sites_page_changes_nothing(
    ask: Callable[..., httpx.Response], question: dict[str, Any], page: dict[str, str]
) -> None:
    refused = ask(**{**question, "headers": question.get("headers", {}) | page})
    assert refused.status_code == 403
    assert "its own page" in refused.text


def test_nor_does_one_on_another_port_of_this_machine(ask: Callable[..., httpx.Response], settings: Settings) -> None:
    assert ask(**JSON, headers={"origin": settings.url("search")}).status_code == 403


@pytest.mark.parametrize("path", ["/report_asset_materialization/a", "/report_asset_check/a"])
def test_nor_by_dagsters_other_ways_to_change_something(ask: Callable[..., httpx.Response], path: str) -> None:
    assert ask(path=path, headers={"origin": "http://elsewhere.example"}).status_code == 403


def test_nor_one_whose_name_was_made_to_lead_here(ask: Callable[..., httpx.Response], settings: Settings) -> None:
    name = "rebound.example:80"
    for question in (JSON, {"method": "GET", "path": "/"}):
        refused = ask(**question, headers={"host": name, "origin": f"http://{name}", "sec-fetch-site": "same-origin"})
        assert refused.status_code == 403
        assert f"expected {settings.host} or localhost, got 'rebound.example:80'" in refused.text


def test_nor_by_an_address_alone_whoever_asks(ask: Callable[..., httpx.Response]) -> None:
    """A browser fetches an image's address without a word about its page, where that page wants it so."""
    for method in ("GET", "POST", "HEAD"):
        assert ask(method, params={"query": MUTATION}).status_code == 403


@pytest.mark.parametrize("rebound", [False, True])
def test_nor_does_it_follow_what_happens_by_a_websocket(settings: Settings, rebound: bool) -> None:
    port = settings.ports["dagit"]
    called = f"http://rebound.example:{port}" if rebound else own(settings)
    page = called if rebound else "http://elsewhere.example"
    with socket.create_connection((settings.host, port)) as line, pytest.raises(InvalidStatus) as refused:
        connect(f"{socket_address(called)}/graphql", subprotocols=[GRAPHQL], origin=Origin(page), sock=line)
    assert refused.value.response.status_code == 403


def test_a_link_from_elsewhere_opens_the_page(ask: Callable[..., httpx.Response]) -> None:
    opened = ask("GET", "/runs", headers={"sec-fetch-site": "cross-site", "referer": "http://elsewhere.example/"})
    assert opened.status_code == 200
    assert opened.headers["content-type"].startswith("text/html")


def test_its_own_page_follows_what_happens(settings: Settings) -> None:
    with connect(
        f"{socket_address(own(settings))}/graphql", subprotocols=[GRAPHQL], origin=Origin(own(settings)), proxy=None
    ) as page:
        page.send('{"type": "connection_init"}')
        assert page.recv(timeout=10) == '{"type":"connection_ack"}'


@pytest.mark.parametrize("named", ["its address", "localhost"])
def test_its_own_page_and_programs_change_what_they_want(settings: Settings, named: str) -> None:
    address = own(settings) if named == "its address" else f"http://localhost:{settings.ports['dagit']}"
    pages = [{"origin": address, "sec-fetch-site": "same-origin"}, {"origin": address}, {}]
    for page in pages:
        done = httpx.post(f"{own(settings)}/graphql", **JSON, headers=page | {"host": address[7:]}, trust_env=False)
        assert done.status_code == 200 and "errors" not in done.json()
    assert changed(settings)


def test_code_locations_that_could_not_be_taken_up_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def refresh() -> Never:
        tries.append(len(tries))
        if len(tries) == 1:
            raise ConnectionError("a code server is away")
        raise SystemExit  # nothing else ends it

    monkeypatch.setattr(webserver, "LOOK_SECONDS", 0)
    with pytest.raises(SystemExit):
        webserver._follow(iter([True, *[False] * 100]).__next__, refresh)
    assert tries == [0, 1]
