"""The code that a release runs with: kept as plain text, by its hash, beside the releases, and run from there.

Knows no Dagster. A family's code is its folder, shared_ops, and the host that serves it (services/), as they lay in the
checkout when its training began; of repos.toml its own entry alone, so that what others change there is none of its
business. On Kubernetes an image holds the same, and the hash is its tag.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from shared_ops import storage
from shared_ops.settings import ROOT, current, repositories

TREE = "tree.json"
"""Names every file of a kept tree with its SHA-256: it is written last, and its own hash is the tree's."""

SHARED = ("shared_ops/src/shared_ops", "services/prediction")
"""Folders that every family's code holds beside its own."""
HOST = "services"
"""The folder whose own files, without the folders in it, the host needs besides."""
ENTRY = "repos/repos.toml"
LEFT_OUT = ("tests", "__pycache__")


class CodeError(RuntimeError):
    """Code that is not there, or not what its hash says."""


def tree(family: str) -> dict[str, bytes]:
    """The family's code as it lies in this checkout: path to content."""
    folders = [f"repos/{family}", *SHARED]
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    found += [*(ROOT / HOST).glob("*.py"), ROOT / "repos" / "__init__.py"]
    names = sorted(path.relative_to(ROOT) for path in found if path.is_file())
    read = {name.as_posix(): (ROOT / name).read_bytes() for name in names if _belongs(name)}
    return read | {ENTRY: _own_entry(family)}


def digest(content: Mapping[str, bytes]) -> str:
    """The hash of a tree: the SHA-256 of the names and hashes of its files."""
    return hashlib.sha256(_listing(content)).hexdigest()


def present(family: str) -> str:
    """The hash of the family's code as it lies in this checkout."""
    return digest(tree(family))


@cache
def loaded(family: str) -> dict[str, bytes]:
    """The code that this process runs: the checkout's when it was first asked, which is while the family's ops load."""
    return tree(family)


def keep(root: str, content: Mapping[str, bytes]) -> str:
    """Keep a tree in the store at the fsspec URL `root`; returns its hash. Keeping it again changes nothing."""
    name = digest(content)
    with tempfile.TemporaryDirectory() as scratch:
        for path, text in content.items():
            (Path(scratch) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / path).write_bytes(text)
        (Path(scratch) / TREE).write_bytes(_listing(content))
        storage.publish_folder(Path(scratch), storage.join(root, name), commit=TREE)
    return name


def fetch(root: str, name: str) -> Path:
    """A local folder with the kept tree of this hash, every file checked: one can be imported from there.

    A store on this machine is read in place; another's tree is copied once into the cache under SEARCHLOOP_HOME.

    Raises:
        CodeError: when it is missing, or a file is missing, changed or strange.
    """
    url = storage.join(root, name)
    if not storage.exists(storage.join(url, TREE)):
        raise CodeError(f"The code {name[:12]} is not in {root}. Train the release again.")
    folder = storage.local_path(url) or _cached(url, name)
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    # What a library caches beside a source is no code: Python is told to look for its own elsewhere (runtimes).
    kept = [each for each in names if "__pycache__" not in each.parts and each.as_posix() != TREE]
    content = {each.as_posix(): (folder / each).read_bytes() for each in kept}
    if digest(content) != name:
        raise CodeError(
            f"The code in {folder} is not what was kept there (its hash is another). Train the release again."
        )
    return folder


def _cached(url: str, name: str) -> Path:
    place = current().home / "cache" / "code" / name
    if not (place / TREE).exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            storage.fetch_folder(url, Path(scratch))
            storage.publish_folder(Path(scratch), str(place), commit=TREE)
    return place


def _belongs(name: Path) -> bool:
    return not set(LEFT_OUT) & set(name.parts) and name.suffix != ".md"


def _listing(content: Mapping[str, bytes]) -> bytes:
    hashes = {path: hashlib.sha256(text).hexdigest() for path, text in content.items()}
    return json.dumps(hashes, indent=2, sort_keys=True).encode()


def _own_entry(family: str) -> bytes:
    """The family's entry of repos.toml, by itself, written in one way whatever stands around it."""
    entry = repositories()[family].model_dump(mode="json", exclude_none=True)
    lines = [f"{name} = {json.dumps(value)}" for name, value in sorted(entry.items())]
    return "\n".join([f"[{family}]", *lines, ""]).encode()
