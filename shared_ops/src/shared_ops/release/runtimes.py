"""What a release runs with: the code and the environment that made it. Each such pair of a family has its own worker.

Knows no Dagster, and nothing of what supervises the workers. A worker answers on a Unix socket whose name follows from
the pair, so that a release's manifest is enough to find it. On Kubernetes the pair is an image's tag, and the socket a
service's name.
"""

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from shared_ops.data import storage
from shared_ops.release import codes
from shared_ops.release.releases import ReleaseError, Staging, environment_lock, lock_file
from shared_ops.settings import DEPLOYMENTS, ROOT, Settings, file_url, python_of, repositories

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

LOCK, PYTHON = "requirements.txt", "python-version"
"""The files of a kept environment; the lock is written last."""
STAMP = "made-from.txt"
"""The file that envs/build.py writes last into an environment."""

KEPT_IN = "kept-in.txt"
"""The file of an environment that names the stores in which its lock was kept, a URL a line: each stack has its own."""

NICE = 10
"""The niceness of the process that makes an environment again."""

KEPT_SECONDS = 86_400.0
"""The age at which code, locks and copies of releases that nothing names are removed, and candidates into which nothing
was written since. A training takes less time."""


class RuntimeMissingError(RuntimeError):
    """What a release needs to run with is not here."""


@dataclass(frozen=True)
class Runtime:
    """The code and the environment of a release."""

    family: str
    code: str
    """The hash of the code in the store; empty for the checkout's code: the release's own was never kept."""
    environment: str
    """The SHA-256 of the environment's lock."""

    @property
    def worker(self) -> str:
        """The name of the worker that answers with releases of this pair."""
        pair = hashlib.sha256(f"{self.code} {self.environment}".encode()).hexdigest()
        return f"{self.family}-{pair[:8] if self.code else 'checkout'}"

    def socket(self, settings: Settings) -> Path:
        """The Unix socket on which that worker answers."""
        return socket_of(self.worker, settings)

    def problem(self, settings: Settings) -> Path:
        """The file that says why that worker cannot be started; missing where nothing is wrong."""
        return self.socket(settings).with_suffix(".problem")

    def python(self, settings: Settings) -> Path:
        """The Python of its environment: one of the checkout's, or one that was made again in the home.

        Raises:
            RuntimeMissingError: when no environment here was made from that lock.
        """
        if not self.code:
            return self._checkout_python()
        for folder in (*(ROOT / "envs").glob("*/.venvs/*"), self._rebuilt_environment(settings)):
            if made_from(folder) == self.environment:
                return folder / "bin" / "python"
        raise RuntimeMissingError(
            f"No environment here is made from the lock {self.environment[:12]}, which {self.family} ran with."
        )

    def _checkout_python(self) -> Path:
        """The Python of the checkout's environment of the family.

        Raises:
            RuntimeMissingError: when repos.toml does not list the family.
        """
        if (repository := repositories().get(self.family)) is None:
            raise RuntimeMissingError(f"{self.family} is not in repos/repos.toml, and its release names no code.")
        return python_of(repository.environment)

    def is_here(self, settings: Settings) -> bool:
        """Whether its environment is on this machine."""
        with suppress(RuntimeMissingError):
            return bool(self.python(settings))
        return False

    def _rebuilt_environment(self, settings: Settings) -> Path:
        """The folder in which its environment is made again when the checkout has another one by now."""
        return settings.home / "environments" / self.environment[:16]

    def provide(self, settings: Settings) -> Path:
        """The Python of its environment, which is made again from the kept lock where it is missing, in minutes.

        Raises:
            RuntimeMissingError: when the environment cannot be made, with uv's output.
        """
        with suppress(RuntimeMissingError):
            return self.python(settings)
        url, folder = storage.join(settings.locks_url, self.environment), self._rebuilt_environment(settings)
        lock, version = (storage.read_bytes(storage.join(url, name)) for name in (LOCK, PYTHON))
        described = f"the lock {self.environment[:12]}, which {self.family} ran with"
        if lock is None or version is None:
            raise RuntimeMissingError(
                f"No environment here is made from {described}, nor is it kept in {settings.locks_url}."
            )
        written = folder.with_suffix(".txt")
        with storage.exclusive(file_url(folder.with_suffix(".lock"))):
            written.write_bytes(lock)
            # With a training's low priority, so that it gives way to whatever answers.
            build = ["nice", "-n", str(NICE), sys.executable, str(ROOT / "envs" / "build.py"), "again"]
            command = [*build, str(written), version.decode().strip(), str(folder)]
            done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeMissingError(f"An environment could not be made again from {described}: {done.stderr.strip()}")
        return self.python(settings)

    def folder(self, settings: Settings) -> Path:
        """The folder from which its code is run.

        Raises:
            CodeError: when the code is not in the store, or is not what its hash says.
        """
        return codes.fetch(settings.code_url, self.code, settings.home / "cache" / "code") if self.code else ROOT

    def variables(self, settings: Settings) -> dict[str, str]:
        """The environment variables with which a Python imports this code and no other.

        Raises:
            CodeError: as for `folder`.
        """
        folder = self.folder(settings)
        return {
            "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "shared_ops" / "src")]),
            "PYTHONSAFEPATH": "1",  # else the working directory's modules come first
        }


def made_from(folder: Path) -> str | None:
    """The SHA-256 of the lock that an environment was made from; None where it is incomplete, or its Python is gone."""
    complete = all((folder / name).exists() for name in (STAMP, LOCK, "bin/python"))
    return storage.sha256(folder / LOCK) if complete else None


def socket_of(worker: str, settings: Settings) -> Path:
    """The Unix socket of the worker of this name; its own name is short, as the length of its path is limited."""
    return settings.sockets / f"{hashlib.sha256(worker.encode()).hexdigest()[:12]}.sock"


def client(socket_file: Path | None, seconds: float) -> "httpx.Client":
    """An HTTP client for a worker's socket, or for the network; it uses no proxy, and times out after `seconds`."""
    import httpx

    transport = httpx.HTTPTransport(uds=str(socket_file)) if socket_file else httpx.HTTPTransport()
    return httpx.Client(transport=transport, timeout=seconds, trust_env=False)


@lru_cache(maxsize=256)
def of_release(staging: str, family: str, version: str) -> Runtime:
    """What a release of the staging area at this URL runs with; cached, as a published manifest never changes.

    Raises:
        ReleaseError: when there is no such release.
    """
    manifest = Staging(staging).manifest(family, version)
    return Runtime(family, manifest.code, manifest.environment if manifest.code else "")


def keep(family: str, content: Mapping[str, bytes], settings: Settings) -> Runtime:
    """Keep a family's code and the lock of its environment; returns the pair."""
    return Runtime(family, codes.keep(settings.code_url, content), _keep_lock(family, settings))


def kept_in(folder: Path, settings: Settings) -> list[str]:
    """The stores, this stack's and others', that keep the lock of an environment: a release there may need it.

    They keep what a release names, and what a training of the last day may have used (`tidy`).
    """
    lock, noted = made_from(folder), folder / KEPT_IN
    others = noted.read_text().splitlines() if noted.exists() else []
    return [url for url in dict.fromkeys([settings.locks_url, *others]) if lock and _keeps(url, lock)]


def _keeps(url: str, lock: str) -> bool:
    try:
        return storage.exists(storage.join(url, lock, LOCK))
    except Exception:  # another stack's store, for which this one may have no access: it may keep it
        logger.warning("%s cannot be asked", url, exc_info=True)
        return True


def tidy(settings: Settings) -> list[str]:
    """Remove the code and the locks that no release needs and no training used for KEPT_SECONDS; returns their names.

    The file that marks one as complete is removed first: what a kill leaves is completed when it is kept again. Where a
    manifest cannot be read, nothing is removed: what its release needs is not known.
    """
    areas = [Staging(settings.staging_url(deployment)) for deployment in DEPLOYMENTS]
    try:
        manifests = [area.manifest(*each) for area in areas for each in area.releases()]
    except ReleaseError as error:
        logger.warning("No code and no lock is removed: %s", error)
        return []
    stores = {
        (settings.code_url, codes.TREE): {each.code for each in manifests},
        (settings.locks_url, LOCK): {each.environment for each in manifests},
    }
    removed = []
    for (url, last_written), needed in stores.items():
        with codes.write_lock(url):
            for name in set(storage.names(url)) - needed:
                if storage.age(storage.join(url, name, last_written)) > KEPT_SECONDS:
                    storage.remove(storage.join(url, name, last_written))
                    storage.remove(storage.join(url, name))
                    removed.append(name)
    return removed


def _keep_lock(family: str, settings: Settings) -> str:
    name, url, lock = environment_lock(family), settings.locks_url, lock_file(family)
    version = lock.with_name(PYTHON)
    if not version.exists():
        version = lock.with_name(".python-version")
    with codes.write_lock(url):
        for path, target in ((version, PYTHON), (lock, LOCK)):
            # Even where it is there: its new time keeps it from being removed.
            storage.write_atomic(storage.join(url, name, target), path.read_bytes())
    _note_kept_in(lock.parent, url)
    return name


def _note_kept_in(folder: Path, url: str) -> None:
    """Note in an environment that this store keeps its lock, for other stacks that would remove it."""
    noted = folder / KEPT_IN
    if not (folder / STAMP).exists() or (noted.exists() and url in noted.read_text().splitlines()):
        return
    with suppress(OSError), noted.open("a") as file:  # what cannot be written to cannot be removed either
        file.write(f"{url}\n")
