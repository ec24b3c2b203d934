"""The page: plain HTML that works without JavaScript, with everything in it escaped; its one script tells clicks."""

import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from services.search.tests.test_search import FAMILIES, start_all
from services.tests.stack import SEARCHING, ServingStack, stack

EVIL = {
    "evil": ("<script>alert('t')</script> signal", 'A signal <img src=x onerror=alert(1)> & "quotes" signal.'),
    "linked": ("A linked signal", "This one has a link and a signal."),
    "script": ("A scripted signal", "This one has a link that would run a signal."),
    "name": ("package.<b>_module.signal", "This one has a long name and a signal."),
    "shouted": ("A shouted signal", "This one has a link in capitals and a signal."),
    "endless": (
        "A signal without end" + " and on" * 20_000,
        "This one has a title and a link without end, and a signal.",
    ),
}
URLS = {
    "linked": 'https://example.org/?a=1&b="2"',
    "script": "javascript:alert(1)",
    "shouted": "HTTPS://EXAMPLE.ORG/A",
    "endless": "https://example.org/" + "x" * 100_000,
}


class Reader(HTMLParser):
    """Collects what a browser would see: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingStack]:
    with stack(tmp_path_factory.mktemp("page")) as made:
        snapshot = made.snapshot(EVIL, URLS)
        texts = {"texts": {doc_id: text for doc_id, (_, text) in EVIL.items()}}
        start_all(made, snapshot, **dict.fromkeys(FAMILIES, texts))
        yield made


def page(local: ServingStack, **parameters: int | str) -> tuple[httpx.Response, Reader]:
    answer = local.get("search", "/", **parameters)
    return answer, Reader(answer.text)


def test_the_start_page_is_a_form_and_asks_no_model(local: ServingStack) -> None:
    answer, read = page(local)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert read.all("form") == [{"action": "/", "method": "get", "role": "search"}]
    assert read.all("ol") == []
    assert len(read.all("h1")) == 1


def test_everything_comes_from_the_app_in_files_of_its_own(local: ServingStack) -> None:
    answer, read = page(local, q="signal")
    policy = dict(each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["script-src"] == policy["connect-src"] == "'self'"
    assert read.all("style") == []
    assert read.all("script") == [{"src": "/static/clicks.js", "defer": None}]
    script = local.get("search", "/static/clicks.js")
    assert script.status_code == 200
    assert script.headers["content-type"].startswith("text/javascript")
    assert not any(name.startswith("on") or name == "style" for _, attributes in read.elements for name in attributes)
    for asset in (*read.all("link"), *read.all("img")):
        assert asset["href"].startswith("/static/")
        assert local.get("search", asset["href"]).status_code == 200


def test_titles_texts_and_queries_are_text_whatever_they_hold(local: ServingStack) -> None:
    query = "\"><script>alert('q')</script> signal"
    answer, read = page(local, q=query)
    assert len(read.all("script")) == 1
    assert "<script>" not in answer.text
    assert "<img" not in answer.text
    assert "<script>alert('t')</script> signal" in read.text
    assert next(each for each in read.all("input"))["value"] == query


def test_the_querys_words_are_marked(local: ServingStack) -> None:
    answer, _ = page(local, q="SIGNAL")
    assert "A linked <mark>signal</mark>" in answer.text


def test_a_name_may_break_between_its_parts(local: ServingStack) -> None:
    answer, read = page(local, q="signal")
    assert "package.<wbr>&lt;b&gt;_<wbr>module.<wbr><mark>signal</mark>" in answer.text
    assert EVIL["name"][0] in read.text


def test_only_addresses_of_the_web_are_links(local: ServingStack) -> None:
    _, read = page(local, q="signal")
    targets = [
        each["href"] for each in read.all("a") if each["href"] not in ("/",) and not each["href"].startswith("/?")
    ]
    assert sorted(targets) == sorted([URLS["linked"], URLS["shouted"]])


def test_a_title_without_end_is_cut_where_it_is_shown(local: ServingStack) -> None:
    answer, read = page(local, q="signal")
    assert len(answer.content) < 20_000
    assert re.search(r"A signal without end( and| on)+ …", re.sub(r"\s+", " ", read.text))
    title = next(
        hit["title"] for hit in local.get("search", "/search", q="signal").json()["hits"] if hit["doc_id"] == "endless"
    )
    assert 200 < len(title) <= 302


@pytest.mark.parametrize(
    "path", ["/", "/?q=signal", "/search?q=signal", "/health", "/metrics", "/sets/1", "/static/style.css"]
)
def test_a_head_is_answered_as_a_get_is_without_the_body(local: ServingStack, path: str) -> None:
    url = local.settings.url("search") + path
    head, get = local.client.head(url), local.client.get(url)
    assert head.status_code == get.status_code == 200
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.content == b""


def test_a_result_says_to_the_script_what_it_is_and_where_it_stands(local: ServingStack) -> None:
    _, read = page(local, q="signal")
    link = next(each for each in read.all("a") if each["href"] == URLS["linked"])
    answer = local.get("search", "/search", q="signal").json()
    assert link["data-doc-id"] == "linked"
    assert int(link["data-position"]) == next(hit["rank"] for hit in answer["hits"] if hit["doc_id"] == "linked")
    (results,) = read.all("ol")
    assert re.fullmatch("[0-9a-f]{32}", results["data-query-id"])
    assert results["data-query-id"] != answer["query_id"]


def test_a_session_is_a_random_id_that_ends_with_the_browser(local: ServingStack) -> None:
    local.client.cookies.clear()
    first, _ = page(local, q="signal")
    local.client.cookies.clear()
    cookie = first.headers["set-cookie"]
    name, value = cookie.split(";")[0].split("=")
    assert name == "session"
    assert re.fullmatch("[0-9a-f]{32}", value)
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "expires" not in cookie.lower()
    assert "max-age" not in cookie.lower()
    again = local.client.get(
        local.settings.url("search"), params={"q": "signal"}, headers={"cookie": f"session={value}"}
    )
    assert "set-cookie" not in again.headers
    other = local.client.get(local.settings.url("search"), params={"q": "signal"}, headers={"cookie": "session=me"})
    assert "session=" in other.headers["set-cookie"]
    local.client.cookies.clear()


def test_the_start_page_knows_nobody(local: ServingStack) -> None:
    answer, read = page(local)
    assert "set-cookie" not in answer.headers
    assert read.all("script") == []


def test_each_result_says_which_models_found_it_at_which_rank(local: ServingStack) -> None:
    _, read = page(local, q="linked signal")
    words = re.sub(r"\s+", " ", read.text)
    for family in SEARCHING:
        assert re.search(rf"{family} \d", words)


def test_the_live_sets_versions_are_in_the_footer(local: ServingStack) -> None:
    _, read = page(local)
    words = re.sub(r"\s+", " ", read.text)
    for family in FAMILIES:
        assert f"{family} v1" in words


@pytest.mark.slow
def test_a_degraded_answer_says_so(tmp_path: Path) -> None:
    with stack(tmp_path) as made:
        start_all(made, made.snapshot())
        made.stop("behavior")
        made.stop("ranker")
        answer, read = page(made, q="signal")
        assert answer.status_code == 200
        assert "This answer is not complete" in read.text
        assert "behavior: not reachable" in read.text
        assert "ranks alone" in read.text
        for family in ("keyword", "semantic"):
            made.stop(family)
        answer, read = page(made, q="signal")
        assert answer.status_code == 503
        assert "No search model answers" in read.text


def test_nothing_found_is_said(local: ServingStack) -> None:
    _, read = page(local, q="xylophone")
    assert "Nothing was found" in read.text


@pytest.mark.parametrize(
    ("parameters", "words"),
    [({"q": "x" * 5001}, "5,000 characters at most"), ({"q": "x", "k": 0}, "k: "), ({"q": "x", "k": "many"}, "k: ")],
)
def test_a_bad_question_gets_a_page_that_says_what_is_wrong(
    local: ServingStack, parameters: dict[str, int | str], words: str
) -> None:
    answer, read = page(local, **parameters)
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")
    assert words in read.text
    assert "q:" not in read.text
    assert read.all("form")


def test_an_address_of_100_kb_gets_a_page_too(local: ServingStack) -> None:
    with socket.create_connection(("127.0.0.1", local.settings.ports["search"])) as client:
        client.sendall(b"GET /?q=" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.split()[1] == b"414"
    assert b"<form" in answer
    assert b"5,000 characters at most" in answer
