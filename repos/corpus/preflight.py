"""Whether a build could begin: `python -m repos.corpus.preflight <sources file>`, in the corpus' environment.

Reads the first rows of each source as a build does, and says what a build would say. Prints what is wrong, a line each,
and then ends with 1; with 2 where it is called otherwise.
"""

import sys
from pathlib import Path

from repos.corpus import build
from repos.corpus.sources import config
from repos.corpus.sources.collected import Collected, SourceError
from repos.corpus.sources.readers import sql
from repos.corpus.sources.readers.pydocs import reader as pydocs

ROWS = 1000
"""How many rows of each table are read: enough to meet what is wrong with all of them."""


def problems(path: Path) -> list[str]:
    """What keeps the sources that the file at `path` names from being read, in words; empty when nothing does."""
    try:
        sources = config.load(path)
    except SourceError as error:
        return [str(error)]
    return [problem for source in sources.sources for problem in _look(source, sources.bad_share_of(source))]


def _look(source: config.Source, max_bad_share: float) -> list[str]:
    try:
        if source.kind == "pydocs":  # reading it takes a minute
            pydocs.look(source)
            return []
        if source.kind == "sql":
            sql.fingerprint(source)
        _check(build.read(source, ROWS), max_bad_share)
    except SourceError as error:
        return [str(error)]
    return []


def _check(collected: Collected, max_bad_share: float) -> None:
    """Judge the bad rows of a source: all of them, or where it has more rows than were read, what is wrong with each.

    There, judgements may well be of a query or document that comes later.
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
    found = problems(build.sources_file("preflight", sys.argv[1:]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
