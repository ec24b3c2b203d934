"""The search page and Dagit as a person sees them: in a real Chromium, on a real trained stack.

Looks and types, launches nothing. Runs before the end-to-end test, whose last test ends the stack. What each test saw
last is kept as page.png in its tmp_path.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

from deploy.stack.dagit.client import Dagit
from deploy.stack.processes import postgres
from shared_ops import waiting
from shared_ops.data import snapshots
from shared_ops.data.ubi import CLICK, Store, UbiEvent, UbiQuery
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import families, repositories, search_families
from tests.conftest import Stack

pytestmark = pytest.mark.slow

QUERY = "split a data set into train and test"
PATIENCE_MS = 20_000
"""How long the browser waits for what it expects: Dagit's pages fill in what they asked the server for."""

KIND_LABELS = ["PyTorch", "PyTorch", "Scikit Learn", "Scikit Learn", "TensorFlow"]
"""How Dagit names the frameworks of the ranker, challenger and release, and of the three search models."""


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A new visitor's tab. Whatever lies outside this machine is an empty page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    context.route(
        lambda url: urlsplit(url).hostname != "127.0.0.1",
        lambda route: route.fulfill(content_type="text/html", body="<title>Outside</title>"),
    )
    page = context.new_page()
    yield page
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    context.close()


@pytest.fixture
def noticed(page: Page) -> list[str]:
    """What goes wrong in the tab, or wants to leave it: console messages, script errors, dialogs, requests outside."""
    seen: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        seen.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", lambda message: seen.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: seen.append(f"script error: {error}"))
    page.on("dialog", dismiss)
    page.on("request", lambda request: None if "127.0.0.1" in request.url else seen.append(f"request: {request.url}"))
    return seen


@pytest.fixture(scope="module", autouse=True)
def calm(stack: Stack) -> None:
    """No training beside: an answer that comes without a late model is ordered otherwise than the next one."""
    Dagit(stack.settings.url("dagit")).settle()


@pytest.fixture
def live(stack: Stack) -> LiveSet:
    return LiveSets(stack.settings.staging_url("prod")).live()


def search_page(stack: Stack, query: str = "") -> str:
    return f"{stack.settings.url('search')}/" + (f"?q={quote(query)}" if query else "")


def ask_by_keyboard(stack: Stack, page: Page, query: str) -> None:
    """Open the start page, type, press Enter, and wait for the results."""
    page.goto(search_page(stack))
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    expect(results(page).first).to_be_visible()


def results(page: Page) -> Locator:
    return page.get_by_role("main").locator("> ol > li")


def clicks(stack: Stack, query: str, seconds: float = 30) -> list[tuple[UbiQuery, UbiEvent]]:
    """What Postgres holds of the clicks on this query's results, each with its search, as soon as it holds any."""
    store = Store(postgres.url(stack.settings))

    def pairs() -> list[tuple[UbiQuery, UbiEvent]]:
        everything = store.window(0)
        searches = {search.query_id: search for search in store.queries(everything) if search.user_query == query}
        events = store.events(everything)
        return [(searches[event.query_id], event) for event in events if event.query_id in searches]

    stored = waiting.until(pairs, every=0.2, seconds=seconds)
    assert stored, f"no click on a result of {query!r} is in Postgres after {seconds} s"
    return stored


def fits(page: Page) -> bool:
    """Whether the page is as wide as its window at most: no horizontal scroll bar."""
    fitting: bool = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    return fitting


def test_the_start_page_is_ready_to_be_typed_into(stack: Stack, page: Page, noticed: list[str]) -> None:
    page.goto(search_page(stack))
    expect(page).to_have_title("Searchloop")
    expect(page.get_by_role("searchbox")).to_be_focused()
    assert noticed == []


def test_a_query_and_enter_show_what_the_four_models_answer(
    stack: Stack, page: Page, noticed: list[str], live: LiveSet
) -> None:
    ask_by_keyboard(stack, page, QUERY)
    expect(page).to_have_title(f"{QUERY} – Searchloop")
    expect(page.get_by_role("searchbox")).to_have_value(QUERY)

    hits = stack.search(QUERY)["hits"]
    expect(results(page).get_by_role("heading")).to_have_text([hit["title"] for hit in hits])
    for shown, hit in zip(results(page).all(), hits, strict=True):
        expect(shown.get_by_role("paragraph")).not_to_be_empty()
        found_by = [f"{family} {rank}" for family, rank in hit["found_by"].items()]
        expect(shown.get_by_role("list", name="Found by").get_by_role("listitem")).to_have_text(
            [hit["source"], *found_by]
        )
    marked = {word.lower() for word in results(page).locator("p mark").all_inner_texts()}
    assert {"split", "train", "test"} <= marked
    assert all(any(word.startswith(start) for start in ("split", "data", "set", "train", "test")) for word in marked)
    footer = page.get_by_role("contentinfo")
    for said in (f"Set {live.number}:", live.snapshot.id, *live.releases, *live.releases.values()):
        expect(footer).to_contain_text(said)
    assert noticed == []


def test_a_result_opens_its_document(stack: Stack, page: Page, noticed: list[str]) -> None:
    page.goto(search_page(stack, QUERY))
    link = results(page).first.get_by_role("link")
    url = link.evaluate("link => link.href")
    assert urlsplit(url).scheme in ("http", "https")
    with page.expect_request(url) as opened:
        link.click()
    expect(page).to_have_title("Outside")
    assert page.url == url and "referer" not in opened.value.headers
    assert noticed == [f"request: {url}"]


def test_an_opened_result_is_one_click_at_its_position(
    stack: Stack, page: Page, noticed: list[str], live: LiveSet
) -> None:
    query = "keep the share of each class in both parts"
    page.goto(search_page(stack, query))
    below = next(number for number in range(1, 10) if results(page).nth(number).get_by_role("link").count())
    title = results(page).nth(below).get_by_role("heading").inner_text()
    results(page).nth(below).get_by_role("link").click()
    expect(page).to_have_title("Outside")
    ((search, click),) = clicks(stack, query)
    assert (click.action_name, click.application, search.application) == (CLICK, "searchloop", "searchloop")
    assert click.event_attributes.position.ordinal == below + 1
    assert click.event_attributes.object.object_id == search.query_response_hit_ids[below]
    documents = snapshots.load(live.snapshot).documents()
    assert documents.filter(doc_id=click.event_attributes.object.object_id)["title"].to_list() == [title]
    assert (click.client_id, click.session_id) == (search.client_id, search.client_id)
    assert [each for each in noticed if not each.startswith("request:")] == []


@pytest.mark.parametrize(
    "query",
    [
        "<script>alert('ran')</script>",
        "<img src=x onerror=alert('ran')>",
        "\"><svg onload=alert('ran')>",
        "</title><script>alert('ran')</script>",
    ],
)
def test_markup_in_a_query_is_text_and_nothing_runs(stack: Stack, page: Page, noticed: list[str], query: str) -> None:
    page.goto(search_page(stack, query))
    expect(results(page).first).to_be_visible()
    expect(page.get_by_role("searchbox")).to_have_value(query)
    expect(page).to_have_title(f"{query} – Searchloop")
    expect(page.locator("script:not([src]), img, svg")).to_have_count(0)
    assert noticed == []


def test_a_query_of_20_000_characters_is_refused_in_words(stack: Stack, page: Page) -> None:
    response = page.goto(search_page(stack, "x" * 20_000))
    assert 400 <= response.status < 500
    expect(page.get_by_role("alert")).to_contain_text("5,000 characters at most")
    expect(page.get_by_role("searchbox")).to_be_visible()
    expect(page.get_by_role("contentinfo")).to_contain_text("Set ")


@pytest.mark.parametrize("query", ["", QUERY, "x" * 300, "x" * 20_000], ids=["start", "results", "one word", "error"])
def test_a_narrow_window_has_no_horizontal_scroll_bar(stack: Stack, page: Page, query: str) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(search_page(stack, query))
    expect(page.get_by_role("contentinfo")).to_contain_text("Set ")
    assert fits(page)


def test_the_keyboard_alone_reaches_and_opens_a_result(stack: Stack, page: Page) -> None:
    ask_by_keyboard(stack, page, QUERY)
    link = results(page).first.get_by_role("link")
    for _ in range(10):
        page.keyboard.press("Tab")
        assert page.locator(":focus").evaluate("element => getComputedStyle(element).outlineStyle") != "none"
        if link.evaluate("link => link === document.activeElement"):
            break
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_title("Outside")


def test_dagit_shows_every_code_location_loaded(stack: Stack, page: Page) -> None:
    page.goto(f"{stack.settings.url('dagit')}/locations")
    for name in repositories():
        expect(page.locator(f"a[href='/locations/{name}/']").first).to_be_visible()
    expect(page.get_by_text("Loaded", exact=True)).to_have_count(len(repositories()))


def test_dagit_opens_on_the_lineage_of_prod_at_the_address_that_is_told(stack: Stack, page: Page) -> None:
    told = next(line for line in stack.make("addresses").stdout.splitlines() if line.startswith("lineage "))
    page.goto(told.split()[1])
    graph = page.locator("svg foreignObject")
    for name, count in {"live_set": 1, "proposed_set": 1, "snapshot": 1, "release": len(families())}.items():
        expect(graph.get_by_text(name, exact=True)).to_have_count(count)


def test_dagit_shows_what_the_ranker_came_from_in_other_locations(stack: Stack, page: Page) -> None:
    asset = f"{stack.settings.url('dagit')}/assets/prod/ranker/challenger"
    page.goto(f"{asset}?view=lineage")
    graph = page.locator("svg foreignObject")
    for name, count in {"snapshot": 1, "challenger": 1, "release": 1 + len(search_families())}.items():
        expect(graph.get_by_text(name, exact=True)).to_have_count(count)
    for label in KIND_LABELS:
        expect(graph.get_by_text(label, exact=True)).to_have_count(KIND_LABELS.count(label))
    for family in families():
        expect(graph.get_by_text(family, exact=True)).to_have_count(2 if family == "ranker" else 1)

    page.goto(asset)
    for above in ("snapshot", *(f"{family}/release" for family in search_families())):
        expect(page.locator(f"a[href*='/assets/prod/{above}']").first).to_be_visible()


def test_dagit_shows_the_numbers_of_the_newest_release_and_plots_them(stack: Stack, page: Page) -> None:
    page.goto(f"{stack.settings.url('dagit')}/assets/prod/keyword/release")
    metadata = page.get_by_role("row")
    version = metadata.filter(has_text=re.compile(r"^version")).get_by_role("cell").last.inner_text().strip()
    measured = Staging(stack.settings.staging_url("prod")).manifest("keyword", version).metrics["all"]["nDCG@10"]
    shown = metadata.filter(has_text=re.compile(r"^all: nDCG@10")).get_by_role("cell").last.inner_text()
    assert float(shown) == pytest.approx(measured)

    page.get_by_text("Plots", exact=True).click()
    expect(page.get_by_text("all: nDCG@10", exact=True)).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_dagit_lets_a_jobs_configuration_be_edited(stack: Stack, page: Page) -> None:
    page.goto(f"{stack.settings.url('dagit')}/locations/keyword/jobs/keyword_prod")
    page.get_by_role("tab", name="Launchpad").click()
    editor = page.locator(".CodeMirror-code").first
    for setting in ("load_inputs:", "train:", "k1:", "resources:"):
        expect(editor).to_contain_text(setting)
    expect(page.get_by_text("No errors", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Launch Run")).to_be_enabled()
