"""What the tests that cross repositories share: a stack of their own, with its own home and ports."""

import importlib.util
import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from deploy.stack.dagit.client import Dagit
from deploy.stack.processes.places import LOCK
from shared_ops import waiting
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import ROOT, Settings

UP_SECONDS = 1200
INSTALL_SECONDS = 300
VECTORS = ROOT / ".pytest_cache" / "vectors"

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
"""The browser's command, as Debian, Ubuntu and its maker name it."""


@dataclass
class Stack:
    """A running stack: its settings, and `make` against it."""

    settings: Settings
    environment: dict[str, str] = field(repr=False)
    root: Path = ROOT
    """The checkout that it runs from."""

    def make(
        self, *arguments: str, seconds: float = UP_SECONDS, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `make <arguments>`; when it fails, the test fails with what it said."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, f"make {' '.join(arguments)} failed:\n{done.stdout}"
        return done

    def get(self, process: str, path: str, **parameters: Any) -> httpx.Response:
        """GET from one of the stack's services."""
        return httpx.get(f"{self.settings.url(process)}{path}", params=parameters, timeout=30)

    def search(self, query: str, k: int = 10) -> dict[str, Any]:
        """The search app's answer, by the models: an answer from memory would hide what becomes of them."""
        url, fresh = f"{self.settings.url('search')}/search", {"cache-control": "no-cache"}
        answered = httpx.get(url, params={"q": query, "k": k}, headers=fresh, timeout=30).raise_for_status()
        answer: dict[str, Any] = answered.json()
        return answer


def until(condition: Callable[[], object], seconds: float, what: str, pause: float = 0.1) -> None:
    """Wait until a condition holds; the test fails where it does not in time."""
    assert waiting.until(condition, every=pause, seconds=seconds), f"not within {seconds} s: {what}"


def asked_graphql(stack: Stack, query: str, **variables: Any) -> dict[str, Any]:
    """What Dagit's GraphQL answers; an error fails the test."""
    body = {"query": query, "variables": variables}
    answer = httpx.post(f"{stack.settings.url('dagit')}/graphql", json=body, timeout=60).raise_for_status().json()
    assert "errors" not in answer, answer["errors"]
    data: dict[str, Any] = answer["data"]
    return data


def own_stack(home: Path, root: Path = ROOT, **variables: str) -> Stack:
    """A stack in this home, run from the checkout at `root`, on ports that are free now; nothing is started."""
    chosen = {
        "SEARCHLOOP_HOME": str(home),
        "SEARCHLOOP_PORT_BASE": str(free_port_base()),
        "SEARCHLOOP_SOURCES": str(root / "deploy" / "sources" / "small.yaml"),
        # The small corpus has 130 test queries: too few to rule out a loss of 0.02 (docs/gate.md).
        "SEARCHLOOP_GATE_MARGIN": "0.05",
        **variables,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEARCHLOOP_")}
    # `make test` runs these tests: its own flags and variables are none of the inner make's business.
    own = re.search(r"^READ := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DAGSTER_HOME", *own):
        inherited.pop(name, None)
    # Files in a home name others in that home: a test that reads them reads this stack's, as its processes do.
    os.environ["SEARCHLOOP_HOME"] = str(home)
    named: dict[str, Any] = {name.removeprefix("SEARCHLOOP_").lower(): value for name, value in chosen.items()}
    return Stack(Settings(**named), inherited | chosen, root)


def share_vectors(made: Stack) -> Stack:
    """Give a stack the vectors that another one encoded: with the same corpus, that saves minutes."""
    VECTORS.mkdir(parents=True, exist_ok=True)
    cache = made.settings.home / "cache"
    cache.mkdir(parents=True)
    (made.settings.home / LOCK).touch()  # it is a stack's home already
    (cache / "semantic").symlink_to(VECTORS, target_is_directory=True)
    return made


def free_port_base() -> int:
    """A base from which on all of a stack's ports are free."""
    for base in random.sample(range(20000, 32000, 50), 50):
        if all(_free(port) for port in Settings(port_base=base).ports.values()):
            return base
    raise RuntimeError("No free range of ports between 20000 and 32000.")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def made_in(folder: Path, text: str) -> None:
    """An environment that says what it was made from, and where."""
    folder.mkdir(parents=True)
    (folder / "made-from.txt").write_text(text)
    (folder / "requirements.txt").touch()
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)


@pytest.fixture
def build(tmp_path: Path) -> Iterator[ModuleType]:
    """envs/build.py, at work on a copy of the environments' files."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns(".venv", ".venvs", ".uv"))
    shutil.copytree(ROOT / "shared_ops", tmp_path / "shared_ops", ignore=shutil.ignore_patterns("tests"))
    (tmp_path / "repos").mkdir()
    shutil.copy(ROOT / "repos" / "repos.toml", tmp_path / "repos")
    spec = importlib.util.spec_from_file_location("build", ROOT / "envs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    vars(module).update(ROOT=tmp_path, ENVS=tmp_path / "envs")
    yield module
    del sys.modules["build"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack on a small real corpus, up and trained; torn down after the last test that uses it."""
    made = share_vectors(own_stack(tmp_path_factory.mktemp("stack")))
    try:
        made.make("up")
        yield made
    finally:
        made.make("down", check=False)


@pytest.fixture(scope="session")
def dagit(stack: Stack) -> Dagit:
    return Dagit(stack.settings.url("dagit"))


@pytest.fixture(scope="session")
def sets(stack: Stack) -> LiveSets:
    return LiveSets(stack.settings.staging_url("prod"))


@pytest.fixture(scope="session")
def staging(stack: Stack) -> Staging:
    return Staging(stack.settings.staging_url("prod"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, the machine's own. Tests that need one are skipped where there is none to be had."""
    chromium = _chromium() or _install_chromium()
    # Chromium refuses root its sandbox; what it opens here is the stack's own pages.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


def _chromium() -> str | None:
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


def _install_chromium() -> str:
    """Debian's package, which brings the libraries that a browser needs, where this process may install it."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("No Chromium is on the path. Install it, on Debian by: sudo apt-get install chromium")
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        done = subprocess.run(
            ["apt-get", *command],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"Chromium could not be installed: apt-get {command[0]} said:\n{done.stdout[-1000:]}")
    return _chromium() or pytest.fail("apt-get installed chromium, and none is on the path.")
