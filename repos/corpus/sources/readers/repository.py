"""Reads what a source's repository has published: tables of documents and, where it has any, queries and judgements.

Which repositories these are says the list, and no sources file.
"""

import json
from collections.abc import Callable

from repos.corpus.sources.checked import Checked
from repos.corpus.sources.collected import Collected, SourceError
from repos.corpus.sources.config import RepositorySource
from shared_ops.data.published import PublishedError
from shared_ops.data.snapshots import Snapshots, load
from shared_ops.settings import current, source_repositories


def published(log: Callable[[str], None] = lambda line: None) -> list[RepositorySource]:
    """The repositories with the role source that have published something in prod, which dev reads, too.

    One that has published nothing yet is left out, and `log` gets a line that says so.
    """
    found = []
    for name in source_repositories():
        latest = Snapshots(current().input_source_url("prod", name)).latest()
        if latest is None:
            log(f"{name} has published nothing yet, and is left out: make train REPO={name}")
        else:
            found.append(RepositorySource(kind="repository", name=name, tables=latest))
    return found


def read(source: RepositorySource) -> Collected:
    """Read the newest published tables of a repository.

    Raises:
        SourceError: where they are not whole.
    """
    checked = Checked(source.name, source.kind)
    try:
        tables = load(source.tables)
        rows = {"documents": tables.documents(), "queries": tables.queries(), "qrels": tables.qrels()}
    except PublishedError as error:
        again = f"make train REPO={source.name} publishes its tables again."
        raise SourceError(f"Source {source.name!r}: {error} {again}") from error
    for table, frame in rows.items():
        checked.collected.rows_read[table] = len(frame)
    for row in rows["documents"].iter_rows(named=True):
        checked.document(row["doc_id"], {**row, "metadata": json.loads(row["metadata"])})
    for row in rows["queries"].iter_rows(named=True):
        checked.query(row["query_id"], row)
    for row in rows["qrels"].iter_rows(named=True):
        checked.judgement(f"{row['query_id']} {row['doc_id']}", row)
    return checked.done()
