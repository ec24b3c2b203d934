"""Gets vectors of queries from the running service of a family that gives them. Knows no Dagster and no model."""

import time
from collections.abc import Iterable

import numpy as np

from shared_ops.data.wire import EmbedAnswer, EmbedRequest
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.settings import current, repositories

BATCH = 32
"""How many texts one request holds: the service answers searches first, and embeds meanwhile."""
SECONDS = 45.0
"""How long all texts together may take: a sensor's tick has a minute."""

_last_look: dict[str, dict[str, np.ndarray]] = {}
"""By release, the vectors of the last look: the next one compares half of its searches again."""


class VectorsError(RuntimeError):
    """There are no vectors now. The message is the reason, for people."""


def embed(texts: Iterable[str]) -> dict[str, np.ndarray]:
    """The vector of each text, by a release of the live set whose family gives vectors.

    Raises:
        VectorsError: where there is no live set, or none with such a release, or its service does not answer with
            vectors in time.
    """
    import httpx

    live = LiveSets(current().staging_url("prod")).live()
    if live is None:
        raise VectorsError(NOTHING_LIVE)
    family = next((name for name, each in repositories().items() if each.vectors and name in live.releases), None)
    if family is None:
        raise VectorsError(f"No family of the live set {live.number} gives vectors")
    release = live.releases[family]
    distinct, deadline = set(texts), time.monotonic() + SECONDS
    vectors = {text: vector for text, vector in _last_look.get(release, {}).items() if text in distinct}
    missing = sorted(distinct - set(vectors))
    url = f"{current().url(family)}/embed"
    try:
        with httpx.Client(timeout=10.0, trust_env=False) as client:
            for start in range(0, len(missing), BATCH):
                if time.monotonic() > deadline:
                    raise VectorsError(f"{url} took more than {SECONDS:g} s for {start} of {len(missing)} texts")
                batch = missing[start : start + BATCH]
                answer = client.post(url, json=EmbedRequest(release=release, texts=batch).model_dump())
                answer.raise_for_status()
                rows = EmbedAnswer.model_validate_json(answer.content).vectors
                vectors |= zip(batch, np.asarray(rows, dtype=np.float32), strict=True)
    except httpx.HTTPError as error:
        raise VectorsError(f"{url} is away: {error or type(error).__name__}") from error
    except ValueError as error:
        raise VectorsError(f"{url} answered with what is no vectors: {error}") from error
    if not all(vector.ndim == 1 and np.isfinite(vector).all() for vector in vectors.values()):
        raise VectorsError(f"{url} answered with vectors that are not of finite numbers")
    _last_look.clear()
    _last_look[release] = vectors
    return vectors
