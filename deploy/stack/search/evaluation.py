"""Measures the running stack: every test query of the live snapshot, asked of every service, as TREC runs and a table.

The baselines that the ranker has to beat (reciprocal rank fusion, equal-weight min-max fusion) are made here from the
services' own hits.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import polars as pl
from rich.table import Table
from rich.text import Text

from deploy.stack.search.searching import SearchError, ask, live_set, whole
from shared_ops.data import snapshots, tables
from shared_ops.data.tables import Hits
from shared_ops.data.wire import HitsAnswer, SearchRequest
from shared_ops.judge import evaluation as measures
from shared_ops.judge import fusion, trec
from shared_ops.release import runtimes
from shared_ops.release.livesets import LiveSet
from shared_ops.release.releases import Metrics
from shared_ops.settings import Settings

DEPTH = measures.DEPTH
CLIENTS = 2
ATTEMPTS = 5
FINAL = "final"
BASELINES: dict[str, Callable[[Mapping[str, Hits]], Hits]] = {
    "RRF": fusion.reciprocal_rank_fusion,
    "min-max": fusion.min_max_fusion,
}
NOT_IN_FILE_NAMES = r"[^\w.-]"


def evaluate(settings: Settings, out: Path, say: Callable[[str], None]) -> Table:
    """Write a run of each model and fusion to `out`, with the judgements; returns the table of their metrics.

    Raises:
        SearchError: when nothing is live, there are no test queries, or a service does not answer.
    """
    live = live_set(settings)
    snapshot = snapshots.load(live.snapshot)
    queries = snapshot.queries("test").sort("query_id")
    if queries.is_empty():
        raise SearchError(
            f"Snapshot {live.snapshot.id} has no judged test queries: there is nothing to evaluate on. Add judgements "
            "to a source. How much better clicks make the answers, make simulate WATCH=1 says without them."
        )
    say(f"{len(queries)} test queries of snapshot {live.snapshot.id}, set {live.number}")
    hits = _services_runs(settings, live, queries["text"].to_list(), say)
    measured = measure(hits, snapshot)
    measured.write(out)
    say(f"runs and judgements written to {out}")
    return measured.table()


@dataclass(frozen=True)
class Evaluation:
    """Runs of the test queries, the judgements of each slice, and the measures: model to slice to measure."""

    runs: dict[str, pl.DataFrame]
    qrels: dict[str, pl.DataFrame]
    metrics: dict[str, Metrics]

    def write(self, folder: Path) -> None:
        """Write <model>.run and <slice>.qrels: ir_measures on one of each gives a row of the table."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, hits in self.runs.items():
            with (folder / f"{name}.run").open("w") as file:
                file.writelines(trec.run_lines(name, tables.hits_by_query(hits)))
        for name, judged in self.qrels.items():
            path = folder / f"{re.sub(NOT_IN_FILE_NAMES, '-', name)}.qrels"
            trec.write_qrels(path, judged.select("query_id", "doc_id", "grade").iter_rows())

    def table(self) -> Table:
        """A row of measures per model, and a block of rows per slice; the best value of a column is bold."""
        table = Table("slice", "queries", "model", *measures.MEASURES)
        for slice_name, of_all in self.metrics["final"].items():
            values = {name: metrics[slice_name] for name, metrics in self.metrics.items()}
            best = {m: max(each[m] for each in values.values()) for m in measures.MEASURES}
            for name, each in values.items():
                cells = [Text(f"{each[m]:.3f}", "bold" if each[m] == best[m] else "") for m in best]
                table.add_row(slice_name, str(int(of_all["queries"])), name, *cells)
            table.add_section()
        return table


def measure(model_hits: Mapping[str, Sequence[Hits]], snapshot: snapshots.Snapshot) -> Evaluation:
    """Measure each model's hits for the test queries, in the order of their ids, and the fusions of these hits."""
    queries, qrels = snapshot.queries("test").sort("query_id"), snapshot.qrels("test").sort("query_id", "doc_id")
    query_ids = queries["query_id"].to_list()
    own = {name: tables.without_own(tables.hits_table(query_ids, hits), queries) for name, hits in model_hits.items()}
    searches = {name: tables.hits_by_query(hits) for name, hits in own.items() if name != FINAL}
    together = [{name: by_query.get(query_id, []) for name, by_query in searches.items()} for query_id in query_ids]
    fused = {name: [fuse(hits)[:DEPTH] for hits in together] for name, fuse in BASELINES.items()}
    runs = {
        **{name: own[name] for name in searches},
        **{name: tables.hits_table(query_ids, hits) for name, hits in fused.items()},
        FINAL: own[FINAL],
    }
    members = measures.slice_members(snapshot)
    judged = members.join(qrels, on="query_id").partition_by("slice", as_dict=True, maintain_order=True)
    return Evaluation(
        runs,
        {str(name): frame for (name,), frame in judged.items()},
        {name: measures.means(measures.per_query(hits, qrels), members) for name, hits in runs.items()},
    )


def _services_runs(
    settings: Settings, live: LiveSet, texts: Sequence[str], say: Callable[[str], None]
) -> dict[str, list[Hits]]:
    """The hits of every search service and of the search app, in the order of `texts`."""
    runs: dict[str, list[Hits]] = {}
    with ThreadPoolExecutor(CLIENTS) as pool:
        for family in live.search_families:
            release = live.releases[family]
            worker = runtimes.of_release(settings.staging_url("prod"), family, release).socket(settings)
            with runtimes.client(worker, 60) as client:
                runs[family] = list(pool.map(lambda text: _predicted(client, family, release, text), texts))  # noqa: B023
            say(f"{family:<9} asked")
        runs[FINAL] = list(pool.map(lambda text: _final(settings, text), texts))
        say(f"{FINAL:<9} asked")
    return runs


def _predicted(client: httpx.Client, family: str, release: str, text: str) -> Hits:
    try:
        request = SearchRequest(release=release, query=text, k=DEPTH)
        response = client.post("http://localhost/search", json=request.model_dump())
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise SearchError(f"{family} did not answer a search ({error}). make status") from error
    return HitsAnswer.model_validate_json(response.content).hits


def _final(settings: Settings, text: str) -> Hits:
    """The order that a person would see."""
    answer = whole(lambda: ask(settings, text, DEPTH, timeout=60), ATTEMPTS)
    return [(hit["doc_id"], hit["score"]) for hit in answer["hits"]]
