"""The real embedded Postgres for the services' tests: a process of its own, in the platform's environment."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from services.tests.stack import until
from shared_ops.settings import ROOT, python_of

PLATFORM = python_of("platform")


class Database:
    """An embedded server that can be killed and started again, with its data."""

    def __init__(self, home: Path) -> None:
        self._environment = {key: each for key, each in os.environ.items() if not key.startswith("SEARCHLOOP_")}
        self._environment["SEARCHLOOP_HOME"] = str(home)
        self._process: subprocess.Popen[Any] | None = None
        asked = "from deploy.stack.processes import postgres; print(postgres.url(postgres.Settings()))"
        self.url = self._platform("-c", asked, stdout=subprocess.PIPE, text=True).communicate(timeout=60)[0].strip()

    def _platform(self, *arguments: str, **how: Any) -> subprocess.Popen[Any]:
        assert PLATFORM.exists(), "The embedded Postgres is in the platform's environment: make envs."
        return subprocess.Popen([PLATFORM, "-W", "ignore", *arguments], cwd=ROOT, env=self._environment, **how)

    def start(self) -> None:
        self._process = self._platform(
            "-m", "deploy.stack.processes.postgres", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.answers, seconds=60)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=20)

    def answers(self) -> list[tuple[Any, ...]] | None:
        try:
            return self.rows("SELECT 1")
        except psycopg2.OperationalError:
            return None

    def rows(self, statement: str) -> list[tuple[Any, ...]] | None:
        connection = psycopg2.connect(self.url.replace("+psycopg2", ""))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def column(self, statement: str) -> list[str]:
        """The rows' first column; empty before the tables are made."""
        try:
            return [row[0] for row in self.rows(statement)]
        except psycopg2.errors.UndefinedTable:
            return []


@contextmanager
def database(home: Path) -> Iterator[Database]:
    made = Database(home)
    made.start()
    try:
        yield made
    finally:
        made.stop()
