"""Asks the running search app, as a person's browser would."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from deploy.stack.processes.patience import wait_for_stack
from shared_ops.data import snapshots
from shared_ops.data.snapshots import Snapshot
from shared_ops.release.agreement import disagreements
from shared_ops.release.livesets import NOTHING_LIVE, LiveSet, LiveSets
from shared_ops.settings import Settings
from shared_ops.waiting import until

TITLE_WORDS = 10
"""How many of a document's first words are asked where it has no title."""
SHOWN_CHARACTERS = 60
"""How much of a query is shown."""
FOLLOW_SECONDS = 2.0
"""How long the search app may take to notice that a set is live: it looks twice a second."""

PRIVATE = {"sec-gpc": "1", "cache-control": "no-cache"}
"""Asks not to be recorded: what a tool asks is nobody's search, and must teach the models nothing. And to be answered
by the models, not from memory: what a tool looks at is how they do."""


class SearchError(RuntimeError):
    """The search app did not answer with hits."""


def live_set(settings: Settings) -> LiveSet:
    """The set that is live.

    Raises:
        SearchError: when none is.
    """
    live = LiveSets(settings.staging_url("prod")).live()
    if live is None:
        raise SearchError(NOTHING_LIVE)
    return live


def ask(settings: Settings, query: str, k: int, timeout: float = 30) -> dict[str, Any]:
    """The search app's answer to a query.

    Raises:
        SearchError: when it does not answer, or refuses.
    """
    url = settings.url("search")
    parameters: dict[str, str | int] = {"q": query, "k": k}
    try:
        response = httpx.get(f"{url}/search", params=parameters, headers=PRIVATE, timeout=timeout, trust_env=False)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
    except httpx.HTTPStatusError as error:
        raise SearchError(f"{url} answered {error.response.status_code}: {error.response.text[:500]}") from error
    except (httpx.HTTPError, ValueError) as error:
        raise SearchError(f"{url} does not answer ({error}). Is the stack up? make status") from error
    return answer


def whole(asked: Callable[[], dict[str, Any]], attempts: int) -> dict[str, Any]:
    """The answer that `asked` gives, once every model had a part in it: it is called again where one was left out.

    Raises:
        SearchError: when none of so many attempts gives one.
    """
    answer = until(asked, lambda each: not each["degraded"], every=[1.0] * (attempts - 1))
    if answer["degraded"]:
        raise SearchError(f"The search app answers with a part missing: {answer['degraded']}. make status")
    return answer


def follows(settings: Settings, number: int, seconds: float = FOLLOW_SECONDS) -> bool:
    """Whether the search app answers from set `number` within `seconds`; False at once where it does not run."""
    try:
        return until(lambda: bool(health(settings)["live_set"] == number), every=0.02, seconds=seconds)
    except httpx.HTTPError:
        return False


def health(settings: Settings) -> dict[str, Any]:
    """What the search app says of itself.

    Raises:
        httpx.HTTPError: where it does not answer.
    """
    answer = httpx.get(f"{settings.url('search')}/health", timeout=FOLLOW_SECONDS, trust_env=False)
    said: dict[str, Any] = answer.json()
    return said


def lacking_lines(settings: Settings) -> Iterator[str]:
    """A line for each model that searches had to do without since the search app started, with the first cause."""
    try:
        searches = health(settings)["searches"]
    except (httpx.HTTPError, ValueError):
        yield "searches: the search app does not answer"
        return
    if refused := searches.get("refused"):  # a search app of before says nothing of it
        yield f"searches: {refused} were refused, as more came than could be answered in time (docs/load.md)"
    for family, lacking in searches["lacking"].items():
        share = f"{lacking['searches']} of {searches['answered']} searches"
        yield f"{share} since the search app started lacked {family}, first at {lacking['since']}: {lacking['cause']}"


def wait_for_search(
    settings: Settings, say: Callable[[str], None], when_away: Callable[[], None] = lambda: None
) -> str:
    """Wait until the search app answers a query of the live snapshot, or a title, with hits; returns a line on it.

    It is waited for as long as the stack gets further. `when_away` is called where there is no answer: it may raise
    what ends the waiting.

    Raises:
        SearchError: when nothing is live, or nothing moves any more.
    """
    query, told = _known_query(snapshots.load(live_set(settings).snapshot)), ""

    def lacking() -> str | None:
        nonlocal told
        try:
            told = _first_hits(settings, query)
        except SearchError as failure:
            when_away()
            return "; ".join([str(failure), *disagreements(settings)])
        return None

    if lacks := wait_for_stack(settings, lacking, say, every=0.5):
        raise SearchError(f"No search, and that is waited for no longer: {lacks}")
    return told


def _first_hits(settings: Settings, query: str) -> str:
    answer = ask(settings, query, 10)
    if not answer["hits"]:
        raise SearchError(f"no hits for {query!r}")
    shown = query if len(query) <= SHOWN_CHARACTERS else f"{query[:SHOWN_CHARACTERS]}..."
    return f"{len(answer['hits'])} hits for {shown!r} from set {answer['live_set']['number']}"


def _known_query(snapshot: Snapshot) -> str:
    """One of the snapshot's queries; where it has none, a title, or the first words of a text."""
    if len(queries := snapshot.queries()):
        return str(queries["text"][0])
    title, text = snapshot.documents().sort("title", descending=True).select("title", "text").row(0)
    return title or " ".join(text.split()[:TITLE_WORDS])
