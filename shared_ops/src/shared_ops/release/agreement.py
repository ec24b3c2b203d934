"""Whether those who answer are what the live set says: its release of each family, in the release's own code.

Knows no Dagster. Asked by `make status` and by the check of the live set in Dagit.
"""

from collections.abc import Iterator

from shared_ops.release import runtimes
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseError, Staging
from shared_ops.settings import Settings

SECONDS = 5.0
"""How long a service may take to say what it answers with."""


def disagreements(settings: Settings) -> list[str]:
    """What the prod deployment's services answer with otherwise than the live set and its manifests say, in words.

    Empty where they agree, and where nothing is live yet.
    """
    live_sets = LiveSets(settings.staging_url("prod"))
    live = live_sets.live()
    if live is None:
        return []
    staging = Staging(live_sets.url)
    return [*_parts(live, staging), *_search(settings, live), *_workers(settings, live, staging)]


def _parts(live: LiveSet, staging: Staging) -> Iterator[str]:
    """Whether the set is whole: each family that its ranker learned from is in it, in just that release."""
    try:
        learned = staging.manifest(live.ranker, live.releases[live.ranker]).learned_from
    except ReleaseError:
        return  # its worker tells
    for family in dict.fromkeys([*learned, *live.searching]):
        wanted, held = (where.get(family, "nothing") for where in (learned, live.releases))
        if wanted != held:
            yield f"{live.ranker} learned from {wanted} of {family}, and set {live.number} holds {held}"


def _search(settings: Settings, live: LiveSet) -> Iterator[str]:
    import httpx

    try:
        with runtimes.client(None, SECONDS) as client:
            told = client.get(f"{settings.url('search')}/health").json()
    except (httpx.HTTPError, ValueError) as error:
        yield f"search does not say what it answers with ({error or type(error).__name__})"
        return
    if told["live_set"] != live.number:
        yield f"search answers from set {told['live_set']}, and set {live.number} is live"


def _workers(settings: Settings, live: LiveSet, staging: Staging) -> Iterator[str]:
    import httpx

    for family, version in live.releases.items():
        try:
            manifest = staging.manifest(family, version)
            runtime = runtimes.of_release(staging.url, family, version)
            with runtimes.client(runtime.socket(settings), SECONDS) as client:
                told = client.get("http://localhost/health").json()
        except ReleaseError as error:
            yield f"{family}: {error}"
            continue
        except (httpx.HTTPError, ValueError) as error:
            yield f"{family} does not say what it answers with ({error or type(error).__name__})"
            continue
        stated = {"live_set": live.number, "code": manifest.code, "environment": manifest.environment}
        for name, wanted in stated.items() if manifest.code else [("live_set", live.number)]:
            if told.get(name) != wanted:
                yield f"{family} answers with {_words(name, told.get(name))}, and {_words(name, wanted)} is stated"


def _words(name: str, value: object) -> str:
    return f"{name.replace('_', ' ')} {str(value)[:12]}"
