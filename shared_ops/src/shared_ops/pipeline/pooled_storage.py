"""Dagster's storage in Postgres, with a pool of connections in every process.

dagster-postgres opens a connection for every call of its run, event and schedule storage, and Postgres forks a backend
for each; before most calls it lists the tables, to see which exist; and after every tick the daemon deletes the ticks
that are too old. So ticks alone cost half a core. A process makes many instances (a code server one for every tick), so
the pool, and what was learned about the tables, belong to the process. Knows no model and no stack.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import sqlalchemy
from dagster import StringSource
from dagster._config.config_schema import UserConfigSchema
from dagster._core.scheduler.instigation import TickStatus
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from shared_ops.data.ubi import CONNECT, has_ended

KEPT = 2
"""Connections that a process keeps open. More are opened while more threads need one, and closed after."""
PURGE_SECONDS = 600
"""The least time between two purges of one sensor's old ticks, which are at least a day old."""


class PooledPostgresStorage(DagsterPostgresStorage):
    """Dagster's storage in Postgres over the process's pool.

    In dagster.yaml::

        storage:
          custom:
            module: shared_ops.pipeline.pooled_storage
            class: PooledPostgresStorage
            config:
              postgres_url: { env: ... }
    """

    def __init__(self, postgres_url: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Whether the tables exist is asked once per process: Dagster's own storage asks three times per instance.
        super().__init__(postgres_url, should_autocreate_tables=postgres_url not in _prepared, inst_data=inst_data)
        _prepared.add(postgres_url)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = _engine(postgres_url)
            for name in _SCHEMA_QUESTIONS & set(dir(storage)):
                question = (postgres_url, type(storage).__name__, name)
                setattr(storage, name, _remembering_yes(question, getattr(storage, name)))
        purge = self._schedule_storage.purge_ticks
        self._schedule_storage.purge_ticks = _throttled(purge)  # type: ignore[method-assign]

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """The database's SQLAlchemy URL, or the variable that holds it."""
        return {"postgres_url": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "PooledPostgresStorage":
        """The storage that dagster.yaml configures."""
        return cls(inst_data=inst_data, **config_value)


_prepared = set[str]()

_SCHEMA_QUESTIONS = {
    "has_table",
    "has_built_index",
    "has_secondary_index",
    "has_secondary_index_table",
    "has_instigators_table",
    "_has_instigators_table",
    "_has_asset_daemon_asset_evaluations_table",
    "_has_asset_key_index_cols_on_connection",
    "has_run_stats_index_cols",
    "has_backfill_id_column",
    "has_backfill_tags_table",
    "has_bulk_actions_selector_cols",
    "has_bulk_action_job_name_column",
}
"""The storages' methods that ask whether the database has a table, a column or an index already."""
_yes = set[tuple[str, ...]]()


def _remembering_yes(question: tuple[str, ...], ask: Callable[..., bool]) -> Callable[..., bool]:
    """`ask`, which is not called again once it has returned True: no migration removes what exists."""

    def answer(*arguments: Any) -> bool:
        whole = (*question, *(each for each in arguments if isinstance(each, str)))  # whatever the connection
        if whole not in _yes and ask(*arguments):
            _yes.add(whole)
        return whole in _yes

    return answer


_purged = dict[str, float]()
"""The time at which this process last purged ticks, by sensor and kind of ticks."""


def _throttled(purge: Callable[..., None]) -> Callable[..., None]:
    """`purge`, at most once in PURGE_SECONDS for each sensor and kind of ticks: a call in between does nothing."""

    def throttled(
        origin_id: str, selector_id: str, before: float, tick_statuses: Sequence[TickStatus] | None = None
    ) -> None:
        ticks, now = f"{origin_id} {selector_id} {tick_statuses}", time.monotonic()
        if now - _purged.get(ticks, -PURGE_SECONDS) >= PURGE_SECONDS:
            purge(origin_id, selector_id, before, tick_statuses)
            _purged[ticks] = now

    return throttled


@cache
def _engine(url: str) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # as dagster-postgres wants it
        pool_size=KEPT,
        max_overflow=-1,  # nobody waits for a connection: without a pool nobody did
        pool_use_lifo=True,
        connect_args=CONNECT,
    )
    sqlalchemy.event.listen(engine, "checkin", _note_use)
    sqlalchemy.event.listen(engine, "checkout", _refuse_closed)
    # A connection serves one process: a forked process opens its own, and leaves its parent's alone.
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return engine


def _note_use(connection: Any, record: Any) -> None:
    record.info["idle since"] = time.monotonic()


def _refuse_closed(connection: Any, record: Any, proxy: Any) -> None:
    """Have the pool open another connection where this one has ended.

    In place of SQLAlchemy's `pool_pre_ping`, whose `SELECT 1` before every call was two fifths of all statements.
    """
    if has_ended(connection, record.info.get("idle since", time.monotonic())):
        raise sqlalchemy.exc.DisconnectionError("This connection to Postgres has ended.")
