# environment: platform
"""The most searches a second that the running stack carries, its control plane and the recording included.

    envs/platform/.venv/bin/python -m bench.most_searches [--seconds 15]

Needs a running stack (`make up`). Test queries are asked in an open loop, at rates that grow by a quarter, until the
99th percentile reaches 250 ms, or an answer lacks a model, or a search fails or is refused. The client runs on the
same machine.
"""

import argparse
import time

from bench._figures import tell
from bench.search_load import made_up_people, summary, test_queries
from deploy.stack.dagit.client import Dagit
from shared_ops.settings import Settings
from tests.drills.people import People

FIRST_RATE, GROWTH, LAST_RATE = 20.0, 1.25, 400.0
MOST_MS = 250.0
REST_SECONDS = 5


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=15, help="at each rate")
    seconds, settings = arguments.parse_args().seconds, Settings()
    texts = test_queries(settings)
    Dagit(settings.url("dagit")).settle(600)
    with made_up_people(settings, texts, rate=5).searching():
        time.sleep(5)  # a warm-up
    carried, rate = 0.0, FIRST_RATE
    while rate <= LAST_RATE:
        people = made_up_people(settings, texts, rate)
        with people.searching():
            time.sleep(seconds)
        print(f"{rate:.0f}/s {summary(people)}", flush=True)
        if not _is_carried(people):
            break
        carried, rate = rate, rate * GROWTH
        time.sleep(REST_SECONDS)
    tell("searches a second, p99 below 250 ms, none lacks a model", carried)


def _is_carried(people: People) -> bool:
    return people.quantile(0.99) < MOST_MS and not people.degraded and not people.failed


if __name__ == "__main__":
    main()
