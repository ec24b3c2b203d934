"""From a set to a model that is fit to answer: fetched, loaded, warmed on real queries, and checked.

Reaches a family only through its `model.py`. What is checked is that the answers are sound in this environment; how
good they are was decided by the family's gate.
"""

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from shared_ops.data import snapshots
from shared_ops.data.snapshots import Snapshot
from shared_ops.data.tables import Hits
from shared_ops.data.wire import MAX_SCORE
from shared_ops.release.livesets import LiveSet
from shared_ops.release.releases import Staging

WARM_UP_QUERIES = 8
WARM_UP_HITS = 100
WARM_UP_EXPLAINED = 10


class SearchModel(Protocol):
    """What a family with the role `search` loads."""

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        """At most `k` hits for each text, best first."""


@runtime_checkable
class EmbedModel(Protocol):
    """What a search model that compares vectors has in addition."""

    def embed(self, texts: Sequence[str]) -> Any:
        """The texts' vectors as `search` compares them: a numpy array, float32 [texts, width]."""


class RankModel(Protocol):
    """What a family with the role `rank` loads."""

    @property
    def families(self) -> Sequence[str]:
        """The search models whose hits it orders."""

    def rank(self, text: str, hits: Mapping[str, Hits]) -> Hits:
        """All documents of the families' hits, best first."""


@runtime_checkable
class ExplainModel(Protocol):
    """What a rank model that orders by features has in addition."""

    def explain(self, text: str, hits: Mapping[str, Hits], n: int) -> tuple[Hits, Any]:
        """What `rank` gives, and the features of its first `n` documents: a numpy array, float32 [n, features]."""


class CheckError(RuntimeError):
    """A model loads, but its answers cannot be right."""


def load_model(family: str, folder: Path) -> Any:
    """Load a release's folder by the family's own code, which this process's environment must be able to run."""
    return importlib.import_module(f"repos.{family}.model").load(folder)


def load_release(
    family: str, live_set: LiveSet, staging: Staging, load: Callable[[str, Path], Any] = load_model
) -> Any:
    """The model of `family` in `live_set`, ready to answer.

    Raises:
        ReleaseError: when the release is not there, or its files are not what the manifest says.
        CheckError: when its answers to the snapshot's queries cannot be right.
        Exception: whatever the family's code raises when it cannot load the folder.
    """
    version = live_set.releases[family]
    model = load(family, staging.fetch(family, version))
    snapshot = snapshots.load(live_set.snapshot)
    if live_set.roles[family] == "rank":
        _try_ranking(model, snapshot)
    else:
        doc_ids = _try_searching(model, snapshot)
        if isinstance(model, EmbedModel):
            _try_embedding(model, snapshot)
        _check_known(doc_ids, [snapshot, snapshots.load(staging.manifest(family, version).snapshot)])
    return model


def check_hits(hits: Hits) -> Hits:
    """Return `hits` if they can be right.

    Raises:
        CheckError: when a score is not finite or far too large, the order is not best first, or a document stands
            twice.
    """
    scores = [score for _, score in hits]
    if wrong := [score for score in scores if not abs(score) <= MAX_SCORE]:
        raise CheckError(f"The model gave a score that is no number from {-MAX_SCORE:g} to {MAX_SCORE:g}: {wrong[0]}.")
    if any(later > earlier for earlier, later in pairwise(scores)):
        raise CheckError("The model's hits are not in the order of their scores.")
    if len({doc_id for doc_id, _ in hits}) < len(hits):
        raise CheckError("The model gave a document twice.")
    return hits


def _try_searching(model: SearchModel, snapshot: Snapshot) -> set[str]:
    """Ask the warm-up queries, one by one as in serving. Returns the ids of the documents found."""
    doc_ids: set[str] = set()
    for text in _texts(snapshot):
        (hits,) = model.search([text], WARM_UP_HITS)
        doc_ids.update(doc_id for doc_id, _ in check_hits(hits))
    return doc_ids


def _try_embedding(model: EmbedModel, snapshot: Snapshot) -> None:
    texts = _texts(snapshot)
    vectors = model.embed(texts).tolist()
    if len(vectors) != len(texts) or not all(math.isfinite(number) for vector in vectors for number in vector):
        raise CheckError("The model's vectors are not one for each text, of finite numbers.")


def _check_known(doc_ids: set[str], corpora: Iterable[Snapshot]) -> None:
    """A model may find documents that have left the corpus since it was trained, and no other unknown ones."""
    for snapshot in corpora:
        if not doc_ids:
            return
        doc_ids = doc_ids - set(snapshot.documents()["doc_id"])
    if doc_ids:
        raise CheckError(f"The model found {len(doc_ids)} documents that are in no snapshot, such as {min(doc_ids)!r}.")


def _try_ranking(model: RankModel, snapshot: Snapshot) -> None:
    """Rank a few unions: real queries and documents, with hits that overlap in part as the models' do.

    The last union lacks a family's hits, as it does when that family's service is down.
    """
    doc_ids = snapshot.documents()["doc_id"].head(2 * WARM_UP_HITS).to_list()
    searching = list(model.families)
    texts = _texts(snapshot)
    shift = len(doc_ids) // 8
    for text in texts:
        hits = {name: _made_up_hits(doc_ids[place * shift :]) for place, name in enumerate(searching)}
        if text == texts[-1]:
            hits[searching[0]] = []
        order = check_hits(model.rank(text, hits))
        if isinstance(model, ExplainModel):
            explained, features = model.explain(text, hits, WARM_UP_EXPLAINED)
            if explained != order or len(features) != min(WARM_UP_EXPLAINED, len(order)):
                raise CheckError("The ranker explains another order than it gives, or not a row for each document.")
        if {doc_id for doc_id, _ in order} != {doc_id for family_hits in hits.values() for doc_id, _ in family_hits}:
            raise CheckError("The ranker's order does not hold exactly the documents it was asked to rank.")


def _made_up_hits(doc_ids: Sequence[str]) -> Hits:
    return [(doc_id, 1 / rank) for rank, doc_id in enumerate(doc_ids[:WARM_UP_HITS], start=1)]


def _texts(snapshot: Snapshot) -> list[str]:
    """A few real queries of the snapshot; a corpus without any is asked for its documents' titles."""
    texts = snapshot.queries()["text"].head(WARM_UP_QUERIES).to_list()
    return texts or snapshot.documents()["title"].head(WARM_UP_QUERIES).to_list()
