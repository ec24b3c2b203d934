"""Measures the running stack: every test query of the live snapshot, asked of every service, as TREC runs and a table.

The baselines that the ranker has to beat (reciprocal rank fusion, equal-weight min-max fusion) are made here from the
services' own hits.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from rich.table import Table
from rich.text import Text

from deploy.stack.searching import SearchError, ask
from shared_ops import evaluation as measures
from shared_ops import fusion, snapshots, tables
from shared_ops.livesets import LiveSet, LiveSets
from shared_ops.settings import Settings, repositories
from shared_ops.tables import Hits

DEPTH = measures.DEPTH
CLIENTS = 2
ATTEMPTS = 5


def evaluate(settings: Settings, out: Path, say: Callable[[str], None]) -> Table:
    """Write keyword.run, semantic.run, behavior.run and final.run to `out`; returns the table of metrics.

    Raises:
        SearchError: when nothing is live, there are no test queries, or a service does not answer.
    """
    live = LiveSets(settings.staging_url("prod")).live()
    if live is None:
        raise SearchError("No set of models is live: make train")
    snapshot = snapshots.load(live.snapshot)
    queries = snapshot.queries("test").sort("query_id")
    if queries.is_empty():
        raise SearchError(f"Snapshot {live.snapshot.id} has no test queries: there is nothing to evaluate on.")
    say(f"{len(queries)} test queries of snapshot {live.snapshot.id}, set {live.number}")
    runs = _services_runs(settings, live, queries["text"].to_list(), say)
    out.mkdir(parents=True, exist_ok=True)
    for name, hits in runs.items():
        write_run(out / f"{name}.run", name, queries["query_id"].to_list(), hits)
    searches = [name for name in runs if name != "final"]
    together = [dict(zip(searches, each, strict=True)) for each in zip(*(runs[name] for name in searches), strict=True)]
    runs["RRF"] = [fusion.reciprocal_rank_fusion(hits) for hits in together]
    runs["min-max"] = [fusion.min_max_fusion(hits) for hits in together]
    say(f"runs written to {out}")
    order = [*searches, "RRF", "min-max", "final"]
    return _table({name: runs[name] for name in order}, queries["query_id"].to_list(), snapshot)


def write_run(path: Path, tag: str, query_ids: Sequence[str], results: Sequence[Hits]) -> None:
    """Write a TREC run: `query Q0 document rank score tag`, scores strictly falling, so that no reader re-orders ties.

    The format parts its fields by spaces: those in an id are written as %20, every other id stands as it is.
    """
    with path.open("w") as file:
        for query_id, hits in zip(query_ids, results, strict=True):
            for rank, (doc_id, _) in enumerate(hits[:DEPTH], start=1):
                file.write(f"{_field(query_id)} Q0 {_field(doc_id)} {rank} {DEPTH + 1 - rank} {tag}\n")


def _field(name: str) -> str:
    return "".join(f"%{ord(c):02X}" if c.isspace() else c for c in name)


def _services_runs(
    settings: Settings, live: LiveSet, texts: Sequence[str], say: Callable[[str], None]
) -> dict[str, list[Hits]]:
    """The hits of every search service and of the search app, in the order of `texts`."""
    runs: dict[str, list[Hits]] = {}
    with ThreadPoolExecutor(CLIENTS) as pool, httpx.Client(timeout=60, trust_env=False) as client:
        for family in (name for name, repository in repositories().items() if repository.role == "search"):
            url, release = settings.url(family), live.releases[family]
            runs[family] = list(pool.map(lambda text: _predicted(client, url, release, text), texts))  # noqa: B023
            say(f"{family:<9} asked")
        runs["final"] = list(pool.map(lambda text: _final(settings, text), texts))
        say(f"{'final':<9} asked")
    return runs


def _predicted(client: httpx.Client, url: str, release: str, text: str) -> Hits:
    try:
        response = client.post(f"{url}/search", json={"release": release, "query": text, "k": DEPTH})
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise SearchError(f"{url} did not answer a search ({error}). make status") from error
    found = response.json()
    return list(zip(found["doc_ids"], found["scores"], strict=True))


def _final(settings: Settings, text: str) -> Hits:
    """The order that a person would see, asked again where a busy machine left a model out of it."""
    for _ in range(ATTEMPTS):
        answer = ask(settings, text, DEPTH, timeout=60)
        if not answer["degraded"]:
            return [(hit["doc_id"], hit["score"]) for hit in answer["hits"]]
        time.sleep(1)
    raise SearchError(f"The search app answers with a part missing: {answer['degraded']}. make status")


def _table(runs: dict[str, list[Hits]], query_ids: Sequence[str], snapshot: snapshots.Snapshot) -> Table:
    """Measures as rows per model, a block for each slice; the best of a column is bold."""
    members = measures.slice_members(snapshot)
    qrels = snapshot.qrels("test")
    metrics = {
        name: measures.means(measures.per_query(tables.hits_table(query_ids, _cut(hits)), qrels), members)
        for name, hits in runs.items()
    }
    table = Table("slice", "queries", "model", *measures.MEASURES)
    for slice_name, of_all in metrics["final"].items():
        for name in runs:
            values = metrics[name][slice_name]
            best = {m: max(metrics[other][slice_name][m] for other in runs) for m in measures.MEASURES}
            cells = [Text(f"{values[m]:.3f}", "bold" if values[m] == best[m] else "") for m in best]
            table.add_row(slice_name, str(int(of_all["queries"])), name, *cells)
        table.add_section()
    return table


def _cut(results: Sequence[Hits]) -> list[Hits]:
    return [hits[:DEPTH] for hits in results]
