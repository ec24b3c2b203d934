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
from shared_ops.settings import ROOT, repositories

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


def code_version(family: str) -> str:
    """The hash of what trains the family, of the code that this process runs: what serves it is left out."""
    trains = {name: text for name, text in loaded(family).items() if not name.startswith((f"{HOST}/", ENTRY))}
    return digest(trains)[:16]


def keep(root: str, content: Mapping[str, bytes]) -> str:
    """Keep a tree in the store at the fsspec URL `root`; returns its hash. Keeping it again changes its time alone."""
    name = digest(content)
    with tempfile.TemporaryDirectory() as scratch:
        for path, text in content.items():
            (Path(scratch) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / path).write_bytes(text)
        (Path(scratch) / TREE).write_bytes(_listing(content))
        storage.publish_folder(Path(scratch), storage.join(root, name), commit=TREE)
    storage.write_atomic(storage.join(root, name, TREE), _listing(content))  # by its time it is not removed
    return name


def fetch(root: str, name: str, cache: Path) -> Path:
    """A folder that the kept tree of this hash can be imported from: a copy in `cache`, every file of it checked.

    A copy, as what runs leaves its caches beside the sources; one that is not what it should be is made anew.

    Raises:
        CodeError: when the tree is missing in the store, or a file of it is missing, changed or strange.
    """
    url, place = storage.join(root, name), cache / name
    if (place / TREE).exists() and _hash(place) == name:
        return place
    storage.remove(str(place))
    if not storage.exists(storage.join(url, TREE)):
        raise CodeError(f"The code {name[:12]} is not in {root}. Train the release again.")
    if _hash(storage.copied_folder(url, place, commit=TREE)) != name:
        raise CodeError(f"The code in {url} is not what was kept there (its hash is another). Train the release again.")
    return place


def _hash(folder: Path) -> str:
    """The hash of the tree in a folder. What is cached beside a source is no part of it: Python checks that itself."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = [each for each in names if "__pycache__" not in each.parts and each.as_posix() != TREE]
    return digest({each.as_posix(): (folder / each).read_bytes() for each in kept})


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
