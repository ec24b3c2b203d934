"""Measures the running stack: every test query of the live snapshot, asked of every service, as TREC runs and a table.

The baselines that the ranker has to beat (reciprocal rank fusion, equal-weight min-max fusion) are made here from the
services' own hits; so are two bounds that know the judgements: the best that fixed weights reach in hindsight, and the
perfect order of all that the models found. What lies between the ranker and the latter is ranking's to gain, and what
lies above it is finding's.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import polars as pl
from rich.console import Group
from rich.table import Table
from rich.text import Text

from deploy.stack.search.searching import SearchError, ask, live_set, whole
from shared_ops.data import snapshots, tables
from shared_ops.data.tables import Hits
from shared_ops.data.wire import HitsAnswer, SearchRequest
from shared_ops.judge import evaluation as measures
from shared_ops.judge import fusion, trec
from shared_ops.judge.bounds import hindsight_weights, perfect_order
from shared_ops.judge.significance import bootstrap_interval
from shared_ops.release import runtimes
from shared_ops.release.livesets import LiveSet
from shared_ops.release.releases import Metrics
from shared_ops.settings import Settings

DEPTH = measures.DEPTH
CLIENTS = 2
ATTEMPTS = 5
FINAL, HINDSIGHT, PERFECT = "final", "hindsight", "perfect"
RESAMPLES = 2000
"""Of each interval."""
BASELINES: dict[str, Callable[[Mapping[str, Hits]], Hits]] = {
    "RRF": fusion.reciprocal_rank_fusion,
    "min-max": fusion.min_max_fusion,
}
BOUNDS = (HINDSIGHT, PERFECT)
NOT_IN_FILE_NAMES = r"[^\w.-]"


def evaluate(settings: Settings, out: Path, say: Callable[[str], None]) -> Group:
    """Write a run of each model and fusion to `out`, with the judgements; returns the tables of their metrics.

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
    return Group(measured.table(), measured.comparison(), measured.explanation())


@dataclass(frozen=True)
class Evaluation:
    """Runs of the test queries, the judgements of each slice, and the measures: model to slice to measure."""

    runs: dict[str, pl.DataFrame]
    qrels: dict[str, pl.DataFrame]
    metrics: dict[str, Metrics]
    per_query: dict[str, pl.DataFrame]
    """By model, the measures of each query."""
    members: pl.DataFrame
    """Which queries each slice holds (query_id, slice)."""
    weights: dict[str, float]
    """Of the fixed fusion that is best in hindsight."""

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
        """A row of measures per model, and a block of rows per slice; of what may answer, a column's best is bold."""
        table = Table("slice", "queries", "model", *measures.MEASURES, f"{measures.PRIMARY}, 95 %")
        for slice_name, of_all in self.metrics[FINAL].items():
            values = {name: metrics[slice_name] for name, metrics in self.metrics.items()}
            best = {m: max(values[name][m] for name in values if name not in BOUNDS) for m in measures.MEASURES}
            for name, each in values.items():
                is_bold = {m: name not in BOUNDS and each[m] == best[m] for m in best}
                cells = [Text(f"{each[m]:.3f}", "bold" if is_bold[m] else "") for m in best]
                low, high = bootstrap_interval(self._values(name, slice_name), RESAMPLES, seed=0)
                table.add_row(slice_name, str(int(of_all["queries"])), name, *cells, f"{low:.3f} to {high:.3f}")
            table.add_section()
        return table

    def comparison(self) -> Table:
        """The final order against each model, fusion and bound, on the same queries: the mean difference."""
        table = Table(f"{measures.PRIMARY} of {FINAL}, minus that of", "mean", "95 %")
        ours = self._values(FINAL, "all")
        for name in (name for name in self.runs if name != FINAL):
            differences = ours - self._values(name, "all")
            low, high = bootstrap_interval(differences, RESAMPLES, seed=0)
            table.add_row(name, f"{differences.mean():+.3f}", f"{low:+.3f} to {high:+.3f}")
        return table

    def explanation(self) -> str:
        """What the names of the rows mean that are no model's."""
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in self.weights.items())
        return (
            f"{HINDSIGHT}: min-max fusion by the fixed weights that are best on these very queries ({weights}). "
            f"{PERFECT}: the best order of all that the models found. Both know the judgements, and answer nobody."
        )

    def _values(self, name: str, slice_name: str) -> np.ndarray:
        """The primary measure of each judged query of a slice, in the order of query ids."""
        queries = self.members.filter(pl.col("slice") == slice_name)
        of_slice = self.per_query[name].join(queries, on="query_id", how="semi").sort("query_id")
        return of_slice[measures.PRIMARY].to_numpy()


def measure(model_hits: Mapping[str, Sequence[Hits]], snapshot: snapshots.Snapshot) -> Evaluation:
    """Measure each model's hits for the test queries, in the order of their ids, and the fusions of these hits."""
    queries, qrels = snapshot.queries("test").sort("query_id"), snapshot.qrels("test").sort("query_id", "doc_id")
    query_ids = queries["query_id"].to_list()
    own = {name: tables.without_own(tables.hits_table(query_ids, hits), queries) for name, hits in model_hits.items()}
    searches = {name: tables.hits_by_query(hits) for name, hits in own.items() if name != FINAL}
    together = [{name: by_query.get(query_id, []) for name, by_query in searches.items()} for query_id in query_ids]
    grades = _grades(qrels, query_ids)
    weights = hindsight_weights(together, grades)
    fused = {name: [fuse(hits)[:DEPTH] for hits in together] for name, fuse in BASELINES.items()}
    bounds = {
        HINDSIGHT: [fusion.min_max_fusion(hits, weights)[:DEPTH] for hits in together],
        PERFECT: [perfect_order(*each)[:DEPTH] for each in zip(together, grades, strict=True)],
    }
    made = {name: tables.hits_table(query_ids, hits) for name, hits in (fused | bounds).items()}
    runs = {
        **{name: own[name] for name in searches},
        **{name: made[name] for name in fused},
        FINAL: own[FINAL],
        **{name: made[name] for name in bounds},
    }
    members = measures.slice_members(snapshot)
    judged = members.join(qrels, on="query_id").partition_by("slice", as_dict=True, maintain_order=True)
    per_query = {name: measures.per_query(hits, qrels) for name, hits in runs.items()}
    return Evaluation(
        runs,
        {str(name): frame for (name,), frame in judged.items()},
        {name: measures.means(values, members) for name, values in per_query.items()},
        per_query,
        members,
        weights,
    )


def _grades(qrels: pl.DataFrame, query_ids: Sequence[str]) -> list[dict[str, int]]:
    """The judgements of each query, by document."""
    judged: dict[str, dict[str, int]] = {query_id: {} for query_id in query_ids}
    for query_id, doc_id, grade in qrels.select("query_id", "doc_id", "grade").iter_rows():
        judged[query_id][doc_id] = grade
    return list(judged.values())


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
