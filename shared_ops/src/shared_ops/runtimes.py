"""What a release runs with: the code and the environment that made it. Each such pair of a family has its own worker.

Knows no Dagster, and nothing of what supervises the workers. A worker is asked over a Unix socket whose name follows
from the pair, so that whoever reads a release's manifest knows where it answers. On Kubernetes the pair is an image's
tag, and the socket a service's name.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shared_ops import codes, storage
from shared_ops.releases import ReleaseManifest, Staging, environment_lock
from shared_ops.settings import ROOT, Settings, repositories

LOCK, PYTHON = "requirements.txt", "python-version"
"""The files of a kept environment; the lock is written last."""


class RuntimeMissingError(RuntimeError):
    """What a release needs to run with is not here."""


@dataclass(frozen=True)
class Runtime:
    """The code and the environment of a release."""

    family: str
    code: str
    """The hash of the code in the store; empty for what the checkout holds: of a release of before it was kept."""
    environment: str
    """The SHA-256 of the environment's lock."""

    @property
    def worker(self) -> str:
        """The name of the worker that answers with releases of this pair."""
        pair = hashlib.sha256(f"{self.code} {self.environment}".encode()).hexdigest()
        return f"{self.family}-{pair[:8] if self.code else 'checkout'}"

    def socket(self, settings: Settings) -> Path:
        """Where that worker answers."""
        return socket_of(self.worker, settings)

    def problem(self, settings: Settings) -> Path:
        """The file that says why there is no such worker; missing where nothing is wrong."""
        return self.socket(settings).with_suffix(".problem")

    def python(self) -> Path:
        """The Python of its environment.

        Raises:
            RuntimeMissingError: when no environment here was made from that lock.
        """
        locks = (ROOT / "envs").glob(f"*/{LOCK}")
        made = {storage.sha256(lock): lock.parent.name for lock in locks}
        name = made.get(self.environment) if self.code else repositories()[self.family].environment
        if name:
            return ROOT / "envs" / name / ".venv" / "bin" / "python"
        raise RuntimeMissingError(
            f"No environment here is made from the lock {self.environment[:12]}, which {self.family} ran with."
        )

    def folder(self, settings: Settings) -> Path:
        """The folder that its code is run from.

        Raises:
            CodeError: when the code is not in the store, or is not what its hash says.
        """
        return codes.fetch(settings.code_url, self.code) if self.code else ROOT

    def variables(self, settings: Settings) -> dict[str, str]:
        """What a Python has to find in its environment, so that it imports this code and no other.

        Raises:
            CodeError: as for `folder`.
        """
        folder = self.folder(settings)
        return {
            "PYTHONPATH": os.pathsep.join([str(folder), str(folder / "shared_ops" / "src")]),
            "PYTHONSAFEPATH": "1",  # else the working directory's modules come first
            # Kept code stays as it was kept.
            "PYTHONPYCACHEPREFIX": str(settings.home / "cache" / "bytecode"),
            "NUMBA_CACHE_DIR": str(settings.home / "cache" / "numba"),
        }


def socket_of(worker: str, settings: Settings) -> Path:
    """Where the worker of this name answers; short, as a socket's path may not be long."""
    return settings.sockets / f"{hashlib.sha256(worker.encode()).hexdigest()[:12]}.sock"


def of(manifest: ReleaseManifest) -> Runtime:
    """What a release runs with."""
    return Runtime(manifest.family, manifest.code, manifest.environment if manifest.code else "")


@lru_cache(maxsize=256)
def of_release(staging: str, family: str, version: str) -> Runtime:
    """What the release of the staging area at this URL runs with: a published manifest never changes.

    Raises:
        ReleaseError: when there is no such release.
    """
    return of(Staging(staging).manifest(family, version))


def keep(family: str, content: Mapping[str, bytes], settings: Settings) -> Runtime:
    """Keep a family's code, and the lock of its environment, as far as they are not kept yet."""
    return Runtime(family, codes.keep(settings.code_url, content), _keep_lock(family, settings))


def _keep_lock(family: str, settings: Settings) -> str:
    environment = repositories()[family].environment
    name, url = environment_lock(family), settings.locks_url
    for file, kept in ((".python-version", PYTHON), (LOCK, LOCK)):
        content = (ROOT / "envs" / environment / file).read_bytes()
        if not storage.exists(storage.join(url, name, kept)):
            storage.write_atomic(storage.join(url, name, kept), content)
    return name
