"""What a family's training learns from, and the key by which equal trainings are recognised.

Knows no Dagster. `Inputs` is what travels through a family's graph. The triggers ask `find` what a training would
learn from now, and `result_of` which release learned from that already.
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
"""The name, in place of a split's, under which a release keeps its hits for the queries of feedback."""

REACH = "reach.json"
"""The file in which a release keeps the ids of the documents that it is able to find, if these are not all."""


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
        """The key of the data: equal data has an equal key, wherever it lies."""
        return _digest(
            [self.family, self.snapshot.id, self.feedback.id if self.feedback else None, sorted(self.releases.items())]
        )

    def key(self, config: Mapping[str, Any]) -> str:
        """The key of the training: of the data, code, environment and configuration that its result depends on.

        `config` is the configuration as a run states it.
        """
        return _digest([self.data_key, code_version(self.family), environment_lock(self.family), config])

    def clicked(self) -> Feedback | None:
        """The feedback to learn from; None where there is none."""
        return None if self.feedback is None else Feedback(self.feedback)

    def asked(self) -> list["Asked"]:
        """The queries that people asked, once for each fold of the sessions, with each family's hits for them.

        For a family that learns from clicks these are its release's hits, given by a model that learned nothing from
        the sessions of the fold. For every other family, and for queries that the release does not know yet, they are
        the hits that were served. Documents that the snapshot no longer holds are left out.

        Raises:
            ReleaseError: when the files of a release are not those of its manifest.
        """
        feedback = self.clicked()
        if feedback is None:
            return []
        documents = set(load(self.snapshot).documents()["doc_id"])
        fresh = {family: self._asked_again(family) for family in self.releases}
        queries = []
        for query_id, text, fold, served_text in feedback.asked().select("query_id", "text", "fold", "hits").rows():
            name = asked_id(query_id, fold)
            served = tables.served_hits(served_text)
            hits = {family: fresh[family].get(name, served.get(family, [])) for family in self.releases}
            present = {family: [hit for hit in each if hit[0] in documents] for family, each in hits.items()}
            queries.append(Asked(query_id, fold, text, present))
        return queries

    def _asked_again(self, family: str) -> dict[str, Hits]:
        url = Staging(self.staging).checked_url(family, self.releases[family])
        there = storage.exists(storage.join(url, "hits", f"{ASKED}.parquet"))
        return tables.hits_by_query(release_hits(url, ASKED)) if there else {}

    def hits(self, family: str) -> pl.DataFrame:
        """The hits of a family's release for every split, those of this snapshot's queries and documents alone.

        Raises:
            ReleaseError: when the release's files are not those of its manifest.
        """
        snapshot = load(self.snapshot)
        url = Staging(self.staging).checked_url(family, self.releases[family])
        hits = pl.concat([release_hits(url, split) for split in SPLITS])
        return kept_hits(hits, snapshot.queries(), snapshot.documents())


@dataclass(frozen=True)
class Asked:
    """A query of feedback, asked in a fold of the sessions, and each family's hits for it."""

    query_id: str
    fold: int
    text: str
    hits: dict[str, Hits]


def asked_id(query_id: str, fold: int) -> str:
    """The id, in a release's hits of `asked`, of a query that was asked in a fold of the sessions."""
    return f"{query_id}@{fold}"


def release_hits(url: str, split: str) -> pl.DataFrame:
    """The `hits` table that the candidate or release in the folder at `url` gave the queries of a split."""
    return tables.read(storage.join(url, "hits", f"{split}.parquet"))


def reach(url: str) -> list[str] | None:
    """The documents that the candidate or release in the folder at `url` is able to find; None: all of them."""
    content = storage.read_bytes(storage.join(url, REACH))
    return None if content is None else list(json.loads(content))


def kept_hits(hits: pl.DataFrame, queries: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """The hits of these queries on these documents, without the queries' own documents, ranked anew."""
    hits = hits.join(queries, on="query_id", how="semi").join(documents, on="doc_id", how="semi")
    return tables.without_own(tables.reranked(hits), queries)


def find(
    family: str,
    snapshots: Snapshots,
    feedback: FeedbackRef | None,
    staging: Staging,
    snapshot: SnapshotRef | None = None,
    releases: Mapping[str, str] | None = None,
) -> Inputs:
    """What a training of `family` would learn from now.

    Args:
        family: the family.
        snapshots: where the newest snapshot is taken from, without a `snapshot`.
        feedback: the feedback; families that learn from none leave it out.
        staging: where a ranker's upstream releases are.
        snapshot: the snapshot to learn from.
        releases: family to version of upstream releases; of a family that is not in it, the accepted release is taken.

    Raises:
        MissingInputError: naming what is missing, and the command that makes it.
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
    """The releases whose hits a ranker learns from: of each search family the stated one, else the accepted one.

    Raises:
        MissingInputError: when a family has neither, and nothing is live yet or the family is in the live set.
    """
    upstream, live = {}, LiveSets(staging.url).live()
    for family in search_families():
        version = stated.get(family) or staging.accepted(family)
        if version:
            upstream[family] = version
        elif live is None or family in live.releases:
            raise MissingInputError(_not_accepted(family, staging))
    return upstream


def _not_accepted(family: str, staging: Staging) -> str:
    """The message that a family has no accepted release, and what to do.

    What was rejected needs a change first; wherever that is, `make train` begins with a snapshot of the sources.
    """
    message = f"{family} has no accepted release in {staging.url}."
    if not (versions := staging.versions(family)):
        return f"{message} Train one: make train REPO={family}."
    why = " ".join(staging.manifest(family, versions[-1]).gate["reasons"])
    return f"{message} {family}/{versions[-1]} was rejected: {why} Change that, then: make train."


def of_manifest(manifest: ReleaseManifest, staging: str) -> Inputs:
    """What a release learned from; `staging` is the URL of the area with the releases that a ranker learned from."""
    return Inputs(
        family=manifest.family,
        snapshot=manifest.snapshot,
        feedback=manifest.feedback,
        releases=manifest.learned_from,
        staging=staging,
    )


def result_of(inputs: Inputs, staging: Staging) -> ReleaseManifest | None:
    """The release in `staging` that learned from the same data; None when there is none.

    It is the accepted one where that did, else the one that `_best` chooses.
    """
    version = staging.accepted(inputs.family)
    accepted = _manifest(staging.url, inputs.family, version) if version else None
    if accepted and of_manifest(accepted, inputs.staging).data_key == inputs.data_key:
        return accepted
    return _best(
        manifest
        for manifest in _newest_first(inputs.family, staging)
        if of_manifest(manifest, inputs.staging).data_key == inputs.data_key
    )


def with_key(key: str, family: str, staging: Staging) -> ReleaseManifest | None:
    """The release whose training has this key, as `_best` chooses it; None when there is none."""
    return _best(manifest for manifest in _newest_first(family, staging) if manifest.key == key)


def unconfigured(manifest: ReleaseManifest) -> bool:
    """Whether a release was trained with the configuration of its code and its job alone: nobody changed it."""
    data_key = of_manifest(manifest, "").data_key
    return manifest.key == _digest([data_key, manifest.code_version, manifest.environment, {}])


def _best(manifests: Iterable[ReleaseManifest]) -> ReleaseManifest | None:
    """The newest accepted release, else the newest: one that was made again by force may have been too slow once."""
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
    """A release's manifest, cached: it never changes, and triggers read it every few seconds."""
    return Staging(url).manifest(family, version)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
