# environment: search
"""How long the running search app takes to answer one person, who asks one query after the other.

    envs/search/.venv/bin/python -m bench.search_latency [--queries 200]

Asks test queries of the live snapshot (evenly spread over them), as JSON and as the page, over one connection, after a
warm-up of 20; the models answer each. Then the same queries once more, which the app answers from memory. Prints the
medians and the 95th percentiles, and the app's own timings of a JSON answer's stages.
"""

import argparse
import sys
import time
from statistics import median, quantiles
from typing import Any

import httpx
import orjson

from bench._figures import tell, where
from shared_ops.data import snapshots
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.settings import Settings

WARM_UP = 20


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--queries", type=int, default=200)
    count = arguments.parse_args().queries
    settings = Settings()
    live = LiveSets(settings.staging_url("prod")).live()
    if live is None:
        sys.exit(NOTHING_LIVE)
    texts = snapshots.load(live.snapshot).queries("test")["text"].to_list()
    if not texts:
        sys.exit(f"Snapshot {live.snapshot.id} has no test queries to ask.")
    texts = texts[:: max(len(texts) // count, 1)][:count]
    print(f"{where()}; set {live.number}, {len(texts)} queries")
    # Recorded as any search is, since that is part of its time, and marked as made-up.
    headers = {"x-application": "simulation", "x-session-id": "search-latency"}
    with httpx.Client(base_url=settings.url("search"), headers=headers, timeout=30, trust_env=False) as client:
        answers = [orjson.loads(body) for body in _ask(client, "/search", texts)]
        _ask(client, "/", texts)
        _ask(client, "/search", texts, fresh=False)
    _print_stages(answers)


def _ask(client: httpx.Client, path: str, texts: list[str], fresh: bool = True) -> list[bytes]:
    """The answers to all texts, by the models if `fresh`, else from memory; prints how long they took."""
    headers = {"cache-control": "no-cache"} if fresh else {}
    for text in texts[:WARM_UP]:
        client.get(path, params={"q": text}, headers=headers)
    bodies, took = [], []
    for text in texts:
        started = time.perf_counter()
        try:
            response = client.get(path, params={"q": text}, headers=headers).raise_for_status()
        except httpx.HTTPError as error:
            sys.exit(f"{client.base_url}{path} did not answer ({error}). Is the stack up? `make status`")
        took.append((time.perf_counter() - started) * 1000)
        bodies.append(response.content)
    what = path if fresh else "again"
    if not fresh:
        tell("the same search again within a minute", median(took))
    print(f"{what:<8} p50 {median(took):6.1f} ms   p95 {_p95(took):6.1f} ms   max {max(took):6.1f} ms")
    return bodies


def _print_stages(answers: list[dict[str, Any]]) -> None:
    for stage in answers[0]["timings_ms"]:
        took = [answer["timings_ms"][stage] for answer in answers if stage in answer["timings_ms"]]
        print(f"  {stage:<9} p50 {median(took):6.1f} ms   p95 {_p95(took):6.1f} ms")
    print(f"  {sum(bool(answer['degraded']) for answer in answers)} of {len(answers)} answers were degraded")


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]


if __name__ == "__main__":
    main()
