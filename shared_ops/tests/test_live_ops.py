"""A new snapshot is shown at once by the models that are live, unless it takes away too much."""

import polars as pl
import pytest
from dagster import build_op_context

from shared_ops.live_ops import ShowConfig, show
from shared_ops.resources import DeploymentResource
from shared_ops.settings import families

RELEASES = {family: "v1" for family in families()}


@pytest.fixture
def deployment() -> DeploymentResource:
    return DeploymentResource(name="prod", services=False)


@pytest.fixture
def live(deployment, snapshot):
    sets = deployment.live_sets
    sets.go_live(sets.propose(RELEASES, snapshot, "first"))
    return sets.live()


def shown(deployment, snapshot, **config):
    show(build_op_context(), ShowConfig(**config), deployment, snapshot)
    return deployment.live_sets.live()


def without(content, doc_ids):
    """The corpus after these documents have left it."""
    gone = pl.col("doc_id").is_in(doc_ids)
    return content | {name: content[name].filter(~gone) for name in ("documents", "qrels")}


def test_what_left_the_corpus_leaves_the_live_set_with_the_next_snapshot(deployment, live, snapshots, content):
    smaller = snapshots.publish(without(content, ["numpy.cumsum"]))
    moved = shown(deployment, smaller)
    assert moved.snapshot == smaller and moved.releases == RELEASES and moved.number == live.number + 1


def test_a_snapshot_that_takes_away_most_waits_for_new_models(deployment, live, snapshots, content):
    tiny = snapshots.publish(without(content, content["documents"]["doc_id"].to_list()[:5]))
    assert shown(deployment, tiny) == live
    assert shown(deployment, tiny, max_removed_share=1.0).snapshot == tiny


def test_the_same_snapshot_again_changes_nothing(deployment, live, snapshot):
    assert shown(deployment, snapshot) == live


def test_before_the_first_set_there_is_nothing_to_change(deployment, snapshot):
    assert shown(deployment, snapshot) is None
