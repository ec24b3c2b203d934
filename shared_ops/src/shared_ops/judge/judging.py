"""What a model is judged by: the test queries with their judgements, and what the newest sessions clicked.

Knows no Dagster and no model. Where no test query is judged, as in a corpus that is nothing but documents, the newest
sessions judge alone.
"""

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from shared_ops.data import tables
from shared_ops.data.feedback import Feedback, FeedbackRef
from shared_ops.data.snapshots import Snapshot
from shared_ops.judge.evaluation import attainable, per_query, slice_members

NEWEST = "newest clicks"
"""The slice of the queries that the newest sessions asked, judged by what they clicked."""


@dataclass(frozen=True)
class JudgedQueries:
    """Queries with their judgements, from which nothing has learned."""

    snapshot: Snapshot
    test: pl.DataFrame
    """The judged test queries: query_id, text."""
    newest: pl.DataFrame
    """What the newest sessions clicked (table `newest`); no rows where nobody clicked."""
    feedback: FeedbackRef | None
    """The feedback that `newest` is from."""

    @classmethod
    def of(cls, snapshot: Snapshot, feedback: FeedbackRef | None) -> "JudgedQueries":
        """The judged test queries of a snapshot, and the newest sessions of feedback where there is any."""
        judged = snapshot.queries("test").join(snapshot.qrels(), on="query_id", how="semi")
        newest = Feedback(feedback).newest() if feedback else tables.empty("newest")
        return cls(snapshot, judged.select("query_id", "text").sort("query_id"), newest, feedback)

    @property
    def asked_newest(self) -> pl.DataFrame:
        """The queries of the newest sessions: query_id, text."""
        return self.newest.select("query_id", "text").unique("query_id").sort("query_id")

    @property
    def asked(self) -> pl.DataFrame:
        """All queries: query_id, text."""
        return pl.concat([self.test, self.asked_newest])

    @property
    def qrels(self) -> pl.DataFrame:
        """All judgements: query_id, doc_id, grade."""
        columns = ("query_id", "doc_id", "grade")
        return pl.concat([self.snapshot.qrels("test").select(columns), self.newest.select(columns)])

    def measure(self, hits: pl.DataFrame) -> pl.DataFrame:
        """Each query's measures (`evaluation.per_query`)."""
        return per_query(self._countable(hits), self.qrels)

    def _countable(self, hits: pl.DataFrame) -> pl.DataFrame:
        """The hits without the documents that are the queries themselves."""
        return tables.without_own(hits, self.snapshot.queries("test"))

    @property
    def slices(self) -> pl.DataFrame:
        """The queries of each slice (query_id, slice) as metrics are reported: `all` holds the test queries."""
        return pl.concat([slice_members(self.snapshot), self._newest_as(NEWEST)])

    @property
    def members(self) -> pl.DataFrame:
        """The queries of each slice (query_id, slice) as gates compare: `all` has the newest sessions' queries too."""
        return pl.concat([self.slices, self._newest_as("all")])

    @property
    def texts(self) -> dict[str, str]:
        """Each query's text."""
        return dict(self.asked.iter_rows())

    def attainable(self, reach: Collection[str] | None, hits: pl.DataFrame) -> pl.DataFrame:
        """What a model with this `reach` and these hits can measure for each query (`evaluation.attainable`)."""
        return attainable(self.qrels, len(self.snapshot.documents()), reach, self._countable(hits))

    def _newest_as(self, name: str) -> pl.DataFrame:
        return self.asked_newest.select("query_id", pl.lit(name).alias("slice"))


def all_alike(snapshot: Snapshot) -> bool:
    """Whether the documents, more than one, hold the same words: then no order is better than another."""
    documents = snapshot.documents().select("title", "text")
    return len(documents) > 1 and documents.n_unique() == 1
