"""Whether a source's content changed since it was last read: a fingerprint of each, taken without reading it all.

Knows no Dagster. What was read for a snapshot is written beside it, so that a change made while nothing ran is noticed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from repos.corpus.sources import config
from repos.corpus.sources.collected import hidden
from repos.corpus.sources.files import FileState, state
from repos.corpus.sources.readers import beir, sql, table
from repos.corpus.sources.readers.pydocs import reader as pydocs
from shared_ops.data import storage


class Fingerprints(BaseModel):
    """What the configured sources hold now."""

    model_config = ConfigDict(frozen=True)

    sources: dict[str, str] = Field(description="a source's name to the hash of its settings and of its content")
    untold: list[str] = Field(description="sources whose content only reading them tells; theirs is of settings alone")
    missing: list[str] = Field(description="what must be there and is not, in words")
    files: dict[str, FileState] = Field(description="by URL")

    def known(self) -> dict[str, FileState]:
        """The files by the marks of their URLs: kept and handed to `take`, unchanged files are not read again."""
        return {_mark(url): each for url, each in self.files.items()}


def take(path: Path, known: Mapping[str, FileState]) -> Fingerprints:
    """The fingerprints of the sources that the sources file at `path` names. `known`: of those last taken.

    Raises:
        SourceError: where the file is broken, or a source cannot be reached.
    """
    sources: dict[str, str] = {}
    untold: list[str] = []
    missing: list[str] = []
    files: dict[str, FileState] = {}
    for source in config.load(path).sources:
        content: str | None
        match source.kind:
            case "pydocs":
                content = pydocs.fingerprint(source)
            case "sql":
                content = sql.fingerprint(source)
            case "beir" | "table":
                found = _files(source, known)
                files |= found
                missing += [
                    hidden(f"Source {source.name!r}: {url} is not there.")
                    for url, required in expected(source).items()
                    if required and url not in found
                ]
                content = json.dumps({url: each.content for url, each in found.items()}, sort_keys=True)
        if content is None:
            untold.append(source.name)
        sources[source.name] = hashlib.sha256(f"{source.model_dump_json()}\n{content}".encode()).hexdigest()[:16]
    return Fingerprints(sources=sources, untold=untold, missing=missing, files=files)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What happened to which source, in words."""
    return [
        f"{name} was {'added' if name not in before else 'removed' if name not in now else 'changed'}"
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name)
    ]


def remember(snapshots_url: str, snapshot_id: str, sources: Mapping[str, str]) -> None:
    """Write down what was read for a snapshot. The newest reading counts: other sources may give an equal snapshot."""
    storage.write_json(_place(snapshots_url, snapshot_id), dict(sources))


def recall(snapshots_url: str, snapshot_id: str) -> dict[str, str] | None:
    """What was read for a snapshot, None where nobody wrote it down."""
    content = storage.read_bytes(_place(snapshots_url, snapshot_id))
    if content is None:
        return None
    found: dict[str, str] = json.loads(content)
    return found


def _place(snapshots_url: str, snapshot_id: str) -> str:
    return storage.join(snapshots_url, ".fingerprints", f"{snapshot_id}.json")


def _files(source: config.BeirSource | config.TableSource, known: Mapping[str, FileState]) -> dict[str, FileState]:
    urls = expected(source)
    return {url: seen for url in urls if (seen := state(url, source.name, known.get(_mark(url)))) is not None}


def _mark(url: str) -> str:
    """What tells a URL from others where it is kept for people to see: a password may stand in it."""
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()


def expected(source: config.BeirSource | config.TableSource) -> dict[str, bool]:
    """The URLs of a source's files, and whether each must be there."""
    return beir.files(source) if source.kind == "beir" else table.files(source)
