# environment: search
"""What recording costs a search: the same searches by an app that records and by one that does not.

    envs/search/.venv/bin/python -m bench.recording [--queries 200]

Both apps are real, with tiny models behind them, and a ranker that explains 10 documents by 55 features; the one that
records has a real Postgres. Each query is asked of both in turn, so that the machine's load falls on both alike.
Prints the medians and 95th percentiles, and the median of the pairs' differences.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

from bench._figures import where
from services.tests.database import database
from services.tests.stack import ServingStack, TinyRanker, load_tiny, stack
from shared_ops.data.tables import Hits
from shared_ops.settings import families

WARM_UP = 20
DOCUMENTS = {f"document-{n:03}": (f"Signal {n}", f"Transform the signal number {n} along an axis.") for n in range(120)}


class WideRanker(TinyRanker):
    """Explains its order by as many features as the real ranker has."""

    features = np.random.default_rng(0).normal(size=(100, 55)).astype(np.float32)

    def explain(self, text: str, hits: Mapping[str, Hits], n: int) -> tuple[Hits, Any]:
        """The order, and made-up features."""
        order = self.rank(text, hits)
        return order, self.features[: min(n, len(order))]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--queries", type=int, default=200)
    queries = arguments.parse_args().queries
    print(f"{where()}; {queries} queries")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        home = Path(folder)
        postgres = running.enter_context(database(home / "postgres"))
        plain = running.enter_context(stack(home / "plain", feedback=False))
        recording = running.enter_context(stack(home / "recording", postgres_url=postgres.url))
        for local in (plain, recording):
            _start(local)
        took = [(_ask(plain, n), _ask(recording, n)) for n in range(WARM_UP + queries)][WARM_UP:]
    for name, times in zip(("without recording", "recorded"), zip(*took, strict=True), strict=True):
        print(f"{name:<18} median {median(times):6.2f} ms   95% {quantiles(times, n=20)[-1]:6.2f} ms")
    print(f"{'difference':<18} median {median(recorded - plain for plain, recorded in took):6.2f} ms")


def _start(local: ServingStack) -> None:
    snapshot = local.snapshot(DOCUMENTS)
    texts = {doc_id: text for doc_id, (_, text) in DOCUMENTS.items()}
    live_set = local.go_live(
        snapshot, **{name: local.release(name, "v1", snapshot, texts=texts) for name in families()}
    )
    for name in (*families(), "search"):
        local.start(name, _load)
        local.until_live(name, live_set)


def _load(family: str, folder: Path) -> Any:
    return WideRanker({}) if families()[family].role == "rank" else load_tiny(family, folder)


def _ask(local: ServingStack, number: int) -> float:
    """The milliseconds that a search takes."""
    started = time.perf_counter()
    answer = local.get("search", "/search", q=f"transform signal {number}")
    answer.raise_for_status()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
