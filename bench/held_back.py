# environment: behavior
"""What clicks for the test queries, written a little differently, would add to behavior's figure if they taught.

    envs/behavior/.venv/bin/python -m bench.held_back

Needs a live set (`make up`), whose snapshot it reads. MADE UP: every judged document of every test query gets clicks,
under the query's words in small letters, with a question mark. They have to teach nothing: what they are for is the
test queries' own text, by `shared_ops.data.text.normalise`. Prints nDCG@10 on the test queries without these clicks,
with them, and with them where no query is held back.
"""

import os
import platform
import sys
from datetime import UTC, datetime

import polars as pl

from repos.behavior import simulation
from repos.behavior.ops import BOOTSTRAP, TrainConfig
from repos.behavior.train import train
from shared_ops.data import snapshots, tables
from shared_ops.judge.evaluation import per_query
from shared_ops.judge.training import answer
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.settings import Settings


def main() -> None:
    """Train behavior three times, and print."""
    live = LiveSets(Settings().staging_url("prod")).live()
    if live is None:
        sys.exit(NOTHING_LIVE)
    content = snapshots.load(live.snapshot)
    documents, queries, qrels = content.documents(), content.queries(), content.qrels()
    test, parameters = content.queries("test"), TrainConfig(trials=0)
    judged = qrels.join(test, on="query_id", how="semi")
    bootstrap = simulation.simulate_clicks(documents, queries, qrels, parameters.bootstrap)
    leaking = {BOOTSTRAP: bootstrap, "made up": _clicks(test, judged)}
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.platform()}; snapshot {live.snapshot.id}")
    for name, clicks, known in (
        ("no clicks for test queries", {BOOTSTRAP: bootstrap}, queries),
        ("clicks for test queries written differently", leaking, queries),
        ("the same, where no query is held back", leaking, content.queries("train")),
    ):
        model = train(documents, known, qrels, clicks, parameters, log=lambda line: None).model
        values = per_query(answer(model, test), judged)
        mean: float = values.select(pl.col("nDCG@10").mean()).item()
        print(f"{name}: nDCG@10 {mean:.3f} on {len(values)} test queries", flush=True)


def _clicks(test: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """Clicks on each judged document of each test query, under other words of the same text."""
    rows = test.join(judged, on="query_id").select(
        "query_id",
        "doc_id",
        text=pl.col("text").str.strip_chars_end(".?! ").str.to_lowercase() + " ?",
        clicks=8,
        impressions=20,
        mean_position=2.0,
        examinations=15.0,
        last_seen=pl.lit(datetime.now(UTC)),
        fold=0,
    )
    return tables.make("clicks", rows.to_dicts())


if __name__ == "__main__":
    main()
