"""Whether the services answer as the live set says: with its release of each family, in that release's own code.

Knows no Dagster. `make status`, `make up` while no search is answered, and the check of the live set in Dagit use it.
"""

from collections.abc import Iterator

from shared_ops.data.wire import HealthAnswer
from shared_ops.release import runtimes
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import ReleaseError, Staging
from shared_ops.settings import Settings

SECONDS = 5.0
"""How long a service may take to say what it answers with."""


def disagreements(settings: Settings) -> list[str]:
    """A sentence for each thing that prod's services answer with otherwise than the live set and its manifests say.

    Empty where they agree, and where nothing is live yet.
    """
    live_sets = LiveSets(settings.staging_url("prod"))
    live = live_sets.live()
    if live is None:
        return []
    staging = Staging(live_sets.url)
    return [*_parts(live, staging), *_search(settings, live), *_workers(settings, live, staging)]


def _parts(live: LiveSet, staging: Staging) -> Iterator[str]:
    """Where the set is not whole: it must hold each family that its ranker learned from, in just that release."""
    try:
        learned = staging.manifest(live.ranker, live.releases[live.ranker]).learned_from
    except ReleaseError:
        return  # `_workers` tells of it
    for family in dict.fromkeys([*learned, *live.search_families]):
        expected, held = (where.get(family, "nothing") for where in (learned, live.releases))
        if expected != held:
            yield f"{live.ranker} learned from {expected} of {family}, and set {live.number} holds {held}"


def _search(settings: Settings, live: LiveSet) -> Iterator[str]:
    import httpx

    try:
        with runtimes.client(None, SECONDS) as client:
            health = HealthAnswer.model_validate_json(client.get(f"{settings.url('search')}/health").content)
    except (httpx.HTTPError, ValueError) as error:
        yield f"search does not say what it answers with ({_reason(error)})"
        return
    if health.live_set != live.number:
        yield f"search answers from set {health.live_set}, and set {live.number} is live"


def _workers(settings: Settings, live: LiveSet, staging: Staging) -> Iterator[str]:
    import httpx

    for family, version in live.releases.items():
        try:
            manifest = staging.manifest(family, version)
            runtime = runtimes.of_release(staging.url, family, version)
            with runtimes.client(runtime.socket(settings), SECONDS) as client:
                health = HealthAnswer.model_validate_json(client.get("http://localhost/health").content)
        except ReleaseError as error:
            yield f"{family}: {error}"
            continue
        except (httpx.HTTPError, ValueError) as error:
            yield f"{family} does not say what it answers with ({_reason(error)})"
            continue
        expected = {"live_set": live.number, "code": manifest.code, "environment": manifest.environment}
        for name, value in expected.items() if manifest.code else [("live_set", live.number)]:
            if (said := getattr(health, name)) != value:
                yield f"{family} answers with {_words(name, said)}, and {_words(name, value)} is stated"


def _reason(error: Exception) -> str:
    """An error on one line; one without words is told by its kind."""
    return " ".join(str(error).split()) or type(error).__name__


def _words(name: str, value: object) -> str:
    return f"{name.replace('_', ' ')} {str(value)[:12]}"
