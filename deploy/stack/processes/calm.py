"""The daemon's sensors tick often while something goes on, and now and then where nothing does.

A sensor with the tag `triggers.IDLE_SECONDS` compares what lies in the staging area, the snapshots and the feedback,
and what runs have done. Where none of these has changed for a minute, it has nothing new to see: then it ticks
that seldom, for what has escaped. Every look costs a few `stat` and one query, a tick some 50 ms of processor.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagster import DagsterInstance, RunsFilter

from shared_ops.data import storage
from shared_ops.pipeline.triggers import IDLE_SECONDS
from shared_ops.settings import Settings

LIVELY_SECONDS = 60.0
"""How long something is said to go on after the last change."""


class Calm:
    """Whether anything goes on in a stack: its folders, and its runs."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._seen: dict[Path, int] = {}
        self._changed_at = time.monotonic()
        self.now = False

    def look(self, instance: DagsterInstance) -> None:
        """Look at the folders, and at the runs where these have not changed."""
        seen = dict(self._changes())
        if seen != self._seen:
            self._seen, self._changed_at = seen, time.monotonic()
        self.now = time.monotonic() - self._changed_at > LIVELY_SECONDS and not _lively(instance)

    def _changes(self) -> Iterator[tuple[Path, int]]:
        """When each folder was last changed: every pointer and every release replaces or adds an entry of one."""
        for root in self._folders:
            for folder in (root, *root.glob("*/")):
                with suppress(FileNotFoundError):  # not there yet, or removed since it was listed
                    yield folder, folder.stat().st_mtime_ns


def _lively(instance: DagsterInstance) -> bool:
    """Whether a run was created, started or ended of late."""
    since = datetime.now(UTC) - timedelta(seconds=LIVELY_SECONDS)
    return bool(instance.get_runs(RunsFilter(updated_after=since), limit=1))


def calm(settings: Settings) -> Calm | None:
    """What looks at the stack of these settings; None where its folders are not this machine's, and tell no change."""
    urls = [settings.staging_url("prod"), settings.snapshots_url("prod"), settings.feedback_url("prod")]
    folders = [folder for url in urls if (folder := storage.local_path(url))]
    return Calm(folders) if len(folders) == len(urls) else None


def tick_by(calm: Calm) -> None:
    """Have this process's daemon go by it."""
    from dagster._daemon import sensor

    sensor.execute_sensor_iteration = _looking(sensor.execute_sensor_iteration, calm)
    sensor.is_under_min_interval = _at_least(sensor.is_under_min_interval, calm)


def _looking(iteration: Callable[..., Iterator[Any]], calm: Calm) -> Callable[..., Iterator[Any]]:
    """In place of the daemon's look at every sensor: it looks first whether anything goes on."""

    def execute_sensor_iteration(context: Any, *arguments: Any, **more: Any) -> Iterator[Any]:
        calm.look(context.instance)
        yield from iteration(context, *arguments, **more)

    return execute_sensor_iteration


def _at_least(under: Callable[..., bool], calm: Calm) -> Callable[..., bool]:
    """In place of the daemon's question whether a sensor's next tick is still to come."""

    def is_under_min_interval(state: Any, sensor: Any, least: int | None = None) -> bool:
        if calm.now and IDLE_SECONDS in sensor.tags:
            least = max(least or 0, int(sensor.tags[IDLE_SECONDS]))
        return under(state, sensor, least)

    return is_under_min_interval
