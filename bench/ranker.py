# environment: ranker
"""How long the live ranker takes to order 300 candidates of one query, features included.

    envs/ranker/.venv/bin/python -m bench.ranker [--queries 200]

Needs a live set (`make up`): its ranker, and test queries of its snapshot. Each query has 100 hits of each family that
the ranker learned from, drawn from the snapshot's documents, with scores that fall: for what is 300 of them, those of
three families are different documents.
"""

import argparse
import sys
import time
from importlib import import_module
from statistics import median, quantiles

import numpy as np

from bench._figures import tell, where
from shared_ops.data import snapshots
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import Settings

CANDIDATES, WARM_UP = 300, 20


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--queries", type=int, default=200)
    count, url = arguments.parse_args().queries, Settings().staging_url("prod")
    live = LiveSets(url).live()
    if live is None:
        sys.exit(NOTHING_LIVE)
    folder = Staging(url).fetch(live.ranker, live.releases[live.ranker])
    ranker = import_module(f"repos.{live.ranker}.model").load(folder)
    snapshot = snapshots.load(live.snapshot)
    doc_ids, texts = snapshot.documents()["doc_id"].to_numpy(), snapshot.queries("test")["text"].to_list()
    random, families = np.random.default_rng(0), live.search_families
    each, took = CANDIDATES // len(families), []
    for number in range(WARM_UP + count):
        drawn = random.choice(doc_ids, (len(families), each), replace=False)
        scores = np.linspace(1, 0.1, each).tolist()
        rows = [list(zip(row.tolist(), scores, strict=True)) for row in drawn]
        hits = dict(zip(families, rows, strict=True))
        started = time.perf_counter()
        ranker.rank(texts[number % len(texts)], hits)
        took.append((time.perf_counter() - started) * 1000)
    took = took[WARM_UP:]
    print(f"{where()}; set {live.number}, {each * len(families)} candidates, 95%: {quantiles(took, n=20)[-1]:.2f} ms")
    tell("ranker: 300 candidates to their order", median(took))


if __name__ == "__main__":
    main()
