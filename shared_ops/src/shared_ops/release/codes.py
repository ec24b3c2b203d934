"""The code that a release runs with: kept as plain text, by its hash, beside the releases, and run from there.

Knows no Dagster. A family's code is its folder, shared_ops, and the host that serves it (services/), as they lay in the
checkout when its training began; and its own entry of repos.toml alone, so that other families' entries do not matter.
On Kubernetes an image holds the same, and the hash is its tag.
"""

import hashlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

from shared_ops.data import storage
from shared_ops.settings import ROOT, repositories

TREE = "tree.json"
"""The list of a kept tree's files with their SHA-256: it is written last, and its own hash is the tree's."""

SHARED = ("shared_ops/src/shared_ops", "services/prediction")
"""Folders that every family's code holds beside its own."""
HOST = "services"
"""The folder whose own Python files, without its subfolders, the host needs too."""
ENTRY = "repos/repos.toml"
LEFT_OUT = ("tests", "__pycache__")
CLOCK_SECONDS = 0.05
"""By how much the time of a file may lag behind its change: file systems record the time of the clock's last tick."""


class CodeError(RuntimeError):
    """Code that is missing, or not what its hash says."""


def tree(family: str) -> dict[str, bytes]:
    """The family's code as it lies in this checkout: path to content."""
    files = {name: (ROOT / name).read_bytes() for name in _names(family)}
    return files | {ENTRY: _own_entry(family)}


def _names(family: str) -> list[str]:
    """The files of the family's code, without repos.toml."""
    folders = [f"repos/{family}", *SHARED]
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    paths += [*(ROOT / HOST).glob("*.py"), ROOT / "repos" / "__init__.py"]
    names = sorted(path.relative_to(ROOT) for path in paths if path.is_file())
    return [name.as_posix() for name in names if _belongs(name)]


def digest(content: Mapping[str, bytes]) -> str:
    """The hash of a tree: the SHA-256 of the names and hashes of its files."""
    return hashlib.sha256(_listing(content)).hexdigest()


def present(family: str) -> str:
    """The hash of the family's code as it lies in this checkout."""
    return digest(tree(family))


def running_code(family: str) -> dict[str, bytes]:
    """The family's code that this process runs: path to content.

    The first call reads it from the checkout, which happens while the family's ops are loaded.

    Raises:
        CodeError: when a file was saved between the start of the process and the first call, so that the process may
            have imported what the file held before. The first call does not raise it: a code server may load such code.
    """
    if family not in _loaded:
        _loaded[family] = tree(family), _saved_meanwhile(family)
        return _loaded[family][0]
    content, saved = _loaded[family]
    if saved:
        names = ", ".join([*saved[:3], *(["..."] if saved[3:] else [])])
        raise CodeError(f"{names}: saved while this process loaded its code. Start the run again.")
    return content


_loaded: dict[str, tuple[dict[str, bytes], list[str]]] = {}


def _saved_meanwhile(family: str) -> list[str]:
    """The files of the family's code that were changed since this process started.

    Their ctime decides, the time at which the file system noted the change: their mtime may be old, or lie in the
    future. A ctime in the future, as after the clock was set back, does not count.
    """
    began, now = _began() - CLOCK_SECONDS, time.time() + CLOCK_SECONDS
    return [name for name in _names(family) if began < (ROOT / name).stat().st_ctime < now]


def _began() -> float:
    """When this process started, in seconds of `time.time` by the present clock; without /proc up to a second early."""
    stat = Path("/proc/self/stat")
    if stat.exists():
        ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # proc(5): since the machine's start
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    command = ["ps", "-o", "lstart=", "-p", str(os.getpid())]
    environment = os.environ | {"LC_ALL": "C"}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return time.mktime(time.strptime(output.strip(), "%a %b %d %H:%M:%S %Y"))


def code_version(family: str) -> str:
    """The hash of the code that trains the family, as this process runs it: the code that serves it is left out."""
    training = {name: text for name, text in running_code(family).items() if not name.startswith((f"{HOST}/", ENTRY))}
    return digest(training)[:16]


def keep(root: str, content: Mapping[str, bytes]) -> str:
    """Keep a tree in the store at the fsspec URL `root`; returns its hash.

    A tree that is there already only gets a new time; one that is incomplete or changed there is replaced.
    """
    name = digest(content)
    url = storage.join(root, name)
    with write_lock(root), tempfile.TemporaryDirectory() as scratch:
        if not is_kept(root, name):
            storage.remove(storage.join(url, TREE))
            storage.remove(url)
        for path, text in content.items():
            (Path(scratch) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / path).write_bytes(text)
        (Path(scratch) / TREE).write_bytes(_listing(content))
        storage.publish_folder(Path(scratch), url, commit=TREE)
        storage.write_atomic(storage.join(url, TREE), _listing(content))  # its new time keeps it from being removed
    return name


def write_lock(root: str) -> AbstractContextManager[None]:
    """The lock for writing to the store at `root` and removing from it: one holder at a time on this machine."""
    return storage.exclusive(storage.join(root, ".writing.lock"))


def is_kept(root: str, name: str) -> bool:
    """Whether the whole tree of this hash is in the store at the fsspec URL `root`; reads its files."""
    url = storage.join(root, name)
    if not storage.exists(storage.join(url, TREE)):
        return False
    with storage.local_folder(url) as folder:
        return _hash(folder) == name


def fetch(root: str, name: str, cache: Path) -> Path:
    """A folder from which the kept tree of this hash can be imported: a copy in `cache`, every file of it checked.

    It is a copy because Python writes its caches beside the sources. A copy that was changed is made anew.

    Raises:
        CodeError: when the tree is missing in the store, or its files there are not those that were kept.
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
    """The hash of the tree in a folder. Python's caches beside the sources do not count: Python checks them itself."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    sources = [each for each in names if "__pycache__" not in each.parts and each.as_posix() != TREE]
    return _hash_of_files(folder, tuple((each.as_posix(), *_state(folder / each)) for each in sorted(sources)))


@lru_cache(maxsize=64)
def _hash_of_files(folder: Path, files: tuple[tuple[str, int, int, int], ...]) -> str:
    """The hash of these files, read once for a process: a file that changes has another state, and is read again."""
    return digest({name: (folder / name).read_bytes() for name, *_ in files})


def _state(path: Path) -> tuple[int, int, int]:
    """What changes with a file's content, by the file system: its size, and the times of its last changes."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _belongs(name: Path) -> bool:
    leftover = name.name.startswith(".") or name.name.endswith("~")  # of an editor or a desktop
    return not leftover and not set(LEFT_OUT) & set(name.parts) and name.suffix != ".md"


def _listing(content: Mapping[str, bytes]) -> bytes:
    hashes = {path: hashlib.sha256(text).hexdigest() for path, text in content.items()}
    return json.dumps(hashes, indent=2, sort_keys=True).encode()


def _own_entry(family: str) -> bytes:
    """The family's entry of repos.toml alone, in a form that does not depend on the rest of the file."""
    entry = repositories()[family].model_dump(mode="json", exclude_unset=True)
    lines = [f"{name} = {json.dumps(value)}" for name, value in sorted(entry.items())]
    return "\n".join([f"[{family}]", *lines, ""]).encode()
