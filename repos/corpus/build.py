"""From a sources file to the tables of one snapshot, with a report of what each source gave and what was wrong.

    python -m repos.corpus.build deploy/sources/pydocs.yaml

Knows no Dagster: the ops wrap it. It publishes nothing.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from repos.corpus.sources import config
from repos.corpus.sources.collected import PRECEDENCE, Collected, SourceError, SourceReport
from repos.corpus.sources.readers import beir, repository, sql, table
from repos.corpus.sources.readers.pydocs import reader as pydocs
from shared_ops.data import markdown, tables
from shared_ops.data.text import normalise

KINDS = ("documents", "queries", "qrels", "slices")


@dataclass
class Built:
    """The tables of a snapshot by name, and the reports on the sources: those of the file, then others."""

    tables: dict[str, pl.DataFrame]
    reports: list[SourceReport]


def build(sources: config.Sources, log: Callable[[str], None] = lambda line: None) -> Built:
    """Read every source and merge their rows. Bad rows are left out and reported; `check` says if they are too many.

    These are the sources of the file, and what the repositories with the role source have published.

    With several sources in the file, each id of a beir, table or sql source gets the source's name as a prefix
    ("cranfield:471"), so that ids of different sources never collide; a single source keeps its own ids, so that
    outside judgements fit its run files. Ids of a repository always get its name, so that a repository that comes or
    goes renames no other id. A text that several queries share stays in one split only, the most held back of theirs.

    Args:
        sources: the content of a sources file.
        log: called with each line on the progress.

    Raises:
        SourceError: where a source cannot be read.
        shared_ops.data.tables.TableError: where the merged tables do not hold to the schemas.
    """
    collections = []
    several = len(sources.sources) > 1
    for source in [*sources.sources, *repository.published(log)]:
        log(f"Reading {source.name} ({source.kind})")
        collected = read(source)
        collected.report.max_bad_share = sources.bad_share_of(source)
        if source.kind == "repository" or (several and source.kind != "pydocs"):
            _prefix(collected, f"{source.name}:")
        collections.append(collected)
    _keep_held_back(collections)
    for collected in collections:
        log(collected.summarise())
    merged = {kind: tables.make(kind, [row for each in collections for row in getattr(each, kind)]) for kind in KINDS}
    return Built(
        {kind: frame.sort(frame.columns) for kind, frame in merged.items()}, [each.report for each in collections]
    )


def read(source: config.Source | config.RepositorySource, most: int | None = None) -> Collected:
    """Read one source: at most `most` rows of each table, or all (None).

    A pydocs source and what a repository has published are always read whole.

    Raises:
        SourceError: where it cannot be read.
    """
    match source.kind:
        case "pydocs":
            return pydocs.read(source)
        case "beir":
            return beir.read(source, most)
        case "table":
            return table.read(source, most)
        case "sql":
            return sql.read(source, most)
        case "repository":
            return repository.read(source)


def check(reports: Sequence[SourceReport]) -> None:
    """Check that no source has too many bad rows, and that each of the sources file gives documents.

    Raises:
        SourceError: naming the source and what is wrong with it.
    """
    check_bad(reports)
    if empty := [report.name for report in reports if not report.documents and report.kind != "repository"]:
        raise SourceError(
            f"Source {empty[0]!r} gives no documents. Nothing was published; check it in the sources file."
        )


def check_bad(reports: Sequence[SourceReport]) -> None:
    """Check that no source has more bad rows of a kind than its `max_bad_share`.

    Raises:
        SourceError: naming the source, the kind, the number of rows, the limit, and the first places.
    """
    too_much = [
        f"source {report.name!r}, {kind}: {bad.count} of {bad.of} rows ({bad.count / bad.of:.1%}, the limit is "
        f"{report.max_bad_share:.1%}), first {'; '.join(bad.examples)}"
        for report in reports
        for kind, bad in report.bad.items()
        if bad.count > report.max_bad_share * bad.of
    ]
    if too_much:
        raise SourceError(
            f"Too much is bad, and nothing was published: {'. '.join(too_much)}. Mend the source, or raise "
            "max_bad_share in the sources file if these rows may be left out."
        )


def summary(reports: Sequence[SourceReport]) -> str:
    """The reports as Markdown: what each source gave, its kinds of bad rows with their first places, and its notes."""
    read = [(each.name, each.kind, each.documents, each.queries, each.judgements) for each in reports]
    bad = [
        (each.name, kind, bad.count, bad.of, f"{each.max_bad_share:.1%}", "; ".join(bad.examples))
        for each in reports
        for kind, bad in each.bad.items()
    ]
    notes = [(each.name, what, count) for each in reports for what, count in each.notes.items()]
    parts: list[tuple[Sequence[str], Sequence[Sequence[object]]]] = [
        (("source", "kind", "documents", "queries", "judgements"), read),
        (("source", "bad rows", "count", "of", "limit", "first"), bad),
        (("source", "left out or changed by rule", ""), notes),
    ]
    return "\n\n".join(markdown.table(columns, rows) for columns, rows in parts if rows)


def _prefix(collected: Collected, prefix: str) -> None:
    for kind in KINDS:
        for row in getattr(collected, kind):
            row.update({key: prefix + row[key] for key in ("doc_id", "query_id", "own_doc_id") if row.get(key)})


def _keep_held_back(collections: Sequence[Collected]) -> None:
    """Leave out queries whose text is in a more held-back split too: they would teach what is tested."""
    best: dict[str, str] = {}
    for query in (query for collected in collections for query in collected.queries):
        text = normalise(query["text"])
        best[text] = min(best.get(text, "train"), query["split"], key=PRECEDENCE.index)
    for collected in collections:
        ids = {query["query_id"] for query in collected.queries if query["split"] == best[normalise(query["text"])]}
        collected.note("queries: text stands in a more held-back split too", len(collected.queries) - len(ids))
        for kind in ("queries", "qrels", "slices"):
            setattr(collected, kind, [row for row in getattr(collected, kind) if row["query_id"] in ids])


def sources_file(program: str, arguments: Sequence[str]) -> Path:
    """The sources file that a command line names. For none or several it prints the usage and exits with status 2."""
    if len(arguments) != 1:
        print(
            f"Expected one sources file, got {len(arguments)}: {' '.join(arguments) or 'nothing'}. Write python -m "
            f"repos.corpus.{program} <sources file>, like deploy/sources/pydocs.yaml.",
            file=sys.stderr,
        )
        sys.exit(2)
    return Path(arguments[0])


if __name__ == "__main__":
    path = sources_file("build", sys.argv[1:])
    try:
        built = build(config.load(path), print)
        print(summary(built.reports))
        check(built.reports)
    except SourceError as error:
        sys.exit(str(error))
