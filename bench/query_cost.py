# environment: platform
"""What a search costs the processor, process by process: the stack under a steady load, less what it takes idle.

    envs/platform/.venv/bin/python -m bench.query_cost [--rate 10] [--seconds 30]

Needs a running stack (`make up`). The searches are answered by the models, and recorded.
"""

import argparse
import time

from tabulate import tabulate

from bench._processors import Processors
from bench.search_load import made_up_people, summary, test_queries
from deploy.stack.dagit.client import Dagit
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.settings import Settings


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rate", type=float, default=10, help="searches a second")
    arguments.add_argument("--seconds", type=float, default=30)
    options, settings = arguments.parse_args(), Settings()
    people = made_up_people(settings, test_queries(settings), options.rate)
    processors = Processors(Supervisor(settings))
    Dagit(settings.url("dagit")).settle(600)
    with made_up_people(settings, people.queries, rate=5).searching():
        time.sleep(5)  # a warm-up
    with processors.measured() as idle:
        time.sleep(options.seconds)
    with processors.measured() as loaded, people.searching():
        time.sleep(options.seconds)
    print(f"{options.rate:g}/s {summary(people)}\n")
    each = 1000 / len(people.searches)
    idled = {name: idle.get(name, 0.0) for name in loaded}
    rows = [(name, idled[name] / options.seconds, (loaded[name] - idled[name]) * each) for name in loaded]
    rows.sort(key=lambda row: -row[2])
    total = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    print(tabulate([*rows, total], headers=["process", "idle: cores", "a search: ms"], floatfmt=("", ".3f", ".1f")))


if __name__ == "__main__":
    main()
