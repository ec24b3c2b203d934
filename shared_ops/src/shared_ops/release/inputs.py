"""What a family's training learns from, found where it lies now, and the key by which equal trainings are known.

Knows no Dagster. `Inputs` is what travels through a family's graph; the triggers ask `find` what a training would
learn from, and `result_of` whether one already did.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from shared_ops.data import storage, tables
from shared_ops.data.feedback import Feedback, FeedbackRef
from shared_ops.data.home_urls import HomeUrl
from shared_ops.data.snapshots import SnapshotRef, Snapshots, load
from shared_ops.data.tables import Hits
from shared_ops.data.text import SPLITS
from shared_ops.release.codes import code_version
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging, environment_lock
from shared_ops.settings import data_repository, repositories, search_families

ASKED = "asked"
"""Where a release keeps its hits for the queries of feedback, as if it were a split."""

REACH = "reach.json"
"""Where a release keeps the ids of the documents that it is able to find, if these are not all."""


class MissingInputError(RuntimeError):
    """Something to learn from is not there yet."""


class Inputs(BaseModel):
    """What a training learns from: references to data that never changes."""

    model_config = ConfigDict(frozen=True)

    family: str
    snapshot: SnapshotRef
    feedback: FeedbackRef | None = Field(default=None, description="None: of a family that learns from no clicks")
    releases: dict[str, str] = Field(default={}, description="family to the version whose hits a ranker learns from")
    staging: HomeUrl = Field(default="", description="the staging area that holds these releases")

    @property
    def data_key(self) -> str:
        """Names the data: equal data, equal key, wherever it lies."""
        return _digest(
            [self.family, self.snapshot.id, self.feedback.id if self.feedback else None, sorted(self.releases.items())]
        )

    def key(self, config: Mapping[str, Any]) -> str:
        """Names the training: data, code, environment and configuration (as a run states it) make the result."""
        return _digest([self.data_key, code_version(self.family), environment_lock(self.family), config])

    def clicked(self) -> Feedback | None:
        """The feedback to learn from, None where there is none."""
        return None if self.feedback is None else Feedback(self.feedback)

    def asked(self) -> list["Asked"]:
        """What people asked, once for each fold of the sessions, with what every family finds for it.

        A family that learns from clicks is asked again: its release's hits are those of a model that learned nothing
        from the sessions of the fold. Of every other family, and of what that release does not know yet, it is what
        was served. Documents that the snapshot no longer holds are left out.
        """
        feedback = self.clicked()
        if feedback is None:
            return []
        documents = set(load(self.snapshot).documents()["doc_id"])
        again = {family: self._asked_again(family) for family in self.releases}
        asked = []
        for query_id, text, fold, served in feedback.asked().select("query_id", "text", "fold", "hits").iter_rows():
            name = asked_id(query_id, fold)
            once = tables.served_hits(served)
            hits = {family: again[family].get(name, once.get(family, [])) for family in self.releases}
            kept = {family: [hit for hit in found if hit[0] in documents] for family, found in hits.items()}
            asked.append(Asked(query_id, fold, text, kept))
        return asked

    def _asked_again(self, family: str) -> dict[str, Hits]:
        url = Staging(self.staging).release_url(family, self.releases[family])
        there = storage.exists(storage.join(url, "hits", f"{ASKED}.parquet"))
        return tables.hits_by_query(release_hits(url, ASKED)) if there else {}

    def hits(self, family: str) -> pl.DataFrame:
        """The hits of a family's release for every split, those of this snapshot's queries and documents alone."""
        snapshot = load(self.snapshot)
        url = Staging(self.staging).release_url(family, self.releases[family])
        found = pl.concat([release_hits(url, split) for split in SPLITS])
        return kept_hits(found, snapshot.queries(), snapshot.documents())


@dataclass(frozen=True)
class Asked:
    """A query of feedback, asked in a fold of the sessions, and each family's hits for it."""

    query_id: str
    fold: int
    text: str
    hits: dict[str, Hits]


def asked_id(query_id: str, fold: int) -> str:
    """The query id, in a release's hits of `asked`, of a query that was asked in a fold of the sessions."""
    return f"{query_id}@{fold}"


def release_hits(url: str, split: str) -> pl.DataFrame:
    """The `hits` table that the release in the folder at `url` gave the queries of a split."""
    return tables.read(storage.join(url, "hits", f"{split}.parquet"))


def reach(url: str) -> list[str] | None:
    """The documents that the release in the folder at `url` is able to find (`training.Trained`); None: all of them."""
    content = storage.read_bytes(storage.join(url, REACH))
    return None if content is None else list(json.loads(content))


def kept_hits(hits: pl.DataFrame, queries: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """The hits for these queries among these documents, none of a query's own document; ranks are counted anew."""
    kept = hits.join(queries, on="query_id", how="semi").join(documents, on="doc_id", how="semi")
    return tables.without_own(tables.reranked(kept), queries)


def find(
    family: str,
    snapshots: Snapshots,
    feedback: FeedbackRef | None,
    staging: Staging,
    snapshot: SnapshotRef | None = None,
    releases: Mapping[str, str] | None = None,
) -> Inputs:
    """What a training of `family` would learn from now: the newest snapshot and accepted releases that are not given.

    Of the feedback only families that learn from it take notice.

    Raises:
        MissingInputError: naming what is not there, and the command that makes it.
    """
    repository = repositories()[family]
    snapshot = snapshot or newest_snapshot(snapshots)
    upstream = _upstream(staging, releases or {}) if repository.role == "rank" else {}
    return Inputs(
        family=family,
        snapshot=snapshot,
        feedback=feedback if repository.feedback else None,
        releases=upstream,
        staging=staging.url,
    )


def newest_snapshot(snapshots: Snapshots) -> SnapshotRef:
    """The newest snapshot there is.

    Raises:
        MissingInputError: when there is none, with the command that makes one.
    """
    if snapshot := snapshots.latest():
        return snapshot
    raise MissingInputError(
        f"There is no snapshot in {snapshots.url} yet. Build one: make train REPO={data_repository()}."
    )


def _upstream(staging: Staging, stated: Mapping[str, str]) -> dict[str, str]:
    """The releases whose hits a ranker learns from: of each listed family the one that is stated, or the accepted one.

    A family that has none yet is waited for before the first live set, and after it only if it takes part in that one.
    """
    found, live = {}, LiveSets(staging.url).live()
    for family in search_families():
        version = stated.get(family) or staging.accepted(family)
        if version:
            found[family] = version
        elif live is None or family in live.releases:
            raise MissingInputError(_not_accepted(family, staging))
    return found


def _not_accepted(family: str, staging: Staging) -> str:
    """That a family has no accepted release, and what helps: another try helps only where there was none."""
    said = f"{family} has no accepted release in {staging.url}."
    if not (versions := staging.versions(family)):
        return f"{said} Train one: make train REPO={family}."
    why = " ".join(staging.manifest(family, versions[-1]).gate["reasons"])
    return f"{said} {family}/{versions[-1]} was rejected: {why} Change that, then: make train REPO={family}."


def of_manifest(manifest: ReleaseManifest, staging: str) -> Inputs:
    """What a release learned from; `staging` holds the releases that a ranker learned from."""
    return Inputs(
        family=manifest.family,
        snapshot=manifest.snapshot,
        feedback=manifest.feedback,
        releases=manifest.learned_from,
        staging=staging,
    )


def result_of(inputs: Inputs, staging: Staging) -> ReleaseManifest | None:
    """The release in `staging` that learned from the same data; None when there is none.

    The accepted one where that did, else as `_best` has it.
    """
    accepted = staging.accepted(inputs.family)
    present = _manifest(staging.url, inputs.family, accepted) if accepted else None
    if present and of_manifest(present, inputs.staging).data_key == inputs.data_key:
        return present
    return _best(
        manifest
        for manifest in _newest_first(inputs.family, staging)
        if of_manifest(manifest, inputs.staging).data_key == inputs.data_key
    )


def with_key(key: str, family: str, staging: Staging) -> ReleaseManifest | None:
    """The release of this key, as `_best` has it; None when there is none."""
    return _best(manifest for manifest in _newest_first(family, staging) if manifest.key == key)


def unconfigured(manifest: ReleaseManifest) -> bool:
    """Whether nobody configured its training: its configuration is that of its code and of the job."""
    data_key = of_manifest(manifest, "").data_key
    return manifest.key == _digest([data_key, manifest.code_version, manifest.environment, {}])


def _best(manifests: Iterable[ReleaseManifest]) -> ReleaseManifest | None:
    """The newest that its gate accepted, else the newest: what was made again by force may have been too slow once."""
    newest: ReleaseManifest | None = None
    for manifest in manifests:
        if manifest.accepted:
            return manifest
        newest = newest or manifest
    return newest


def _newest_first(family: str, staging: Staging) -> Iterator[ReleaseManifest]:
    return (_manifest(staging.url, family, version) for version in reversed(staging.versions(family)))


@lru_cache(maxsize=256)
def _manifest(url: str, family: str, version: str) -> ReleaseManifest:
    """Published manifests never change, and triggers read them every few seconds."""
    return Staging(url).manifest(family, version)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
