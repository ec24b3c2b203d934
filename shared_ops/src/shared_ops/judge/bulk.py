"""Answers tables of queries in bulk: by one release, or as people are answered by a whole set.

Knows no Dagster. Each release answers in its own code and environment, by the same means as an evaluation's
(`judge.answering`). Queries are answered in parts, and what a part has given is written before the next: so memory is
bounded by a part, whatever the number of queries.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import fsspec
import polars as pl

from shared_ops.data import storage, tables
from shared_ops.data.questions import Questions
from shared_ops.data.snapshots import SnapshotRef, load
from shared_ops.judge import trec
from shared_ops.judge.answering import answering
from shared_ops.judge.training import Open, Ranking
from shared_ops.release import inputs
from shared_ops.release.releases import Staging
from shared_ops.settings import families

DONE, BEGUN = "predictions.json", "predictions.begun"
"""The file that is written last, which says what answered what; and that which is there until then."""
HITS, RUN = "hits", "run.trec"
PART = 1_000
"""Queries in a part, unless another number is asked for."""
TOLD_SECONDS = 5.0
"""The least time between two words on how far it is."""


class BulkError(RuntimeError):
    """Queries that cannot be answered in bulk as asked."""


class Answering(Protocol):
    """Whatever answers a table of queries (query_id, text) with a `hits` table."""

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The `hits` table of queries."""


@dataclass(frozen=True)
class SetAnswers:
    """The answers of a whole set: the search families' hits, ordered by the ranker."""

    searches: Mapping[str, Answering]
    ranker: Ranking
    shown: frozenset[str] | None
    """The documents that may be shown; None: all."""

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The final order of each query, as the search app gives it."""
        hits = {family: self._shown(answers.many(queries)) for family, answers in self.searches.items()}
        return self.ranker.rank(queries, hits)

    def _shown(self, hits: pl.DataFrame) -> pl.DataFrame:
        if self.shown is None:
            return hits
        return tables.reranked(hits.filter(pl.col("doc_id").is_in(self.shown)))


@contextmanager
def opened(
    staging: Staging,
    family: str,
    version: str,
    *,
    upstream: Staging | None = None,
    releases: Mapping[str, str] | None = None,
    snapshot: SnapshotRef | None = None,
    open_model: Open | None = None,
) -> Iterator[Answering]:
    """A release, ready to answer: a search family's alone, a ranker's with the releases whose hits it orders.

    Args:
        staging: the area that holds the release.
        upstream: the area with the releases that a ranker orders the hits of; None: the same.
        family: the release's family.
        version: the release.
        releases: family to version of the releases that a ranker orders the hits of; None: those it learned from.
        snapshot: only its documents are shown, as in a live set; None: all.
        open_model: opens the release in this process, where it was made with this process's code and environment.

    Raises:
        ReleaseError, CodeError, RuntimeMissingError: when a release cannot be opened.
    """
    manifest = staging.manifest(family, version)
    # A family that is listed no more searched: a ranker says of itself what it learned from.
    ranks = families()[family].role == "rank" if family in families() else bool(manifest.learned_from)
    upstream = upstream or staging
    with ExitStack() as stack:
        own = stack.enter_context(answering(staging, inputs.of_manifest(manifest, upstream.url), version, open_model))
        if not ranks:
            yield own
            return
        searches = {}
        for name, release in (releases or manifest.learned_from).items():
            asked = inputs.of_manifest(upstream.manifest(name, release), upstream.url)
            searches[name] = stack.enter_context(answering(upstream, asked, release))
        shown = frozenset(load(snapshot).documents()["doc_id"]) if snapshot else None
        yield SetAnswers(searches, cast(Ranking, own), shown)


@dataclass(frozen=True)
class Answered:
    """What has been answered: where the answers lie, how many there are, and how long it took."""

    url: str
    queries: int
    without_hits: int
    hits: int
    seconds: float


def refuse_taken(url: str) -> None:
    """See that the folder at an fsspec URL is not there yet, or is empty, or was begun and not ended.

    Raises:
        BulkError: when it holds anything else, which is never written over.
    """
    filesystem, path = fsspec.core.url_to_fs(url)
    if filesystem.isfile(path):
        raise BulkError(f"{url} is a file. Name a folder for the answers.")
    there = set(storage.names(url))
    if there and not (BEGUN in there and there <= {BEGUN, HITS, RUN}):
        what = "holds answers already" if DONE in there else "is not empty"
        raise BulkError(f"{url} {what}. Name another folder, or remove it.")


def claim(url: str) -> None:
    """Take the folder at an fsspec URL for answers.

    Raises:
        BulkError: when it is taken.
    """
    refuse_taken(url)
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.makedirs(path, exist_ok=True)
    storage.write_atomic(storage.join(url, BEGUN), b"")
    storage.remove(storage.join(url, HITS))


def answer(
    questions: Questions,
    answers: Answering,
    url: str,
    k: int,
    by: Mapping[str, Any],
    log: Callable[[str], None],
    rows: int = PART,
) -> Answered:
    """Write the best `k` hits of each query into the folder at an fsspec URL, which was claimed.

    hits/part-000000.parquet, ...   a `hits` table for each part
    run.trec                        all of them as a TREC run, whose tag is by["tag"]
    predictions.json                `by` and the counts; written last
    """
    began, told, done, total, without = time.monotonic(), 0.0, 0, 0, 0
    filesystem, path = fsspec.core.url_to_fs(url)
    with filesystem.open(f"{path}/{RUN}", "w", encoding="utf-8") as run:
        for number, part in enumerate(questions.parts(rows)):
            hits = answers.many(part.filter(pl.col("text") != "")).filter(pl.col("rank") <= k)
            tables.write(storage.join(url, HITS, f"part-{number:06}.parquet"), hits)
            run.writelines(trec.run_lines(str(by["tag"]), tables.hits_by_query(hits)))
            done, total = done + len(part), total + len(hits)
            without += len(part) - hits["query_id"].n_unique()
            seconds = time.monotonic() - began
            if done == questions.count or seconds - told > TOLD_SECONDS:
                log(f"{done:,} of {questions.count:,} queries answered, {done / seconds:,.1f} a second")
                told = seconds
    answered = Answered(url, done, without, total, time.monotonic() - began)
    counts = {"queries": done, "queries_without_hits": without, "hits": total, "seconds": round(answered.seconds, 1)}
    storage.write_json(storage.join(url, DONE), {**by, "k": k, **counts})
    storage.remove(storage.join(url, BEGUN))
    return answered
