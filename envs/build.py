"""Makes the environments in envs/ from their locks, and the locks from their requirements: `envs/build.py --help`.

Uses nothing but Python's own library, as it runs before there is any environment. uv does the work: the one on the PATH
where it is new enough, else one that is installed into envs/.uv.
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
"""How long uv may take to install a kept lock: nobody watches, and others wait for their turn."""
AT_A_TIME = 2  # more would only wait for the same disk and network
INPUTS = "# Made from inputs with the SHA-256 "
"""The start of a lock's first line, which tells without asking an index whether the lock is stale."""

STAMP, KEPT_LOCK, KEPT_PYTHON = "made-from.txt", "requirements.txt", "python-version"
"""The files in an environment: what it was made from and where, its lock, and the Python version that it states."""

_installing_shared_ops = threading.Lock()  # its build writes into its own folder


class BuildError(RuntimeError):
    """An environment or a lock that cannot be made or used; the message says what to do."""


@dataclass(frozen=True)
class Lock:
    """One lock: the file of requirements (`source`), and the file of the versions that they come to (`target`)."""

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
        lines = [re.sub(r"(^|\s)#.*", "", line).strip() for file in files for line in file.read_text().splitlines()]
        return hashlib.sha256("\n".join([self.python, *filter(None, lines)]).encode()).hexdigest()

    def stale(self) -> bool:
        """Whether the requirements have changed since the lock was made."""
        return not self.target.exists() or not self.target.read_text().startswith(f"{INPUTS}{self.inputs()}\n")


def locks() -> list[Lock]:
    """Every lock: each environment's, and the ranker's second one."""
    return [Lock(path) for path in sorted(ENVS.glob("*/requirements*.in"))]


def environments() -> list[str]:
    """The names of the environments."""
    return [path.parent.name for path in sorted(ENVS.glob("*/requirements.in"))]


def lock_of(environment: str) -> Lock:
    """The lock that an environment is made from; SEARCHLOOP_TORCH=gpu chooses torch's CUDA build.

    Raises:
        BuildError: when SEARCHLOOP_TORCH is neither cpu nor gpu.
    """
    torch = os.environ.get("SEARCHLOOP_TORCH") or "cpu"
    if torch not in ("cpu", "gpu"):
        raise BuildError(f"SEARCHLOOP_TORCH is {torch!r}; expected cpu or gpu.")
    gpu = ENVS / environment / "requirements-gpu.in"
    return Lock(gpu if torch == "gpu" and gpu.exists() else ENVS / environment / "requirements.in")


def sync(names: Sequence[str]) -> bool:
    """Make those environments that are not what their locks say, two at a time; returns whether any had to be made.

    Raises:
        BuildError: when a lock is stale, the disk is short, or an environment cannot be made.
    """
    if stale := [lock.name for lock in map(lock_of, names) if lock.stale()]:
        raise BuildError(f"{', '.join(stale)}: stale, what is asked for has changed since: make lock")
    missing = [name for name in names if not _is_made(name)]
    if not missing:
        return False
    if (free := shutil.disk_usage(ENVS).free / 2**30) < len(missing):
        raise BuildError(f"disk is short: {free:.1f} GiB free at {ENVS}, about {len(missing)} needed: free some")
    uv = find_uv()
    began = time.monotonic()
    # The largest first, so that the others do not wait for it at the end.
    missing.sort(key=lambda name: -lock_of(name).target.stat().st_size)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        failures = [failure for failure in pool.map(lambda name: _make(uv, name), missing) if failure]
    if failures:
        raise BuildError("\n".join(failures))
    _say(f"{len(missing)} environments made in {time.monotonic() - began:.0f} s")
    return True


def remove_left() -> None:
    """Remove the environments that git has no more, and that nothing needs, which envs/platform can tell."""
    command = [str(_link("platform") / "bin" / "python"), "-W", "ignore", "-m", "deploy.environments"]
    subprocess.run(command, cwd=ROOT, check=False)


def compile_locks(names: Sequence[str], upgrade: bool = False) -> None:
    """Make these environments' locks anew; versions stay as they are where they can, or are the newest to `upgrade`."""
    uv = find_uv()
    for lock in (lock for lock in locks() if lock.source.parent.name in names):
        began = time.monotonic()
        _compile(uv, lock, lock.target, ["--upgrade"] if upgrade else [])
        lock.target.write_text(f"{INPUTS}{lock.inputs()}\n{_without_inputs(lock.target.read_text())}")
        _say(f"{lock.name} ({time.monotonic() - began:.1f} s)")


def check_locks(names: Sequence[str]) -> None:
    """Check that every lock of these environments is what its inputs come to.

    Raises:
        BuildError: naming the locks that are stale, differ from what their inputs come to, or name an index.
    """
    uv = find_uv()
    chosen = [lock for lock in locks() if lock.source.parent.name in names]
    wrong = [f"{lock.name}: {problem}" for lock in chosen if (problem := _problem(uv, lock))]
    if wrong:
        raise BuildError("\n".join(wrong) + "\nmake lock")
    _say(f"{len(chosen)} locks are fresh")


def find_uv() -> str:
    """The path of a uv that is new enough; where there is none, it is installed into envs/.uv.

    Raises:
        BuildError: when it cannot be installed.
    """
    if found := _present_uv():
        return found
    own = _own_uv()
    _say(f"uv {UV_VERSION} is installed into envs/.uv")
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVS / ".uv")], check=True)
        # Quiet twice, as pip warns of the machine's own settings; its errors are still shown.
        pip = [str(own.with_name("python")), "-m", "pip", "install", "--quiet", "--quiet", f"uv=={UV_VERSION}"]
        subprocess.run(pip, check=True)
    except subprocess.CalledProcessError as error:
        raise BuildError(
            f"uv could not be installed ({error}). Install python3-venv, or uv itself: docs.astral.sh/uv"
        ) from error
    return str(own)


def _present_uv() -> str | None:
    """The path of a uv that is here and new enough, if there is one."""
    candidates = (shutil.which("uv"), str(_own_uv()))
    return next((each for each in candidates if each and _version(each) >= OLDEST_UV), None)


def _own_uv() -> Path:
    return ENVS / ".uv" / "bin" / "uv"


def _version(uv: str) -> tuple[int, ...]:
    if not Path(uv).exists():
        return ()
    output = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", output)
    return tuple(map(int, version.groups())) if version else ()


def _make(uv: str, name: str) -> str | None:
    """Make one environment beside the one before it, and point its link there; returns what went wrong, if anything.

    It lies beside the old one because processes run from that: what they still have to import must not change.
    """
    began, lock, folder = time.monotonic(), lock_of(name), _folder(name)
    python, stamp = str(folder / "bin" / "python"), folder / STAMP
    _say(f"{name:<9} ...")
    try:
        # An environment that was copied or moved here holds its old path in its scripts, and in its link to shared_ops.
        if not (_is_whole(folder) and stamp.read_text() == _stamped(name)):
            stamp.unlink(missing_ok=True)  # first: without its stamp, what a kill leaves does not count as made
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
    """Point the link to the folder, in one step."""
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)  # an environment in place of the link, as older checkouts have it
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(folder.relative_to(link.parent), target_is_directory=True)
    new.replace(link)


def _sync(uv: str, python: str, lock: Path, seconds: float | None = None) -> None:
    """Make an environment hold exactly what a lock says."""
    cpu_torch = "+cpu" in lock.read_text()
    command = [uv, "pip", "sync", "--quiet", "--python", python, "--require-hashes", *_torch_backend(cpu_torch)]
    _run([*command, str(lock)], cpu_torch, seconds)


def make_again(lock: Path, python: str, folder: Path) -> None:
    """Make an environment from a kept lock in `folder`, for code that ran with it, unless it is there already.

    Its stamp is written last. shared_ops is not installed into it.

    Raises:
        BuildError: when uv cannot make it within AGAIN_SECONDS.
    """
    stamp = folder / STAMP
    if _is_whole(folder):
        return
    stamp.unlink(missing_ok=True)  # first, as in `_make`
    uv, began = find_uv(), time.monotonic()
    _run([uv, "venv", "--quiet", "--clear", "--python", python, str(folder)])
    _sync(uv, str(folder / "bin" / "python"), lock, AGAIN_SECONDS)
    shutil.copyfile(lock, folder / KEPT_LOCK)
    stamp.write_text(f"{lock}\n{folder}\n")
    _say(f"made again from {lock} ({time.monotonic() - began:.1f} s)")


def check_place(name: str) -> None:
    """Check that an environment is there, and was made in this checkout from its present lock.

    Raises:
        BuildError: when it is missing, lacks its Python, was made from another lock, or belongs to the place that the
            checkout was copied from.
    """
    if not (_link(name) / STAMP).exists():
        raise BuildError(
            "There are no environments yet: make up makes them and starts the stack (make envs: makes them alone)"
        )
    if not _is_whole(_link(name)):
        raise BuildError(f"The Python that {_link(name)} was made with is not on this machine any more: make envs")
    if not (_link(name) / STAMP).read_text().endswith(f"\n{_link(name).resolve()}\n"):
        raise BuildError(f"The environments in {ENVS} were made in another place, and point to it still: make envs")
    if not _is_made(name):
        raise BuildError(f"The lock of {name} has changed since its environment was made: make envs")


def problems() -> list[str]:
    """What is wrong with uv, the locks and the environments, each with the command that mends it; asks no index."""
    stale = [lock.name for lock in locks() if lock.stale()]
    found = [f"{name} is stale, what is asked for has changed since it was made: make lock" for name in stale]
    found += [problem for name in environments() if (problem := _missing(name))]
    if not _present_uv():
        oldest = ".".join(map(str, OLDEST_UV))
        found.append(f"no uv of version {oldest} or newer is here to make environments: make check installs one")
    return found


def _missing(name: str) -> str | None:
    """Why an environment is not what it is to be."""
    if not (_link(name) / STAMP).exists():
        return f"the environment {name} is not made: make envs"
    try:
        check_place(name)
    except BuildError as error:
        return str(error)
    return None


def _is_made(name: str) -> bool:
    return _is_whole(_link(name)) and (_link(name) / STAMP).read_text() == _stamped(name)


def _is_whole(folder: Path) -> bool:
    """Whether an environment is complete, and the Python of the machine that it points to is there."""
    return (folder / STAMP).exists() and (folder / "bin" / "python").exists()


def _link(name: str) -> Path:
    """The link to the present environment of this name."""
    return ENVS / name / ".venv"


def _folder(name: str) -> Path:
    """The folder of the environment that the lock asks for now; older ones lie beside it."""
    return ENVS / name / ".venvs" / _made_of(name)[:12]


def _stamped(name: str) -> str:
    """The content of an environment's stamp: the hash of what it is made from, and its folder."""
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
    """What is wrong with a lock; None if nothing is. It is compiled from its own versions: newer ones do not count."""
    if lock.stale():
        return "stale, what is asked for has changed since it was made"
    text = lock.target.read_text()
    if re.search(r"https?://|--(extra-)?index-url|--find-links", text):
        return "names an index, which other machines may not reach"
    # First from uv's cache, which takes a second and no network; then from the index.
    for options in (["--offline"], []):
        with tempfile.TemporaryDirectory() as scratch:
            compiled = Path(scratch) / "requirements.txt"
            compiled.write_text(text)
            try:
                _compile(uv, lock, compiled, options)
            except BuildError as error:
                problem: str | None = str(error)
                continue
            problem = _difference(_pins(text), _pins(compiled.read_text()))
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


def _difference(pins: dict[str, set[str]], compiled: dict[str, set[str]]) -> str | None:
    if changed := set(pins) ^ set(compiled):
        return f"differs from what its inputs come to: {', '.join(sorted(changed)[:5])}"
    # An index may add wheels for more platforms at any time: some hash of each requirement must still be published.
    if replaced := [name for name in pins if not pins[name] & compiled[name]]:
        return f"holds hashes that are not published: {', '.join(replaced[:5])}"
    return None


def _torch_backend(cpu_torch: bool) -> list[str]:
    """The options with which uv takes torch's CPU build from PyTorch's index; none where a folder of wheels has it."""
    return ["--torch-backend", "cpu"] if cpu_torch and sys.platform == "linux" and not _find_links() else []


def _find_links() -> str | None:
    """The folder of wheels that uv's or pip's variable names; uv does not read pip's."""
    return os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")


def _run(command: Sequence[str], cpu_torch: bool = False, seconds: float | None = None) -> None:
    """Run uv. Only a lock with a CPU build of torch sees the folder of wheels: no other lock depends on local files.

    Raises:
        BuildError: when it fails or takes more than `seconds`, with its output.
    """
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
    try:
        listed = tomllib.loads((ROOT / "repos" / "repos.toml").read_text())
        environment = str(listed[name]["environment"]) if name in listed else name
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"repos/repos.toml cannot be read: {error}. Mend it there.") from error
    except (KeyError, TypeError) as error:
        raise BuildError(
            f"repos/repos.toml, {name}: names no environment. Name one of {', '.join(environments())}."
        ) from error
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
    syncing.add_argument("--alone", action="store_true", help="then remove what git has no more; say what comes next")
    locking = commands.add_parser("lock", help="make locks anew")
    locking.add_argument("names", nargs="*", metavar="environment", help="all, where none is named")
    locking.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    placed = commands.add_parser("place", help="fail where an environment was not made in this checkout")
    placed.add_argument("names", nargs="+", metavar="environment")
    again = commands.add_parser("again", help="make an environment from a lock that was kept")
    again.add_argument("lock", type=Path)
    again.add_argument("python", help="the Python version that it ran on")
    again.add_argument("folder", type=Path)
    checking = commands.add_parser("check", help="fail where a lock is not fresh")
    checking.add_argument("names", nargs="*", metavar="environment", help="all, where none is named")
    commands.add_parser("problems", help="say what is wrong with uv, the locks and the environments, a line each")
    arguments = parser.parse_args()
    try:
        names = list(dict.fromkeys(_environment(name) for name in getattr(arguments, "names", [])))
        if arguments.command == "sync":
            made = sync(names or environments())
            if arguments.alone:
                remove_left()
            if made and arguments.alone:
                _say("make up starts what is new: the stack, or in a running one what repos/repos.toml has gained")
        elif arguments.command == "place":
            for name in names:
                check_place(name)
        elif arguments.command == "again":
            make_again(arguments.lock, arguments.python, arguments.folder)
        elif arguments.command == "problems":
            for problem in problems():
                _say(problem)
        elif arguments.command == "lock":
            compile_locks(names or environments(), arguments.upgrade)
        else:
            check_locks(names or environments())
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
