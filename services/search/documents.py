"""The documents that may be shown: those of the live set's snapshot, held in memory."""

from typing import NamedTuple, TypeAlias

from services.search.snippets import shortened
from shared_ops.data import snapshots
from shared_ops.data.snapshots import SnapshotRef


class Document(NamedTuple):
    """What the page shows of a document."""

    source: str
    title: str
    text: str
    url: str | None


LONGEST_URL = 8_000
"""Characters of a URL that every browser and server takes (RFC 9110, 4.1)."""

Documents: TypeAlias = dict[str, Document]
"""Documents by doc_id."""


def load(ref: SnapshotRef) -> Documents:
    """The documents of a snapshot.

    Raises:
        PublishedError: when the snapshot is missing or cannot be read.
    """
    columns = snapshots.load(ref).documents().select("doc_id", "source", "title", "text", "url")
    return {
        doc_id: Document(source, shortened(title or doc_id), text, _safe(url))
        for doc_id, source, title, text, url in columns.iter_rows()
    }


def _safe(url: str | None) -> str | None:
    """The URL where a browser opens it as a page, else None: a link never runs a script, whatever the source says."""
    opens = url and len(url) <= LONGEST_URL and url.lower().startswith(("http://", "https://"))
    return url if opens else None
