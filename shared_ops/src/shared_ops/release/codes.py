"""The code that a release runs with: kept as plain text, by its hash, beside the releases, and run from there.

Knows no Dagster. A family's code is its folder, shared_ops, and the host that serves it (services/), as they lay in the
checkout when its training began; of repos.toml its own entry alone, so that what others change there is none of its
business. On Kubernetes an image holds the same, and the hash is its tag.
"""

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from shared_ops.data import storage
from shared_ops.settings import ROOT, repositories

TREE = "tree.json"
"""Names every file of a kept tree with its SHA-256: it is written last, and its own hash is the tree's."""

SHARED = ("shared_ops/src/shared_ops", "services/prediction")
"""Folders that every family's code holds beside its own."""
HOST = "services"
"""The folder whose own files, without the folders in it, the host needs besides."""
ENTRY = "repos/repos.toml"
LEFT_OUT = ("tests", "__pycache__")
CLOCK_SECONDS = 0.05
"""By which a file may seem older than it is: file systems note a time of the last tick."""


class CodeError(RuntimeError):
    """Code that is not there, or not what its hash says."""


def tree(family: str) -> dict[str, bytes]:
    """The family's code as it lies in this checkout: path to content."""
    read = {name: (ROOT / name).read_bytes() for name in _names(family)}
    return read | {ENTRY: _own_entry(family)}


def _names(family: str) -> list[str]:
    """The files of the family's code, without repos.toml."""
    folders = [f"repos/{family}", *SHARED]
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    found += [*(ROOT / HOST).glob("*.py"), ROOT / "repos" / "__init__.py"]
    names = sorted(path.relative_to(ROOT) for path in found if path.is_file())
    return [name.as_posix() for name in names if _belongs(name)]


def digest(content: Mapping[str, bytes]) -> str:
    """The hash of a tree: the SHA-256 of the names and hashes of its files."""
    return hashlib.sha256(_listing(content)).hexdigest()


def present(family: str) -> str:
    """The hash of the family's code as it lies in this checkout."""
    return digest(tree(family))


def loaded(family: str) -> dict[str, bytes]:
    """The code that this process runs: the checkout's when it was first asked, which is while the family's ops load.

    Raises:
        CodeError: when a file of it was saved since the process started, and before it was read here: what was imported
            may be what stood there before. Not when first asked: a code server, which goes no further, may load it.
    """
    if family not in _loaded:
        _loaded[family] = tree(family), _saved_meanwhile(family)
        return _loaded[family][0]
    content, saved = _loaded[family]
    if saved:
        named = ", ".join([*saved[:3], *(["..."] if saved[3:] else [])])
        raise CodeError(f"{named}: saved while this process loaded its code. Start the run again.")
    return content


_loaded: dict[str, tuple[dict[str, bytes], list[str]]] = {}


def _saved_meanwhile(family: str) -> list[str]:
    """The files of the family's code that were changed since this process started.

    By the time at which the file system noted a change, as the time that a file states may be old when it is put there,
    or lie in the future. Where the clock was put back since, that does too, and says nothing.
    """
    began, now = _began() - CLOCK_SECONDS, time.time() + CLOCK_SECONDS
    return [name for name in _names(family) if began < (ROOT / name).stat().st_ctime < now]


def _began() -> float:
    """When this process started, by the clock of now; where there is no /proc, up to a second before."""
    stat = Path("/proc/self/stat")
    if stat.exists():
        ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # proc(5): since the machine's start
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    asked = ["ps", "-o", "lstart=", "-p", str(os.getpid())]
    said = subprocess.run(asked, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True, check=True).stdout
    return time.mktime(time.strptime(said.strip(), "%a %b %d %H:%M:%S %Y"))


def code_version(family: str) -> str:
    """The hash of what trains the family, of the code that this process runs: what serves it is left out."""
    trains = {name: text for name, text in loaded(family).items() if not name.startswith((f"{HOST}/", ENTRY))}
    return digest(trains)[:16]


def keep(root: str, content: Mapping[str, bytes]) -> str:
    """Keep a tree in the store at the fsspec URL `root`; returns its hash.

    Keeping it again changes its time alone, or replaces it where it is not all there, or not what it was.
    """
    name = digest(content)
    url = storage.join(root, name)
    with writing(root), tempfile.TemporaryDirectory() as scratch:
        if not _is_kept(url, name):
            storage.remove(storage.join(url, TREE))
            storage.remove(url)
        for path, text in content.items():
            (Path(scratch) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / path).write_bytes(text)
        (Path(scratch) / TREE).write_bytes(_listing(content))
        storage.publish_folder(Path(scratch), url, commit=TREE)
        storage.write_atomic(storage.join(url, TREE), _listing(content))  # by its time it is not removed
    return name


def writing(root: str) -> AbstractContextManager[None]:
    """One at a time writes to the store at `root`, or removes of it, on this machine."""
    return storage.exclusive(storage.join(root, ".writing.lock"))


def _is_kept(url: str, name: str) -> bool:
    """Whether the whole tree of this hash is at `url`."""
    if not storage.exists(storage.join(url, TREE)):
        return False
    with storage.local_folder(url) as folder:
        return _hash(folder) == name


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
    left = name.name.startswith(".") or name.name.endswith("~")  # what an editor or a desktop leaves beside the sources
    return not left and not set(LEFT_OUT) & set(name.parts) and name.suffix != ".md"


def _listing(content: Mapping[str, bytes]) -> bytes:
    hashes = {path: hashlib.sha256(text).hexdigest() for path, text in content.items()}
    return json.dumps(hashes, indent=2, sort_keys=True).encode()


def _own_entry(family: str) -> bytes:
    """The family's entry of repos.toml, by itself, written in one way whatever stands around it."""
    entry = repositories()[family].model_dump(mode="json", exclude_unset=True)
    lines = [f"{name} = {json.dumps(value)}" for name, value in sorted(entry.items())]
    return "\n".join([f"[{family}]", *lines, ""]).encode()
