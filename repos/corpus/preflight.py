"""Whether a build could begin: `python -m repos.corpus.preflight <sources file>`, in the corpus' environment.

Looks at each source without reading it: the sources file says what it should, files are there, databases answer. Prints
what is wrong, a line each, and then ends with 1.
"""

import sys
from pathlib import Path

from repos.corpus.sources import config, fingerprints, sql
from repos.corpus.sources.collected import SourceError, hidden
from repos.corpus.sources.files import exists


def problems(path: Path) -> list[str]:
    """What keeps the sources that the file at `path` names from being read, in words; empty when nothing does."""
    try:
        sources = config.load(path).sources
    except SourceError as error:
        return [str(error)]
    return [problem for source in sources for problem in _look(source)]


def _look(source: config.Source) -> list[str]:
    try:
        match source.kind:
            case "sql":
                sql.look(source)
            case "beir" | "table":
                needed = [url for url, required in fingerprints.expected(source).items() if required]
                missing = [hidden(url) for url in needed if not exists(url, source.name)]
                return [
                    f"Source {source.name!r}: {url} is not there. Check its path in the sources file."
                    for url in missing
                ]
    except SourceError as error:
        return [str(error)]
    return []


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    print("\n".join(found))
    sys.exit(1 if found else 0)
