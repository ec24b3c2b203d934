"""Makes the environments in envs/ from their locks, and the locks from what is asked for: `envs/build.py --help`.

Uses nothing but Python's own library, as it runs before any environment is there. uv does the work: the one on the
PATH where it is new enough, else one of its own in envs/.uv.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVS = ROOT / "envs"
UV_VERSION = "0.13.9"
OLDEST_UV = (0, 9)  # --torch-backend, and the build backend that shared_ops names
AGAIN_SECONDS = 1800.0
"""For which uv may take to install a lock that was kept: nobody looks on, and others wait for their turn."""
AT_A_TIME = 2  # more would only wait for the same disk and network
INPUTS = "# Made from inputs with the SHA-256 "
"""Begins a lock's first line: by it a lock is known to be stale without asking any index."""

STAMP, KEPT_LOCK, KEPT_PYTHON = "made-from.txt", "requirements.txt", "python-version"
"""What lies in an environment: what it was made from, and where; the lock itself, and the Python version asked for."""

_installing_shared_ops = threading.Lock()  # its build writes into its own folder


class BuildError(RuntimeError):
    """What went wrong, and what to do."""


@dataclass(frozen=True)
class Lock:
    """One lock: the file of what is asked for, and the file of what that came to."""

    source: Path

    @property
    def target(self) -> Path:
        """The lock's file."""
        return self.source.with_suffix(".txt")

    @property
    def name(self) -> str:
        """The lock's name for people: its path in the checkout."""
        return self.target.relative_to(ROOT).as_posix()

    @property
    def python(self) -> str:
        """The Python version that the environment states."""
        return self.source.with_name(".python-version").read_text().strip()

    @property
    def overrides(self) -> list[Path]:
        """The file of dependencies that are replaced or dropped, where there is one."""
        return [path for path in [self.source.with_name("overrides.txt")] if path.exists()]

    @property
    def cpu_torch(self) -> bool:
        """Whether it asks for a CPU build of torch, which the Python index does not have."""
        return "+cpu" in self.source.read_text()

    def inputs(self) -> str:
        """The SHA-256 of all that the lock is made from; comments and blank lines do not count."""
        files = [*_with_included(self.source), ENVS / "constraints.txt", *self.overrides]
        asked = [re.sub(r"(^|\s)#.*", "", line).strip() for file in files for line in file.read_text().splitlines()]
        return hashlib.sha256("\n".join([self.python, *filter(None, asked)]).encode()).hexdigest()

    def stale(self) -> bool:
        """Whether what is asked for has changed since the lock was made."""
        return not self.target.exists() or not self.target.read_text().startswith(f"{INPUTS}{self.inputs()}\n")


def locks() -> list[Lock]:
    """Every lock: each environment's, and the second one of the ranker."""
    return [Lock(path) for path in sorted(ENVS.glob("*/requirements*.in"))]


def environments() -> list[str]:
    """The names of the environments."""
    return [path.parent.name for path in sorted(ENVS.glob("*/requirements.in"))]


def lock_of(environment: str) -> Lock:
    """The lock that an environment is made from; SEARCHLOOP_TORCH=gpu chooses torch's CUDA build."""
    torch = os.environ.get("SEARCHLOOP_TORCH") or "cpu"
    if torch not in ("cpu", "gpu"):
        raise BuildError(f"SEARCHLOOP_TORCH is {torch!r}; expected cpu or gpu.")
    gpu = ENVS / environment / "requirements-gpu.in"
    return Lock(gpu if torch == "gpu" and gpu.exists() else ENVS / environment / "requirements.in")


def sync(names: Sequence[str]) -> bool:
    """Make the environments, two at a time, that are not what their locks say. Returns whether any had to be made."""
    if stale := [lock.name for lock in map(lock_of, names) if lock.stale()]:
        raise BuildError(f"{', '.join(stale)}: stale, what is asked for has changed since: make lock")
    wanted = [name for name in names if not _is_made(name)]
    if not wanted:
        return False
    if (free := shutil.disk_usage(ENVS).free / 2**30) < len(wanted):
        raise BuildError(f"disk is short: {free:.1f} GiB free at {ENVS}, about {len(wanted)} needed: free some")
    uv = find_uv()
    began = time.monotonic()
    # The largest first, so that it is not what everything waits for at the end.
    wanted.sort(key=lambda name: -lock_of(name).target.stat().st_size)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        made = list(pool.map(lambda name: _make(uv, name), wanted))
    if failures := [failure for failure in made if failure]:
        raise BuildError("\n".join(failures))
    _say(f"{len(wanted)} environments made in {time.monotonic() - began:.0f} s")
    return True


def compile_locks(names: Sequence[str], upgrade: bool = False) -> None:
    """Make these environments' locks anew; versions stay as they are where they can, unless they are to be upgraded."""
    uv = find_uv()
    for lock in (lock for lock in locks() if lock.source.parent.name in names):
        began = time.monotonic()
        _compile(uv, lock, lock.target, ["--upgrade"] if upgrade else [])
        lock.target.write_text(f"{INPUTS}{lock.inputs()}\n{_without_inputs(lock.target.read_text())}")
        _say(f"{lock.name} ({time.monotonic() - began:.1f} s)")


def check_locks() -> None:
    """Fail where a lock is not what its inputs come to, names an index, or stands for other versions than it says."""
    uv = find_uv()
    wrong = [f"{lock.name}: {problem}" for lock in locks() if (problem := _problem(uv, lock))]
    if wrong:
        raise BuildError("\n".join(wrong) + "\nmake lock")
    _say(f"{len(locks())} locks are fresh")


def find_uv() -> str:
    """The path of a uv that is new enough, installed into envs/.uv where there is none."""
    own = ENVS / ".uv" / "bin" / "uv"
    for candidate in (shutil.which("uv"), str(own)):
        if candidate and _version(candidate) >= OLDEST_UV:
            return candidate
    _say(f"uv {UV_VERSION} is installed into envs/.uv")
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVS / ".uv")], check=True)
        # Quiet twice: pip warns of settings that are the machine's business. What stops it is still said.
        pip = [str(own.with_name("python")), "-m", "pip", "install", "--quiet", "--quiet", f"uv=={UV_VERSION}"]
        subprocess.run(pip, check=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(
            f"uv could not be installed ({error}). Install python3-venv, or uv itself: docs.astral.sh/uv"
        ) from error
    return str(own)


def _version(uv: str) -> tuple[int, ...]:
    if not Path(uv).exists():
        return ()
    said = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def _make(uv: str, name: str) -> str | None:
    """Make one environment, beside the one of before, and have its link lead there; returns what went wrong.

    Beside it, as processes run from that one: what they have still to import must not change under them.
    """
    began, lock, folder = time.monotonic(), lock_of(name), _folder(name)
    python, stamp = str(folder / "bin" / "python"), folder / STAMP
    _say(f"{name:<9} ...")
    try:
        # One that was copied or moved here holds the old place in its scripts, and in what finds shared_ops.
        if not (_is_whole(folder) and stamp.read_text() == _stamped(name)):
            stamp.unlink(missing_ok=True)  # before anything of it: what is killed in between is not made
            _run([uv, "venv", "--quiet", "--clear", "--python", lock.python, str(folder)])
            _sync(uv, python, lock.target)
            with _installing_shared_ops:
                _run([uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "-e", str(ROOT / "shared_ops")])
            shutil.copyfile(lock.target, folder / KEPT_LOCK)
            (folder / KEPT_PYTHON).write_text(lock.python)
            stamp.write_text(_stamped(name))
    except BuildError as error:
        return f"{name}: {error}"
    _point(_link(name), folder)
    _say(f"{name:<9} made ({time.monotonic() - began:.1f} s)")
    return None


def _point(link: Path, folder: Path) -> None:
    """Have the link lead to the folder, from one moment to the next."""
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)  # an environment of before they lay beside each other
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(folder.relative_to(link.parent), target_is_directory=True)
    new.replace(link)


def _sync(uv: str, python: str, lock: Path, seconds: float | None = None) -> None:
    """Have an environment hold just what a lock says."""
    cpu_torch = "+cpu" in lock.read_text()
    command = [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", *_torch_backend(cpu_torch)]
    _run([*command, str(lock)], cpu_torch, seconds)


def make_again(lock: Path, python: str, folder: Path) -> None:
    """Make an environment from a lock that was kept, in a folder of its own, for what ran with it.

    Made once: its stamp is written last. shared_ops is not in it.
    """
    stamp = folder / STAMP
    if _is_whole(folder):
        return
    stamp.unlink(missing_ok=True)  # before anything of it, as above
    uv, began = find_uv(), time.monotonic()
    _run([uv, "venv", "--quiet", "--clear", "--python", python, str(folder)])
    _sync(uv, str(folder / "bin" / "python"), lock, AGAIN_SECONDS)
    shutil.copyfile(lock, folder / KEPT_LOCK)
    stamp.write_text(f"{lock}\n{folder}\n")
    _say(f"made again from {lock} ({time.monotonic() - began:.1f} s)")


def check_place(name: str) -> None:
    """Fail where an environment is not there, or points to where its checkout was copied or moved from."""
    if not (_link(name) / STAMP).exists():
        raise BuildError(
            "There are no environments yet: make up makes them and starts the stack (make envs: makes them alone)"
        )
    if not _is_whole(_link(name)):
        raise BuildError(f"The Python that {_link(name)} was made with is not on this machine any more: make envs")
    if not (_link(name) / STAMP).read_text().endswith(f"\n{_link(name).resolve()}\n"):
        raise BuildError(f"The environments in {ENVS} were made in another place, and point to it still: make envs")


def _is_made(name: str) -> bool:
    return _is_whole(_link(name)) and (_link(name) / STAMP).read_text() == _stamped(name)


def _is_whole(folder: Path) -> bool:
    """Whether all of an environment is there, and the Python that it leads to, which is the machine's."""
    return (folder / STAMP).exists() and (folder / "bin" / "python").exists()


def _link(name: str) -> Path:
    """What leads to the environment, whichever it is."""
    return ENVS / name / ".venv"


def _folder(name: str) -> Path:
    """Where the environment lies that is asked for now, beside those that were."""
    return ENVS / name / ".venvs" / _made_of(name)[:12]


def _stamped(name: str) -> str:
    """What the stamp of an environment says: what it was made of, and where."""
    return f"{_made_of(name)}\n{_folder(name)}\n"


def _made_of(name: str) -> str:
    lock = lock_of(name)
    made_from = [lock.target.read_bytes(), lock.python.encode(), (ROOT / "shared_ops" / "pyproject.toml").read_bytes()]
    return hashlib.sha256(b"\0".join(made_from)).hexdigest()


def _compile(uv: str, lock: Lock, target: Path, options: Sequence[str]) -> None:
    command = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", lock.python]
    command += ["--constraint", "envs/constraints.txt", "--custom-compile-command", "make lock"]
    for overrides in lock.overrides:
        command += ["--override", str(overrides.relative_to(ROOT))]
    command += [
        *_torch_backend(lock.cpu_torch),
        *options,
        str(lock.source.relative_to(ROOT)),
        "--output-file",
        str(target),
    ]
    _run(command, lock.cpu_torch)


def _problem(uv: str, lock: Lock) -> str | None:
    """What is wrong with a lock. Newer releases do not make it stale: it is compiled from its own versions."""
    if lock.stale():
        return "stale, what is asked for has changed since it was made"
    held = lock.target.read_text()
    if re.search(r"https?://|--(extra-)?index-url|--find-links", held):
        return "names an index, which other machines may not reach"
    # First from what uv remembers, which takes a second and no network; then from the index.
    for options in (["--offline"], []):
        with tempfile.TemporaryDirectory() as scratch:
            again = Path(scratch) / "requirements.txt"
            again.write_text(held)
            try:
                _compile(uv, lock, again, options)
            except BuildError as error:
                problem = str(error)
                continue
            problem = _difference(_pins(held), _pins(again.read_text()))
            if problem is None:
                return None
    return problem


def _pins(lock: str) -> dict[str, set[str]]:
    """Each pinned requirement of a lock, with its marker, and its hashes."""
    pins: dict[str, set[str]] = {}
    requirement = ""
    for line in lock.splitlines():
        if re.match(r"[\w.-]+==", line):
            requirement = line.removesuffix("\\").strip()
            pins[requirement] = set()
        elif "--hash=" in line:
            pins[requirement].add(line.removesuffix("\\").strip())
    return pins


def _difference(held: dict[str, set[str]], again: dict[str, set[str]]) -> str | None:
    if changed := set(held) ^ set(again):
        return f"differs from what its inputs come to: {', '.join(sorted(changed)[:5])}"
    # An index adds a wheel for one more platform now and then: what is held has to stay, and be enough.
    if replaced := [name for name in held if not held[name] & again[name]]:
        return f"holds hashes that are not published: {', '.join(replaced[:5])}"
    return None


def _torch_backend(cpu_torch: bool) -> list[str]:
    """Where torch's CPU build comes from: a folder of wheels where one is given, else PyTorch's own index."""
    return ["--torch-backend", "cpu"] if cpu_torch and sys.platform == "linux" and not _find_links() else []


def _find_links() -> str | None:
    """The folder of wheels that pip is set to; uv, which does not read pip's settings, has to be told."""
    return os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")


def _run(command: Sequence[str], cpu_torch: bool = False, seconds: float | None = None) -> None:
    """Run uv. Only a lock with a CPU build of torch sees the folder of wheels: no other is made from local files."""
    environment = {name: value for name, value in os.environ.items() if name not in ("UV_FIND_LINKS", "VIRTUAL_ENV")}
    if cpu_torch and _find_links():
        environment["UV_FIND_LINKS"] = str(_find_links())
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{' '.join(command)} was ended after {seconds} s: is the package index slow?") from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr.strip() or done.stdout.strip()}")


def _with_included(source: Path) -> list[Path]:
    included = re.findall(r"^-r\s+(\S+)", source.read_text(), re.MULTILINE)
    return [source, *(path for name in included for path in _with_included((source.parent / name).resolve()))]


def _without_inputs(lock: str) -> str:
    return "".join(line for line in lock.splitlines(keepends=True) if not line.startswith(INPUTS))


def _environment(name: str) -> str:
    """The environment of this name, or that of the repository of this name."""
    listed = tomllib.loads((ROOT / "repos" / "repos.toml").read_text())
    environment = str(listed[name]["environment"]) if name in listed else name
    if environment not in environments():
        raise BuildError(f"No environment {name}: expected {', '.join(environments())}, or a repository's name.")
    return environment


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description="Make environments from locks, and locks from what is asked for.")
    commands = parser.add_subparsers(dest="command", required=True)
    syncing = commands.add_parser("sync", help="make the environments whose lock has changed")
    syncing.add_argument("names", nargs="*", metavar="environment", help=f"of {', '.join(environments())}")
    syncing.add_argument("--next", action="store_true", help="say what comes next where any was made")
    locking = commands.add_parser("lock", help="make locks anew")
    locking.add_argument("names", nargs="*", metavar="environment", help="all, where none is named")
    locking.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    placed = commands.add_parser("place", help="fail where an environment was not made in this checkout")
    placed.add_argument("names", nargs="+", metavar="environment")
    again = commands.add_parser("again", help="make an environment from a lock that was kept")
    again.add_argument("lock", type=Path)
    again.add_argument("python", help="the Python version that it ran on")
    again.add_argument("folder", type=Path)
    commands.add_parser("check", help="fail where a lock is not fresh")
    chosen = parser.parse_args()
    try:
        names = list(dict.fromkeys(_environment(name) for name in getattr(chosen, "names", [])))
        if chosen.command == "sync":
            if sync(names or environments()) and chosen.next:
                _say("make up starts the stack")
        elif chosen.command == "place":
            for name in names:
                check_place(name)
        elif chosen.command == "again":
            make_again(chosen.lock, chosen.python, chosen.folder)
        elif chosen.command == "lock":
            compile_locks(names or environments(), chosen.upgrade)
        else:
            check_locks()
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
