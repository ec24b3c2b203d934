# environment: platform
"""Search times and processor time of the running stack under a steady load, with and without its control plane.

    envs/platform/.venv/bin/python -m bench.search_load [--rates 5 20 40] [--seconds 30] [--rounds 2]
        [--train FAMILY [--train-rate 20]]

Needs a running stack (`make up`). An open loop: searches are asked when they are due, however long the earlier ones
take, and their time counts from when they were due. They are recorded as any search is, and marked as made-up. The
daemon runs and is stopped in turns: the difference is what the control plane costs. Prints the busy cores of the idle
stack, and then for each rate the percentiles, the answers that lack a model or failed, and the milliseconds of
processor that a search costs each process (with its children). `--train semantic` then asks 20 a second for as long as
that family trains. The sum of the milliseconds shows what a machine can carry: at 50 a search, 20 searches a second
take one core. Beside each figure stand its goal and what was recorded last (bench/_figures.py).
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import psutil

from bench import _figures
from deploy.stack.dagit import training
from deploy.stack.dagit.client import Dagit
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.data import snapshots
from shared_ops.data.ubi import SIMULATION
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.settings import Settings, families
from tests.drills.people import People

SETTLE_SECONDS = 20
"""The time that a daemon gets for its first work after its start."""


class Processors:
    """The processor time that a stack's processes take."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @contextmanager
    def measured(self) -> Iterator[dict[str, float]]:
        """The seconds that each process takes during the block, by its name; filled in when the block has ended."""
        spent: dict[str, float] = {}
        before = self._seconds()
        yield spent
        spent |= {name: seconds - before.get(name, 0.0) for name, seconds in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        pids = {state.name: state.pid for state in self._supervisor.states().values() if state.pid}
        supervisor = psutil.Process(int((self._supervisor.folder / "supervisord.pid").read_text()))
        own = supervisor.cpu_times()
        return {name: _with_children(pid) for name, pid in pids.items()} | {"supervisor": own.user + own.system}


def _with_children(pid: int) -> float:
    """Seconds of processor that a process and its children took, including children that have ended."""
    total, process = 0.0, psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(each.cpu_times()[:4])  # its own, and those of its ended children
    return total


def main() -> None:
    """Measure and print."""
    options, settings = _arguments(), Settings()
    texts = _texts(settings)
    supervisor, dagit = Supervisor(settings), Dagit(settings.url("dagit"))
    processors = Processors(supervisor)
    dagit.settle(600)
    with _people(settings, texts, rate=5).searching():
        time.sleep(5)  # a warm-up
    try:
        for on in (True, False) * options.rounds:
            _turn_daemon(supervisor, on)
            print(f"\ndaemon {'running' if on else 'stopped'}, load {os.getloadavg()[0]:.1f}")
            _idle(processors, options.seconds, on)
            for rate in options.rates:
                _loaded(processors, _people(settings, texts, rate), options.seconds, on)
    finally:
        _turn_daemon(supervisor, on=True)
    if options.train:
        _while_training(settings, dagit, processors, _people(settings, texts, options.train_rate), options.train)


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rates", type=float, nargs="+", default=[5, 20, 40, 60], help="searches a second")
    arguments.add_argument("--seconds", type=float, default=30, help="at each rate")
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--train", choices=list(families()))
    arguments.add_argument("--train-rate", type=float, default=20, help="searches a second meanwhile")
    return arguments.parse_args()


def _texts(settings: Settings) -> list[str]:
    live = LiveSets(settings.staging_url("prod")).live()
    if live is None:
        sys.exit(NOTHING_LIVE)
    texts = snapshots.load(live.snapshot).queries("test")["text"].to_list()
    if not texts:
        sys.exit(f"Snapshot {live.snapshot.id} has no test queries to ask.")
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {platform.platform()}"
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine}; set {live.number}, SIMULATED searches")
    print(f"recorded: {_figures.DATE}, {_figures.MACHINE}")
    return texts


def _people(settings: Settings, texts: Sequence[str], rate: float) -> People:
    return People(settings.url("search"), texts, rate, application=SIMULATION)


def _turn_daemon(supervisor: Supervisor, on: bool) -> None:
    if on:
        supervisor.start_process("daemon")
    else:
        supervisor.stop_processes(["daemon"])
    time.sleep(SETTLE_SECONDS)


def _idle(processors: Processors, seconds: float, on: bool) -> None:
    with processors.measured() as spent:
        time.sleep(seconds)
    print(f"  idle: {sum(spent.values()) / seconds:.3f} cores busy {_figures.IDLE[on]}")
    print(f"      in thousandths {_by_process(spent, 1000 / seconds)}")


def _loaded(processors: Processors, people: People, seconds: float, on: bool) -> None:
    with processors.measured() as spent, people.searching():
        time.sleep(seconds)
    beside = f" {_figures.P99[on]}" if people.rate == _figures.RATE else ""
    each = 1000 / len(people.searches)
    print(f"  {people.rate:g}/s {_summary(people)}{beside}")
    print(f"      processor ms a search: {sum(spent.values()) * each:.1f} in all {_figures.PROCESSOR}")
    print(f"      {_by_process(spent, each)}")
    time.sleep(SETTLE_SECONDS / 4)


def _while_training(settings: Settings, dagit: Dagit, processors: Processors, people: People, family: str) -> None:
    began = time.monotonic()
    with processors.measured() as spent, people.searching(), ThreadPoolExecutor(1) as thread:
        thread.submit(training.train, settings, dagit, [family], lambda line: None, force=True).result()
    took = time.monotonic() - began
    print(f"\n{family} trains for {took:.0f} s, load {os.getloadavg()[0]:.1f}")
    beside = f" {_figures.TRAINING}" if people.rate == _figures.RATE else ""
    print(f"  {people.rate:g}/s {_summary(people)}{beside}")
    print(f"      hundredths of a core: {_by_process(spent, 100 / took)}")


def _summary(people: People) -> str:
    percentiles = "  ".join(f"p{share} {people.quantile(share / 100):6.1f} ms" for share in (50, 95, 99, 100))
    lacking = sum(bool(each.answer.get("degraded")) for each in people.searches)
    why = "".join(f"; {count}: {reason}" for reason, count in people.degraded.most_common(3))
    return f"{percentiles}  {lacking} of {len(people.searches)} lack a model{why}; {people.failed.total()} failed"


def _by_process(spent: dict[str, float], factor: float) -> str:
    """The seconds of each process times `factor`, the busiest first."""
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {seconds * factor:.1f}" for name, seconds in ordered if seconds * factor >= 0.05)


if __name__ == "__main__":
    main()
