"""The documents that may be shown: those of the live set's snapshot, held in memory."""

from typing import NamedTuple, TypeAlias

from shared_ops import snapshots
from shared_ops.snapshots import SnapshotRef


class Document(NamedTuple):
    """What the page shows of a document."""

    source: str
    title: str
    text: str
    url: str | None


Documents: TypeAlias = dict[str, Document]
"""Documents by doc_id."""


def load(ref: SnapshotRef) -> Documents:
    """The documents of a snapshot.

    Raises:
        PublishedError: when the snapshot is missing or cannot be read.
    """
    columns = snapshots.load(ref).documents().select("doc_id", "source", "title", "text", "url")
    return {
        doc_id: Document(source, title or doc_id, text, _safe(url))
        for doc_id, source, title, text, url in columns.iter_rows()
    }


def _safe(url: str | None) -> str | None:
    """Only what a browser opens as a page: a link never runs a script, whatever the source says."""
    return url if url and url.lower().startswith(("http://", "https://")) else None
