# environment: platform
"""Search times and processor time of the running stack under a steady load, with and without its control plane.

    envs/platform/.venv/bin/python -m bench.search_load [--rates 5 20 40] [--seconds 30] [--rounds 2]
        [--train FAMILY|none [--train-rate 20]]

Needs a running stack (`make up`). An open loop: searches are asked when they are due, however long the earlier ones
take, and their time counts from when they were due. They are recorded as any search is, and marked as made-up. The
daemon runs and is stopped in turns: the difference is what the control plane costs. Prints the busy cores of the idle
stack, and then for each rate the percentiles, the answers that lack a model or failed, and the milliseconds of
processor that a search costs each process (with its children). Then 20 a second are asked for as long as a family
trains, the one whose service gives vectors, where no other is named. The sum of the milliseconds shows what a machine
can carry: at 50 a search, 20 searches a second take one core.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import NamedTuple

from bench._figures import tell, where
from bench._processors import Processors, by_process
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
RATE = 20.0
"""The searches a second of which the figures are told."""


def main() -> None:
    """Measure and print."""
    options, settings = _arguments(), Settings()
    texts = test_queries(settings)
    supervisor, dagit = Supervisor(settings), Dagit(settings.url("dagit"))
    processors = Processors(supervisor)
    dagit.settle(600)
    with made_up_people(settings, texts, rate=5).searching():
        time.sleep(5)  # a warm-up
    at_rate: dict[bool, list[Loaded]] = {True: [], False: []}
    try:
        for on in (True, False) * options.rounds:
            _turn_daemon(supervisor, on)
            print(f"\ndaemon {'running' if on else 'stopped'}, load {os.getloadavg()[0]:.1f}")
            _idle(processors, options.seconds)
            for rate in options.rates:
                loaded = _loaded(processors, made_up_people(settings, texts, rate), options.seconds)
                at_rate[on] += [loaded] if rate == RATE else []
    finally:
        _turn_daemon(supervisor, on=True)
    if at_rate[True]:
        _tell(at_rate)
    if options.train != "none":
        people = made_up_people(settings, texts, options.train_rate)
        p99 = _while_training(settings, dagit, processors, people, options.train)
        if at_rate[True] and options.train_rate == RATE:
            tell("20 searches a second: p99 while a model trains, over p99 without", p99 / _p99(at_rate[True]))


class Loaded(NamedTuple):
    """What searches took at a rate: their median and 99th percentile, and the processor's time of one, all in ms."""

    p50: float
    p99: float
    processor: float


def _tell(at_rate: dict[bool, list[Loaded]]) -> None:
    running = at_rate[True]
    tell("20 searches a second: median", median(each.p50 for each in running))
    tell("20 searches a second: p99", _p99(running))
    tell("20 searches a second: p99 with the daemon, over p99 without", _p99(running) / _p99(at_rate[False]))
    tell("a search's processor time, all processes", median(each.processor for each in running))


def _p99(loads: Sequence[Loaded]) -> float:
    return median(each.p99 for each in loads)


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rates", type=float, nargs="+", default=[RATE], help="searches a second")
    arguments.add_argument("--seconds", type=float, default=30, help="at each rate")
    arguments.add_argument("--rounds", type=int, default=2)
    slowest = next((name for name, family in families().items() if family.vectors), "none")
    arguments.add_argument("--train", choices=[*families(), "none"], default=slowest)
    arguments.add_argument("--train-rate", type=float, default=RATE, help="searches a second meanwhile")
    return arguments.parse_args()


def test_queries(settings: Settings) -> list[str]:
    """The texts of the live snapshot's test queries; says what is measured, and where. Ends where there are none."""
    live = LiveSets(settings.staging_url("prod")).live()
    if live is None:
        sys.exit(NOTHING_LIVE)
    texts = snapshots.load(live.snapshot).queries("test")["text"].to_list()
    if not texts:
        sys.exit(f"Snapshot {live.snapshot.id} has no test queries to ask.")
    print(f"{where()}; set {live.number}, SIMULATED searches")
    return texts


def made_up_people(settings: Settings, texts: Sequence[str], rate: float) -> People:
    """People who ask these texts at a rate; what is recorded of them is marked as simulated."""
    return People(settings.url("search"), texts, rate, application=SIMULATION)


def _turn_daemon(supervisor: Supervisor, on: bool) -> None:
    if on:
        supervisor.start_process("daemon")
    else:
        supervisor.stop_processes(["daemon"])
    time.sleep(SETTLE_SECONDS)


def _idle(processors: Processors, seconds: float) -> None:
    with processors.measured() as spent:
        time.sleep(seconds)
    print(f"  idle: {sum(spent.values()) / seconds:.3f} cores busy")
    print(f"      in thousandths {by_process(spent, 1000 / seconds)}")


def _loaded(processors: Processors, people: People, seconds: float) -> Loaded:
    with processors.measured() as spent, people.searching():
        time.sleep(seconds)
    print(f"  {people.rate:g}/s {summary(people)}")
    each = 1000 / len(people.searches)
    print(f"      processor ms a search: {sum(spent.values()) * each:.1f} in all: {by_process(spent, each)}")
    time.sleep(SETTLE_SECONDS / 4)
    return Loaded(people.quantile(0.5), people.quantile(0.99), sum(spent.values()) * each)


def _while_training(settings: Settings, dagit: Dagit, processors: Processors, people: People, family: str) -> float:
    """The 99th percentile, in ms, while a family trains."""
    began = time.monotonic()
    with processors.measured() as spent, people.searching(), ThreadPoolExecutor(1) as thread:
        thread.submit(training.train, settings, dagit, [family], lambda line: None, force=True).result()
    took = time.monotonic() - began
    print(f"\n{family} trains for {took:.0f} s, load {os.getloadavg()[0]:.1f}")
    print(f"  {people.rate:g}/s {summary(people)}")
    print(f"      hundredths of a core: {by_process(spent, 100 / took)}")
    return people.quantile(0.99)


def summary(people: People) -> str:
    """The percentiles of their searches, and what answers lacked, in a line."""
    percentiles = "  ".join(f"p{share} {people.quantile(share / 100):6.1f} ms" for share in (50, 95, 99, 100))
    lacking = sum(bool(each.answer.get("degraded")) for each in people.searches)
    why = "".join(f"; {count}: {reason}" for reason, count in people.degraded.most_common(3))
    return f"{percentiles}  {lacking} of {len(people.searches)} lack a model{why}; {people.failed.total()} failed"


if __name__ == "__main__":
    main()
