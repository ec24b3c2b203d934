"""The daemon's sensors tick often while something goes on, seldom where nothing does, and not where runs would fail.

A sensor with the tag `triggers.IDLE_SECONDS` compares what lies in the staging area, the snapshots and the feedback,
and what runs have done. Where none of these has changed for a minute, it has nothing new to see: then it ticks
that seldom, for what has escaped. Every look costs a few `stat` and one query, a tick some 50 ms of processor.

A run starts from the files as they are. Where a location goes on with the code of before, as what was saved does not
load, its runs would fail, and what they were for would not be tried again by itself: so its sensors wait.
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
from shared_ops.refused import refused_code
from shared_ops.settings import Settings

IDLE_AFTER_SECONDS = 60.0
"""How long a stack has to be without a change before it counts as idle."""


class IdleWatch:
    """Says whether a stack is idle: nothing has changed of late in its folders, nor with its runs."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._seen: dict[Path, int] = {}
        self._changed_at = time.monotonic()
        self.is_idle = False

    def look(self, instance: DagsterInstance) -> None:
        """Look at the folders, and at the runs where these have not changed."""
        seen = dict(self._changes())
        if seen != self._seen:
            self._seen, self._changed_at = seen, time.monotonic()
        self.is_idle = time.monotonic() - self._changed_at > IDLE_AFTER_SECONDS and not _has_recent_runs(instance)

    def _changes(self) -> Iterator[tuple[Path, int]]:
        """When each folder was last changed: every pointer and every release replaces or adds an entry of one."""
        for root in self._folders:
            for folder in (root, *root.glob("*/")):
                with suppress(FileNotFoundError):  # not there yet, or removed since it was listed
                    yield folder, folder.stat().st_mtime_ns


def _has_recent_runs(instance: DagsterInstance) -> bool:
    """Whether a run was created, started or ended of late."""
    since = datetime.now(UTC) - timedelta(seconds=IDLE_AFTER_SECONDS)
    return bool(instance.get_runs(RunsFilter(updated_after=since), limit=1))


def idle_watch(settings: Settings) -> IdleWatch | None:
    """The watch of these settings' stack; None where a folder lies in an object store, which tells no change."""
    urls = [settings.staging_url("prod"), settings.snapshots_url("prod"), settings.feedback_url("prod")]
    folders = [folder for url in urls if (folder := storage.local_path(url))]
    return IdleWatch(folders) if len(folders) == len(urls) else None


def slow_down_by(watch: IdleWatch) -> None:
    """Have the daemon in this process tick the sensors with the tag seldom while the watch finds the stack idle."""
    from dagster._daemon import sensor

    sensor.execute_sensor_iteration = _looking_first(sensor.execute_sensor_iteration, watch)
    sensor.is_under_min_interval = _longer_where_idle(sensor.is_under_min_interval, watch)


def _looking_first(iteration: Callable[..., Iterator[Any]], watch: IdleWatch) -> Callable[..., Iterator[Any]]:
    """The daemon's `iteration` over all sensors, before which the watch looks at the stack."""

    def execute_sensor_iteration(context: Any, *arguments: Any, **more: Any) -> Iterator[Any]:
        watch.look(context.instance)
        yield from iteration(context, *arguments, **more)

    return execute_sensor_iteration


def _longer_where_idle(under: Callable[..., bool], watch: IdleWatch) -> Callable[..., bool]:
    """The daemon's `under`, whether a sensor's interval is still to pass: by its tag, in an idle stack."""

    def is_under_min_interval(state: Any, sensor: Any, least: int | None = None) -> bool:
        if watch.is_idle and IDLE_SECONDS in sensor.tags:
            least = max(least or 0, int(sensor.tags[IDLE_SECONDS]))
        return under(state, sensor, least)

    return is_under_min_interval


def hold_where_runs_would_fail(settings: Settings) -> None:
    """Have the daemon in this process leave out sensors that start runs, while their location's code does not load."""
    from dagster._daemon import sensor

    sensor.is_under_min_interval = _waiting_where_refused(sensor.is_under_min_interval, settings)


def _waiting_where_refused(under: Callable[..., bool], settings: Settings) -> Callable[..., bool]:
    """The daemon's `under`, which holds as well for a sensor of a job whose location was given code that does not load.

    A sensor that only tells people of runs has no job, and goes on.
    """

    def is_under_min_interval(state: Any, sensor: Any, least: int | None = None) -> bool:
        refused = sensor.job_name and refused_code(sensor.handle.location_name, settings)
        return bool(refused) or under(state, sensor, least)

    return is_under_min_interval
