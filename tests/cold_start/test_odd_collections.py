"""Collections of which a search cannot make much go live, too. The first one's judgements are wrong.

One stack for all of them, in the order of the tests: the sources file says something else each time.
"""

import json
import re
from pathlib import Path

import pytest

from shared_ops.data import snapshots
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import families
from tests.cold_start.conftest import write_documents
from tests.conftest import Stack

pytestmark = pytest.mark.slow

ROWS = 40
TEXT = "a lamp that shines for ten hours"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection in BEIR's layout in which every query is judged to be answered by a document without its word."""
    folder = tmp_path_factory.mktemp("collections")
    (folder / "wrong" / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{row}", "title": f"thing{row}", "text": f"what thing{row} is"} for row in range(ROWS)]
    queries = [{"_id": f"q{row}", "text": f"thing{row}"} for row in range(ROWS)]
    for name, rows in {"corpus": documents, "queries": queries}.items():
        (folder / "wrong" / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    judged = [f"q{row}\td{(row + 1) % ROWS}\t1" for row in range(ROWS)]
    (folder / "wrong" / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged, ""]))
    (folder / "sources.yaml").write_text("sources:\n  - {kind: beir, name: wrong, path: wrong}\n")
    return folder / "sources.yaml"


def answered(stack: Stack, count: int) -> None:
    """See that a set of all families is live on `count` documents, and that `make up` and a search find them."""
    live = LiveSets(stack.settings.staging_url("prod")).live()
    assert live and set(live.releases) == set(families())
    assert len(snapshots.load(live.snapshot).documents()) == count
    assert f"from set {live.number}" in stack.make("up").stdout
    answer = stack.search("a lamp that shines")
    assert answer["degraded"] == [] and answer["ranking"] == "ranker"
    assert [hit["title"] for hit in answer["hits"]] == ["Lamp"] * min(count, 10)


def test_what_was_rejected_goes_live_once_it_is_changed_as_the_message_says(stack: Stack, sources: Path) -> None:
    """Then all documents are identical: no order of them is better than another, and that is said."""
    told = stack.make("up", check=False)
    advised = re.search(r"keyword/\S+ was rejected: .* Change that, then: make (train[ \w=]*)\.$", told.stdout, re.M)
    assert told.returncode and advised, told.stdout
    write_documents(sources, [(str(row), "Lamp", TEXT) for row in range(ROWS)])
    assert "All documents hold the same words" in stack.make(*advised[1].split()).stdout
    answered(stack, ROWS)


def test_a_single_document_goes_live_and_is_found(stack: Stack, sources: Path) -> None:
    write_documents(sources, [("1", "Lamp", TEXT)])
    stack.make("train")
    answered(stack, 1)
    staging = Staging(stack.settings.staging_url("prod"))
    version = staging.accepted("keyword")
    assert version and staging.manifest("keyword", version).gate["accepted"]
