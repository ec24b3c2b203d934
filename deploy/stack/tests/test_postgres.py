"""The embedded Postgres: the real one, in a home of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from deploy.stack.processes import places, postgres
from shared_ops.settings import LONGEST_SOCKET_NAME, LONGEST_SOCKET_PATH, ROOT, Settings
from shared_ops.waiting import until


@contextmanager
def serving(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The server in the foreground, as the supervisor runs it, until the block ends."""
    environment = os.environ | {"SEARCHLOOP_HOME": str(settings.home)}
    command = [sys.executable, "-W", "ignore", "-m", "deploy.stack.processes.postgres"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            until(lambda: process.poll() is not None or postgres.ready(settings) is None, every=0.1, seconds=60)
            assert process.poll() is None, process.stdout.read().decode()
            assert postgres.ready(settings) is None
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)


def query(settings: Settings, statement: str) -> Any:
    connection = psycopg2.connect(postgres.url(settings).replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else None
    connection.close()
    return rows


def test_it_survives_a_kill_with_what_was_committed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, postgres_url=None)
    with serving(settings) as server:
        assert postgres.postmaster(settings).pid == server.pid
        query(settings, "CREATE EXTENSION vector")
        query(settings, "CREATE TABLE kept AS SELECT '[1,2]'::vector AS v")
        server.kill()
        server.wait()
    assert postgres.postmaster(settings) is None
    # Another process has the number of the server that was killed by now: this one.
    pid_file = postgres.data_folder(settings) / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(str(server.pid), str(os.getpid()), 1))
    with serving(settings):
        assert query(settings, "SELECT v FROM kept") == [("[1,2]",)]
        assert query(settings, "SHOW listen_addresses") == [("",)]


def test_a_home_that_was_copied_while_its_server_ran_has_a_server_of_its_own(tmp_path: Path) -> None:
    original, copy = (Settings(home=tmp_path / name, postgres_url=None) for name in ("original", "copy"))
    original.home.mkdir()
    with serving(original) as server:
        query(original, "CREATE TABLE kept AS SELECT 1 AS n")
        query(original, "CHECKPOINT")
        subprocess.run(["cp", "-r", str(original.home), str(copy.home)], check=True)
        # The original's sockets may lie elsewhere: then what it left there is in no copy. Here it is.
        shutil.copytree(
            postgres.socket_folder(original),
            postgres.socket_folder(copy),
            ignore=lambda folder, names: [name for name in names if not name.endswith(".lock")],
            dirs_exist_ok=True,
        )
        with serving(copy) as second:
            assert second.pid != server.pid and postgres.postmaster(copy).pid == second.pid
            query(copy, "INSERT INTO kept VALUES (2)")
            assert query(copy, "SELECT n FROM kept ORDER BY n") == [(1,), (2,)]
        assert query(original, "SELECT n FROM kept") == [(1,)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root restores what belongs to others")
def test_data_that_root_restored_from_a_copy_belong_to_the_server_s_user_again(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, postgres_url=None)
    with serving(settings):
        query(settings, "CREATE TABLE kept AS SELECT 1 AS n")
    data, aside = postgres.data_folder(settings), tmp_path / "aside"
    data.rename(aside)
    subprocess.run(["cp", "-r", str(aside), str(data)], check=True)
    assert {path.owner() for path in (data, *data.rglob("*"))} == {"root"}
    with serving(settings):
        assert query(settings, "SELECT n FROM kept") == [(1,)]
    assert {path.owner() for path in (data, *data.rglob("*"))} == {postgres.SERVER_USER}


def test_a_deep_or_odd_home_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    for home in (tmp_path / ("deep" * 30), tmp_path / "with space", tmp_path / "späte"):
        settings = Settings(home=home)
        folder = settings.sockets
        assert home not in folder.parents
        assert len(os.fsencode(folder / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH
    assert Settings(home=Path("/srv/a")).sockets != Settings(home=Path("/srv/b")).sockets


def test_a_folder_that_somebody_else_made_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / ("deep" * 30))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    places.make_sockets(settings)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(PermissionError, match="belongs to another user"):
        places.make_sockets(settings)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_any_server_can_take_its_place(scheme: str) -> None:
    settings = Settings(postgres_url=f"{scheme}://me:secret@db.example:5433/app")
    assert postgres.url(settings) == "postgresql+psycopg2://me:secret@db.example:5433/app"


def test_the_stack_s_own_processes_tell_the_embedded_server_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("SEARCHLOOP_POSTGRES_URL", postgres.url(Settings(postgres_url=None)))
    assert postgres.settings_of_starter().postgres_url is None
    monkeypatch.setenv("SEARCHLOOP_POSTGRES_URL", "postgresql://db.example/app")
    assert postgres.settings_of_starter().postgres_url == "postgresql://db.example/app"
