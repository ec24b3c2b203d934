"""Examines the machine: environments, disk, memory, ports, locks, clock."""

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil

from deploy.stack.doctor.finding import Finding, Subject
from deploy.stack.processes import places, postgres, preflight
from shared_ops.data import storage
from shared_ops.settings import DEPLOYMENTS, ROOT, Settings
from shared_ops.waiting import until

RUNNING_GIB = 1
"""What a running stack needs beside what it has, of memory and of disk: a training takes about as much."""
SWAP_PERCENT = 90
LOCK_SECONDS = 3.0
"""How long a lock may be held before it is told: whoever replaces a pointer holds one for some milliseconds."""
CLOCK_SECONDS = 60.0
"""How far a file may be of the future; Postgres' clock may differ by a tenth of that."""


def environments(subject: Subject) -> Iterator[Finding]:
    """uv, the locks, and the environments with their Pythons: all must be as they were asked for."""
    command = [sys.executable, str(ROOT / "envs" / "build.py"), "problems"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    yield from map(Finding.of, done.stdout.splitlines())


def dagster(subject: Subject, folder: Path = ROOT / "envs") -> Iterator[Finding]:
    """All environments in `folder` must hold the same Dagster: they talk to each other."""
    held: dict[str, list[str]] = {}
    for metadata in sorted(folder.glob("*/.venv/lib/python*/site-packages/dagster-[0-9]*.dist-info")):
        environment, version = metadata.relative_to(folder).parts[0], metadata.stem.removeprefix("dagster-")
        held.setdefault(version, []).append(environment)
    if len(held) > 1:
        told = "; ".join(f"{version} in {', '.join(names)}" for version, names in held.items())
        yield Finding(f"environments hold different versions of Dagster ({told})", "make lock, then make envs")


def disk(subject: Subject) -> Iterator[Finding]:
    """The disk of the home, and that of a staging area which SEARCHLOOP_STAGING puts elsewhere on this machine."""
    needed = RUNNING_GIB if subject.up else preflight.DISK_GIB
    staging = storage.local_path(subject.settings.staging) if subject.settings.staging else None
    for folder in filter(None, (subject.settings.home, staging)):
        yield from map(Finding.of, preflight.disk(folder, needed))


def memory(subject: Subject) -> Iterator[Finding]:
    """What is available, and what is swapped out."""
    needed = RUNNING_GIB if subject.up else preflight.memory_needed(subject.settings)
    yield from map(Finding.of, preflight.memory(psutil.virtual_memory().available, needed))
    swap = psutil.swap_memory()
    if swap.total and swap.percent >= SWAP_PERCENT:
        yield Finding(f"swap is {swap.percent:.0f} % full: what is swapped out answers late", "end something")


def ports(subject: Subject) -> Iterator[Finding]:
    """The stack's ports, which nothing else may have."""
    yield from map(Finding.of, preflight.host(subject.settings.host) or preflight.taken_ports(subject.settings))


def locks(subject: Subject) -> Iterator[Finding]:
    """The files by which commands, and moves of the live set, wait for each other: nobody may hold one for long."""
    for path in filter(Path.exists, _lock_files(subject.settings)):
        if not until(partial(_is_free, path), every=0.1, seconds=LOCK_SECONDS):
            yield Finding(f"{path} is held by {_holder(path)}: others wait for it", "wait for it to end, or kill it")


def _lock_files(settings: Settings) -> Iterator[Path]:
    yield settings.home / places.LOCK
    urls = (storage.join(settings.staging_url(deployment), ".live.lock") for deployment in DEPLOYMENTS)
    for url in (*urls, storage.join(settings.code_url, ".writing.lock")):
        if path := storage.local_path(url):
            yield path


def _is_free(path: Path) -> bool:
    """Whether nobody holds a lock; it is shared for that moment, so that it keeps nobody from going on."""
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _holder(path: Path) -> str:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(path) in (file.path for file in process.open_files()):
                command = " ".join(" ".join(process.cmdline()).split())[:100]
                return f"pid {process.pid} ({command}), which runs for {time.time() - process.create_time():.0f} s"
    return "a process of another user"


def clock(subject: Subject) -> Iterator[Finding]:
    """The clock, by what was written here: it must not have gone backwards. And Postgres' clock, where that answers."""
    settings = subject.settings
    files = (path for pattern in ("logs/*.log", "staging/*/*.json") for path in settings.home.glob(pattern))
    newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
    if newest and (ahead := newest.stat().st_mtime - time.time()) > CLOCK_SECONDS:
        at = datetime.fromtimestamp(newest.stat().st_mtime, UTC)
        problem = f"the clock went backwards: {newest} is of {at:%Y-%m-%d %H:%M} UTC, {ahead:.0f} s from now"
        yield Finding(problem, f"timedatectl set-ntp true; where the clock is right: touch {newest}")
    if postgres.ready(settings) is None:
        ahead = postgres.now(settings) - time.time()
        if abs(ahead) > CLOCK_SECONDS / 10:
            yield Finding(f"Postgres' clock is {ahead:+.0f} s from this machine's", "timedatectl set-ntp true on both")
