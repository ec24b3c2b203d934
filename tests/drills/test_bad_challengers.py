"""Challengers that must not pass, each rejected for its own reason; what is live stays. Runs keyword's own graph."""

import subprocess
from collections.abc import Callable

import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.processes.listing import environment_variables
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import ROOT, python_of
from tests.conftest import Stack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _calm(dagit: Dagit) -> None:
    """Nothing else moves what is accepted and live."""
    dagit.settle()


def run_bad(stack: Stack, how: str) -> str:
    """The id of a prod run of keyword whose challenger is bad in this way."""
    python = python_of("keyword")
    done = subprocess.run(
        [str(python), "-m", "tests.drills.bad_keyword", how],
        cwd=ROOT,
        env=stack.environment | environment_variables(stack.settings),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("constant", "the same score"),
        ("slow", "times as long"),
        ("worse", "not ruled out"),
    ],
)
def test_it_is_kept_rejected_with_its_reason_and_what_is_live_stays(
    stack: Stack, dagit: Dagit, staging: Staging, sets: LiveSets, how: str, reason: str, say: Callable[[str], None]
) -> None:
    live, accepted, before = sets.live(), staging.accepted("keyword"), set(staging.versions("keyword"))
    run = run_bad(stack, how)
    (version,) = set(staging.versions("keyword")) - before
    manifest = staging.manifest("keyword", version)
    assert version.endswith(run[:8]) and dagit.run(run).status == "SUCCESS" and not manifest.accepted
    assert reason in manifest.gate["reasons"][0]
    assert staging.accepted("keyword") == accepted and sets.live() == live
    status = stack.make("status").stdout
    assert f"rejected: keyword/{version}: " in status and reason in status
    say(f"bad challenger ({how}): rejected: {' '.join(manifest.gate['reasons'])}")


def test_one_that_answers_with_no_number_stops_its_run(
    stack: Stack, dagit: Dagit, staging: Staging, sets: LiveSets, say: Callable[[str], None]
) -> None:
    live, accepted, before = sets.live(), staging.accepted("keyword"), staging.versions("keyword")
    page = dagit.run(run_bad(stack, "nan"))
    assert page.status == "FAILURE"
    error = next(event.error for event in page.events if event.error)
    assert "score" in error
    assert staging.versions("keyword") == before and staging.accepted("keyword") == accepted
    assert sets.live() == live
    say("bad challenger (nan): its run failed for the scores in its hits")
