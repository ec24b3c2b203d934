"""The Dagster instance of a stack, on the real embedded Postgres."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy
from dagster import DagsterInstance, DagsterRunStatus, job
from dagster._core.scheduler.instigation import InstigatorState, TickStatus
from dagster._core.workspace.load_target import WorkspaceFileTarget

from deploy.stack.processes import instance, places, postgres
from deploy.stack.processes.listing import environment_variables
from deploy.stack.tests.test_postgres import query, serving
from shared_ops.data import ubi
from shared_ops.data.ubi import Store
from shared_ops.pipeline import pooled_storage
from shared_ops.settings import ROOT, Settings, repositories


@job
def nothing() -> None:
    pass


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home with dagster.yaml in it, and the stack's variables."""
    settings = Settings(home=tmp_path, postgres_url=None)
    instance.place(settings)
    for name, value in environment_variables(settings).items():
        monkeypatch.setenv(name, value)
    return settings


def prepare() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "deploy.stack.processes.instance"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def use() -> Sequence[InstigatorState]:
    """An instance of its own asks the storages, as a sensor's tick does."""
    with DagsterInstance.get() as made:
        made.get_runs(limit=1)
        return made.all_instigator_state()


def pool_limits() -> dict[str, int]:
    with DagsterInstance.get() as made:
        return {pool.name: pool.limit for pool in made.event_log_storage.get_pool_limits()}


def connections(settings: Settings) -> int:
    opened: int
    (opened,) = query(settings, "SELECT sessions FROM pg_stat_database WHERE datname = current_database()")[0]
    return opened


@pytest.mark.slow
def test_it_is_made_ready_again_and_again_and_knows_every_pool(settings: Settings) -> None:
    """As the second `make up` does it, and one after a repository was added."""
    with serving(settings):
        prepare()
        with DagsterInstance.get() as made:  # what is in flight when everything is killed, or the home is copied
            statuses = (DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
            starting, started, canceling = (made.create_run_for_job(nothing, status=each).run_id for each in statuses)
        prepare()
        limits = pool_limits()
        with DagsterInstance.get() as made:
            ended = {run.run_id: run for run in made.get_runs()}
    assert limits == dict.fromkeys(repositories(), 1)
    for lost in (starting, started):
        assert ended[lost].status == DagsterRunStatus.FAILURE and ended[lost].tags["dagster/will_retry"] == "true"
    assert ended[canceling].status == DagsterRunStatus.CANCELED


def test_its_workspace_names_every_code_server_at_its_own_address(settings: Settings) -> None:
    content = instance.workspace_content(settings)
    instance.place_workspace(settings, content)
    placed = places.workspace(settings)
    origins: Sequence[Any] = WorkspaceFileTarget([str(placed)]).create_origins()
    told = {each.location_name: (each.host, each.port) for each in origins}
    assert told == {name: (settings.host, settings.ports[f"code-{name}"]) for name in repositories()}
    written = placed.stat().st_mtime_ns
    instance.place_workspace(settings, content)
    assert placed.stat().st_mtime_ns == written, "what has not changed is not read again"


def test_the_workspace_of_a_part_of_a_stack_names_its_code_servers_alone(settings: Settings) -> None:
    part = settings.model_copy(update={"repos": "corpus keyword"})
    instance.place_workspace(part, instance.workspace_content(part))
    origins: Sequence[Any] = WorkspaceFileTarget([str(places.workspace(part))]).create_origins()
    assert [each.location_name for each in origins] == ["corpus", "keyword"]


def test_a_repository_that_the_workspace_does_not_name_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance, "repositories", lambda: dict.fromkeys([*repositories(), "one_more"]))
    with pytest.raises(ValueError, match="one_more stands in one of them alone: make generate"):
        instance.workspace_content(settings)


@pytest.mark.slow
def test_all_instances_of_a_process_share_its_connections_and_outlive_a_killed_postgres(settings: Settings) -> None:
    with serving(settings) as server:
        prepare()
        use()
        before = connections(settings)
        for _ in range(20):
            use()
        assert connections(settings) - before < pooled_storage.KEPT, "besides the two that asked for these numbers"
        server.kill()
        server.wait()
    with serving(settings):
        assert pool_limits()


@pytest.mark.slow
def test_a_connection_that_was_idle_for_long_is_replaced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(settings):
        prepare()
        store = Store(postgres.url(settings))
        for ask in (use, store.prepared):
            ask()
            with monkeypatch.context() as patched:
                patched.setattr(ubi, "KEPT_SECONDS", 0.2)
                before = connections(settings)
                time.sleep(0.3)
                ask()
                assert connections(settings) - before >= 2, "and the one that asked for this number"


def test_searches_and_clicks_are_stored_over_one_connection_that_outlives_a_killed_postgres(settings: Settings) -> None:
    store = Store(postgres.url(settings))
    with serving(settings) as server:
        assert not store.prepared()
        store.prepare()
        before = connections(settings)
        for _ in range(20):
            assert store.prepared()
        assert connections(settings) - before == 1, "the one that asked for this number"
        with pytest.raises(psycopg2.Error), store._transaction() as cursor:
            cursor.execute("SELECT 1 / 0")
        assert store.prepared(), "what failed is not gone on with"
        server.kill()
        server.wait()
    with serving(settings):
        assert store.prepared()


@pytest.mark.slow
def test_which_tables_there_are_is_asked_once_in_a_process(settings: Settings) -> None:
    with serving(settings):
        prepare()
        use()
        statements: list[str] = []
        sqlalchemy.event.listen(
            pooled_storage._engine(postgres.url(settings)),
            "before_cursor_execute",
            lambda *arguments: statements.append(arguments[2]),
        )
        use()
    assert statements and not [each for each in statements if "pg_catalog" in each or "secondary_indexes" in each]


@pytest.mark.slow
def test_old_ticks_are_deleted_now_and_then_and_not_after_each_tick(settings: Settings) -> None:
    with serving(settings):
        prepare()
        deleted: list[str] = []

        def note(*arguments: Any) -> None:
            deleted.extend([arguments[2]] if arguments[2].startswith("DELETE FROM job_ticks") else [])

        sqlalchemy.event.listen(pooled_storage._engine(postgres.url(settings)), "before_cursor_execute", note)
        for statuses in ([TickStatus.SKIPPED], [TickStatus.SUCCESS, TickStatus.FAILURE], [TickStatus.SKIPPED]):
            with DagsterInstance.get() as made:  # as after a tick, in an instance of its own
                made.purge_ticks("origin", "selector", before=0.0, tick_statuses=statuses)
        with DagsterInstance.get() as made:
            made.purge_ticks("another", "selector", before=0.0, tick_statuses=[TickStatus.SKIPPED])
    assert len(deleted) == 3


def test_a_forked_process_opens_connections_of_its_own(settings: Settings) -> None:
    with serving(settings), DagsterInstance.get() as made:
        storage: Any = made.run_storage
        with storage.connect() as connection:
            backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        child = os.fork()
        if child == 0:
            with storage.connect() as connection:
                own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            os._exit(0 if own != backend else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with storage.connect() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == backend
