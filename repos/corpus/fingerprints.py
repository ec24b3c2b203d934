"""Fingerprints of sources: hashes that differ once a source's content has changed, taken without reading all of it.

The fingerprints of what was read for a snapshot are written beside it, so that a change made while nothing ran is
noticed. Knows no Dagster.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from repos.corpus.sources import config
from repos.corpus.sources.collected import mask_secrets
from repos.corpus.sources.files import FileState, state
from repos.corpus.sources.readers import beir, repository, sql, table
from repos.corpus.sources.readers.pydocs import reader as pydocs
from shared_ops.data import storage


class Fingerprints(BaseModel):
    """The fingerprints of the sources, those that repositories publish among them, and the states of their files."""

    model_config = ConfigDict(frozen=True)

    sources: dict[str, str] = Field(
        description="a source's name to the hash of its settings and content; a repository's to that of its tables"
    )
    unobserved: list[str] = Field(description="sources whose content only reading tells; of their settings alone")
    missing: list[str] = Field(description="what must be there and is not, in words")
    files: dict[str, FileState] = Field(description="by URL")

    def states_by_hash(self) -> dict[str, FileState]:
        """The files' states by the hashes of their URLs. With them the next `take` does not read unchanged files."""
        return {_hash(url): each for url, each in self.files.items()}


def take(path: Path, previous: Mapping[str, FileState]) -> Fingerprints:
    """The fingerprints of the sources that the sources file at `path` names, and of what repositories have published.

    `previous` holds the file states of the last time (`states_by_hash`), or is empty.

    Raises:
        SourceError: where the file is broken, or a source cannot be reached.
    """
    sources: dict[str, str] = {}
    unobserved: list[str] = []
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
                states = _states(source, previous)
                files |= states
                missing += [
                    mask_secrets(f"Source {source.name!r}: {url} is not there.")
                    for url, required in expected(source).items()
                    if required and url not in states
                ]
                content = json.dumps({url: each.content for url, each in states.items()}, sort_keys=True)
        if content is None:
            unobserved.append(source.name)
        sources[source.name] = hashlib.sha256(f"{source.model_dump_json()}\n{content}".encode()).hexdigest()[:16]
    sources |= {source.name: source.tables.id for source in repository.published()}
    return Fingerprints(sources=sources, unobserved=unobserved, missing=missing, files=files)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Which sources were added, removed or changed, a phrase for each."""
    return [
        f"{name} was {'added' if name not in before else 'removed' if name not in now else 'changed'}"
        for name in dict.fromkeys([*now, *before])
        if before.get(name) != now.get(name)
    ]


def remember(snapshots_url: str, snapshot_id: str, sources: Mapping[str, str]) -> None:
    """Write the fingerprints of a snapshot's sources, over older ones: other sources may give an equal snapshot."""
    storage.write_json(_place(snapshots_url, snapshot_id), dict(sources))


def recall(snapshots_url: str, snapshot_id: str) -> dict[str, str] | None:
    """The fingerprints of a snapshot's sources, None where nobody wrote them."""
    content = storage.read_bytes(_place(snapshots_url, snapshot_id))
    if content is None:
        return None
    sources: dict[str, str] = json.loads(content)
    return sources


def _place(snapshots_url: str, snapshot_id: str) -> str:
    return storage.join(snapshots_url, ".fingerprints", f"{snapshot_id}.json")


def _states(source: config.BeirSource | config.TableSource, previous: Mapping[str, FileState]) -> dict[str, FileState]:
    urls = expected(source)
    states = {url: state(url, source.name, previous.get(_hash(url))) for url in urls}
    return {url: each for url, each in states.items() if each is not None}


def _hash(url: str) -> str:
    """What stands for a URL in the sensor's cursor, which people see: the URL itself may hold a password."""
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()


def expected(source: config.BeirSource | config.TableSource) -> dict[str, bool]:
    """The URLs of a source's files, and whether each must be there."""
    return beir.files(source) if source.kind == "beir" else table.files(source)
