"""Checks whether a build could begin: `python -m repos.corpus.preflight <sources file>`, in the corpus' environment.

Reads the first rows of each source as a build does, and prints each problem that a build would report, a line each.
The exit status is 0 without problems, 1 with some, and 2 for a command line that does not name one file.
"""

import sys
from pathlib import Path

from repos.corpus import build
from repos.corpus.sources import config
from repos.corpus.sources.collected import Collected, SourceError
from repos.corpus.sources.readers import sql
from repos.corpus.sources.readers.pydocs import reader as pydocs

ROWS = 1000
"""How many rows of each table are read at most: enough to meet a mistake that all rows have."""


def problems(path: Path) -> list[str]:
    """Why the sources that the file at `path` names cannot be read, a sentence for each reason; empty when they can."""
    try:
        sources = config.load(path)
    except SourceError as error:
        return [str(error)]
    return [problem for source in sources.sources for problem in _problems_of(source, sources.bad_share_of(source))]


def _problems_of(source: config.Source, max_bad_share: float) -> list[str]:
    try:
        if source.kind == "pydocs":  # reading it takes a minute
            pydocs.check_installed(source)
            return []
        if source.kind == "sql":
            sql.fingerprint(source)
        _check(build.read(source, ROWS), max_bad_share)
    except SourceError as error:
        return [str(error)]
    return []


def _check(collected: Collected, max_bad_share: float) -> None:
    """Check the bad rows of a source as a build does, once all of its rows were read.

    Where a table has more rows than were read, only what is wrong with every row read counts. Judgements of an unknown
    query or document do not: it may come later.

    Raises:
        SourceError: where a build would stop.
    """
    report = collected.report
    report.max_bad_share = max_bad_share
    collected.summarise()
    if not collected.cut:
        build.check([report])
        return
    report.bad = {
        kind: bad for kind, bad in report.bad.items() if bad.count >= bad.of and not kind.startswith("qrels: unknown")
    }
    build.check_bad([report])


if __name__ == "__main__":
    messages = problems(build.sources_file("preflight", sys.argv[1:]))
    print("\n".join(messages))
    sys.exit(1 if messages else 0)
