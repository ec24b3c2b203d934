"""Tidies the staging areas of candidates that no run removed: that of a failed one stays, to be gone on with.

Knows no Dagster, and so not which runs have ended: a candidate's age decides.
"""

from shared_ops.data import storage
from shared_ops.release.releases import Staging
from shared_ops.release.runtimes import KEPT_SECONDS
from shared_ops.settings import DEPLOYMENTS, current


def tidy() -> list[str]:
    """Remove the candidates into which nothing was written for KEPT_SECONDS; returns the family and run of each."""
    removed = []
    for deployment in DEPLOYMENTS:
        staging = Staging(current().staging_url(deployment))
        for family, run in staging.candidates():
            if _age(url := staging.candidate_url(family, run)) > KEPT_SECONDS:
                storage.remove(url)
                removed.append(f"{family}/{run}")
    return removed


def _age(url: str) -> float:
    """Seconds since anything in the folder at `url` was last written; of an object store only its files have a time."""
    names = storage.names(url)
    return min(_age(storage.join(url, name)) for name in names) if names else storage.age(url)
