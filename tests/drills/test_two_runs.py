"""Two runs of one family at once: one after the other, and what is accepted is whole."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.training import FORCE
from shared_ops.release.releases import Staging
from tests.conftest import Stack
from tests.drills.conftest import finish

pytestmark = pytest.mark.slow

FAMILY = "keyword"
SPAN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { startTime endTime tags { key value } } } }"


def together(stack: Stack, dagit: Dagit, config: dict[str, Any]) -> list[dict[str, Any]]:
    """Launch two runs of this configuration at once; returns what is known of them once they have ended, in order."""
    runs = [dagit.launch(FAMILY, f"{FAMILY}_prod", config) for _ in range(2)]
    assert [finish(dagit, run) for run in runs] == ["SUCCESS", "SUCCESS"]
    ended = []
    for run in runs:
        body = {"query": SPAN, "variables": {"id": run}}
        answer = httpx.post(f"{stack.settings.url('dagit')}/graphql", json=body, timeout=30).json()["data"][
            "runOrError"
        ]
        ended.append({"id": run, **answer, "tags": {tag["key"]: tag["value"] for tag in answer["tags"]}})
    return sorted(ended, key=lambda run: run["startTime"])


def test_the_second_waits_and_finds_the_first_s_result(
    stack: Stack, dagit: Dagit, staging: Staging, say: Callable[[str], None]
) -> None:
    dagit.settle()
    before = set(staging.versions(FAMILY))
    # A configuration that nothing was trained with, although what it says is the default: both would train.
    first, second = together(stack, dagit, {"ops": {"train": {"config": {"seed": 0}}}})
    (version,) = set(staging.versions(FAMILY)) - before
    assert version.endswith(first["id"][:8]) and second["startTime"] >= first["endTime"]
    assert second["tags"]["searchloop/unchanged"] == f"{FAMILY}/{version}"
    staging.fetch(FAMILY, staging.accepted(FAMILY))
    say(f"two runs at once: 1 release, the second began {second['startTime'] - first['endTime']:.1f} s after the first")


def test_where_both_are_to_train_they_make_two_releases_one_after_the_other(
    stack: Stack, dagit: Dagit, staging: Staging, say: Callable[[str], None]
) -> None:
    dagit.settle()
    before = set(staging.versions(FAMILY))
    first, second = together(stack, dagit, FORCE)
    made = sorted(set(staging.versions(FAMILY)) - before)
    assert {version[-8:] for version in made} == {first["id"][:8], second["id"][:8]}
    assert second["startTime"] >= first["endTime"]
    assert staging.accepted(FAMILY).endswith(second["id"][:8])
    for version in made:
        staging.fetch(FAMILY, version)
    say(f"two forced runs at once: 2 releases, the second began {second['startTime'] - first['endTime']:.1f} s later")
