"""The embedded Postgres: the real one, in a home of its own."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from deploy.stack.processes import places, postgres
from shared_ops.settings import LONGEST_SOCKET_NAME, LONGEST_SOCKET_PATH, ROOT, Settings


@contextmanager
def serving(settings):
    """The server in the foreground, as the supervisor runs it, until the block ends."""
    environment = os.environ | {"SEARCHLOOP_HOME": str(settings.home)}
    command = [sys.executable, "-W", "ignore", "-m", "deploy.stack.processes.postgres"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while (reason := postgres.ready(settings)) is not None:
                assert process.poll() is None, process.stdout.read().decode()
                assert time.monotonic() < deadline, reason
                time.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)


def query(settings, statement):
    connection = psycopg2.connect(postgres.url(settings).replace("+psycopg2", ""))
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else None
    connection.close()
    return rows


def test_it_survives_a_kill_with_what_was_committed(tmp_path):
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


def test_a_deep_or_odd_home_has_its_sockets_elsewhere(tmp_path):
    for home in (tmp_path / ("deep" * 30), tmp_path / "with space", tmp_path / "späte"):
        settings = Settings(home=home)
        folder = settings.sockets
        assert home not in folder.parents
        assert len(os.fsencode(folder / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH
    assert Settings(home=Path("/srv/a")).sockets != Settings(home=Path("/srv/b")).sockets


def test_a_folder_that_somebody_else_made_is_not_trusted(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path / ("deep" * 30))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    places.make_sockets(settings)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(PermissionError, match="belongs to another user"):
        places.make_sockets(settings)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_any_server_can_take_its_place(scheme):
    settings = Settings(postgres_url=f"{scheme}://me:secret@db.example:5433/app")
    assert postgres.url(settings) == "postgresql+psycopg2://me:secret@db.example:5433/app"


def test_the_stack_s_own_processes_tell_the_embedded_server_from_another(tmp_path, monkeypatch):
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("SEARCHLOOP_POSTGRES_URL", postgres.url(Settings(postgres_url=None)))
    assert postgres.settings_of_starter().postgres_url is None
    monkeypatch.setenv("SEARCHLOOP_POSTGRES_URL", "postgresql://db.example/app")
    assert postgres.settings_of_starter().postgres_url == "postgresql://db.example/app"
