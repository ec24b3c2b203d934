"""Starts runs through this machine's code servers, and tells whether a run's process is still alive.

Dagster's own launcher cannot tell: a run whose code server was killed, and then its process, would stay STARTED for
ever, and one whose process lives on could not be ended. Knows no model and no stack.
"""

import os
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from dagster import DagsterEventType, DagsterRun, DagsterRunStatus
from dagster._core.errors import DagsterUserCodeProcessError, DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._serdes import ConfigurableClassData

if TYPE_CHECKING:
    import psutil

STARTED = re.compile(r"Started process for run \(pid: (\d+)\)")
"""What a run's process says first (dagster/_grpc/impl.py); a run that starts elsewhere does not say it."""
CLOCK_SECONDS = 5
"""By how much a process may seem to start after its first message; one that starts later is another with its pid."""
SERVER_SECONDS = 300
"""How long a lost run is not failed while its code server is away; a busy machine takes minutes to start one. Dagster
gives up a retry for good where no code server answers."""
LOOK_SECONDS = 5
"""The time between two looks at a starting run; most runs have begun by the first look."""
INTERRUPT_SECONDS = 20
"""How long an interrupted run may take to end before it is killed."""
LAST_WORD_SECONDS = 5
"""How long `terminate` waits for the end of the run; most runs end in well under a second."""


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, with a health check, and an end for runs that their code server has forgotten.

    The daemon, the webserver and the code servers must see each other's processes, on one machine. In dagster.yaml:

        run_launcher:
          module: shared_ops.pipeline.launcher
          class: LocalRunLauncher
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data)
        self._lost_at: dict[str, float] = {}

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start a run, and watch it until it begins: run monitoring does not check a run before that."""
        super().launch_run(context)
        Thread(target=self._see_it_begin, args=(context.dagster_run.run_id,), daemon=True).start()

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks this launcher about every started run."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED once the run's process is gone; a run that was started elsewhere is left alone."""
        started = self._started(run)
        if not started:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "No code server of this machine started it.")
        if _living(started) is not None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        waited = time.monotonic() - self._lost_at.setdefault(run.run_id, time.monotonic())
        if waited < SERVER_SECONDS and not self._server_answers(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "It is gone, and so is its code server, for a moment.")
        del self._lost_at[run.run_id]
        pids = ", ".join(str(pid) for pid, _ in started)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"The run's process ({pids}) was killed or has crashed.")

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run through its code server, or by a signal where that does not know the run; then see it end."""
        try:
            interrupted: bool = super().terminate(run_id)  # type: ignore[no-untyped-call]
        except (DagsterUserCodeProcessError, DagsterUserCodeUnreachableError):
            interrupted = False  # the code server was started anew since, or is away
        run = self._instance.get_run_by_id(run_id)
        process = None if run is None or run.is_finished else _living(self._started(run))
        if process is None:
            return interrupted
        if not interrupted:
            process.send_signal(signal.SIGINT)
        # The last event counts: the run's own, that it was interrupted, must not follow the caller's, that it failed.
        waited = min(LAST_WORD_SECONDS, INTERRUPT_SECONDS)
        if not _ends(process, waited):
            Thread(target=self._see_it_end, args=(run_id, process, INTERRUPT_SECONDS - waited), daemon=True).start()
        return True

    def _started(self, run: DagsterRun) -> list[tuple[int, float]]:
        """The pid and the first message's time of each process of a run: one process, but for rare races."""
        events = self._instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)
        messages = ((STARTED.match(event.message), event.timestamp) for event in events)
        return [(int(match[1]), timestamp) for match, timestamp in messages if match]

    def _server_answers(self, run: DagsterRun) -> bool:
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        try:
            if client is not None:
                client.ping("")
        except DagsterUserCodeUnreachableError:
            return False
        return True

    def _see_it_begin(self, run_id: str) -> None:
        """Fail a run whose process ends before the run begins, as its code server would if it were alive."""
        while self._starts(run_id):
            time.sleep(LOOK_SECONDS)
            run = self._starts(run_id)
            health = self.check_run_worker_health(run) if run else None
            if health and health.status == WorkerStatus.FAILED and (run := self._starts(run_id)):
                self._instance.report_run_failed(run, f"{health.msg} It had not begun.")

    def _starts(self, run_id: str) -> DagsterRun | None:
        """The run, if it is still starting; else None."""
        run = self._instance.get_run_by_id(run_id)
        return run if run is not None and run.status == DagsterRunStatus.STARTING else None

    def _see_it_end(self, run_id: str, process: "psutil.Process", seconds: float) -> None:
        if not _ends(process, seconds):
            run = self._instance.get_run_by_id(run_id)
            if run is not None and not run.is_finished:
                message = f"The run did not heed its interruption for {INTERRUPT_SECONDS} s: killed."
                self._instance.report_run_canceled(run, message)
            process.kill()


def _ends(process: "psutil.Process", seconds: float) -> bool:
    """Whether a process ends within so many seconds."""
    import psutil

    try:
        process.wait(timeout=seconds)
    except psutil.TimeoutExpired:
        return False
    return True


def _living(started: Iterable[tuple[int, float]]) -> "psutil.Process | None":
    """The run's process, if it is alive; None also where another process has its pid by now.

    `started` holds the pid and the time of the first message of each process of the run.
    """
    import psutil

    for pid, spoke_at in started:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            same = process.create_time() <= spoke_at + CLOCK_SECONDS and process.uids().real == os.getuid()
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
    return None
