# environment: light
"""What the ranker's order is worth where few training queries are judged, beside fusion with fixed weights.

    envs/light/.venv/bin/python -m bench.few_queries [<sources file>] [--queries 30] [--seeds 5]

Needs no stack. Of the sources' training queries as many as `--queries` are drawn, once for each seed, a fifth of them
for dev; 0 takes all, as they are. Every search family learns from them in its own environment, with the settings
that it trains with by itself, and then the ranker, from their hits. Printed is nDCG@10 on all test queries: of each
family, of min-max fusion with equal weights and with the best fixed weights in hindsight, which knows the judgements of
these very queries, and of the ranker.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl

from bench._figures import tell, where
from shared_ops.data import snapshots, tables
from shared_ops.data.snapshots import SnapshotRef, Snapshots
from shared_ops.judge.bounds import hindsight_weights
from shared_ops.judge.evaluation import DEPTH, PRIMARY, per_query
from shared_ops.judge.fusion import min_max_fusion
from shared_ops.release.inputs import Inputs
from shared_ops.settings import ROOT, data_repository, ranking_families, repositories, search_families

FEW = 30
HINDSIGHT = "hindsight"
DEV = 5
"""One of so many training queries is for dev."""


def main() -> None:
    """Train and measure for each seed, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="?", default=ROOT / "deploy" / "sources" / "small.yaml")
    parser.add_argument("--queries", type=int, default=FEW)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--part", help=argparse.SUPPRESS)  # a family that is to train in this process, on this snapshot
    options = parser.parse_args()
    if options.part:
        return _train(options.part, options.sources)
    print(f"{where()}\n{options.sources}, {options.queries or 'all'} training queries")
    with tempfile.TemporaryDirectory() as home:
        os.environ["SEARCHLOOP_HOME"] = home
        whole = _tables(options.sources)
        results = [
            _measured(_cut(whole, options.queries, seed), Path(home) / str(seed))
            for seed in range(options.seeds if options.queries else 1)
        ]
    for name in results[0]:
        values = np.array([result[name] for result in results])
        each = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:22} {values.mean():.3f}   {each}")
    if options.queries == FEW:
        gained = [result[f"{ranking_families()[0]} - {HINDSIGHT}"] for result in results]
        tell("ranker with 30 training queries, minus hindsight fusion", float(np.mean(gained)))


def _tables(sources: Path) -> dict[str, pl.DataFrame]:
    """The tables of a sources file, as the corpus reads it."""
    corpus = f"repos.{data_repository()}"
    config, build = import_module(f"{corpus}.sources.config"), import_module(f"{corpus}.build")
    built: dict[str, pl.DataFrame] = build.build(config.load(sources)).tables
    return built


def _cut(whole: Mapping[str, pl.DataFrame], count: int, seed: int) -> Mapping[str, pl.DataFrame]:
    """The tables with so many judged training queries, drawn by the seed; with all where `count` is 0."""
    if not count:
        return whole
    queries, test = whole["queries"], pl.col("split") == "test"
    judged = queries.filter(~test).join(whole["qrels"], on="query_id", how="semi")["query_id"].sort().to_list()
    drawn = np.random.default_rng(seed).choice(judged, count, replace=False).tolist()
    split = pl.when(test).then(pl.lit("test")).when(pl.col("query_id").is_in(drawn[: count // DEV]))
    queries = queries.filter(test | pl.col("query_id").is_in(drawn)).with_columns(
        split=split.then(pl.lit("dev")).otherwise(pl.lit("train"))
    )
    kept = {name: whole[name].join(queries, on="query_id", how="semi") for name in ("qrels", "slices")}
    return {"documents": whole["documents"], "queries": queries, **kept}


def _measured(content: Mapping[str, pl.DataFrame], folder: Path) -> dict[str, float]:
    """nDCG@10 on the test queries, by what ordered the documents."""
    ref = Snapshots(str(folder)).publish(content)
    (folder / "snapshot.json").write_text(ref.model_dump_json())
    [ranker, *_] = ranking_families()
    for family in (*search_families(), ranker):
        python = ROOT / "envs" / repositories()[family].environment / ".venv" / "bin" / "python"
        command = [str(python), "-m", "bench.few_queries", str(folder), "--part", family]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    snapshot = snapshots.load(ref)
    test, judged = snapshot.queries("test"), snapshot.qrels("test")
    hits = {family: _hits(folder, family, test) for family in search_families()}
    by_family = {family: tables.hits_by_query(table) for family, table in hits.items()}
    query_ids = judged["query_id"].unique().sort().to_list()
    found = [{family: by_query.get(query_id, []) for family, by_query in by_family.items()} for query_id in query_ids]
    grades = [dict(judged.filter(query_id=query_id).select("doc_id", "grade").iter_rows()) for query_id in query_ids]
    hindsight = hindsight_weights(found, grades)
    fused = {
        "equal weights": [min_max_fusion(each)[:DEPTH] for each in found],
        HINDSIGHT: [min_max_fusion(each, hindsight)[:DEPTH] for each in found],
    }
    ordered = hits | {name: tables.hits_table(query_ids, each) for name, each in fused.items()}
    ordered[ranker] = _hits(folder, ranker, test)
    values = {name: per_query(table, judged)[PRIMARY].to_numpy() for name, table in ordered.items()}
    means = {name: float(each.mean()) for name, each in values.items()}
    return means | {f"{ranker} - {name}": means[ranker] - means[name] for name in fused}


def _hits(folder: Path, family: str, queries: pl.DataFrame) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{family}.parquet").join(queries, on="query_id", how="semi")


def _train(family: str, folder: Path) -> None:
    """Train a family, and leave its hits for all splits in the folder."""
    ref = SnapshotRef(**json.loads((folder / "snapshot.json").read_text()))
    if family in search_families():
        ops = import_module(f"repos.{family}.ops")
        hits = ops.fit(Inputs(family=family, snapshot=ref), ops.TrainConfig(), _quiet).hits
    else:
        snapshot, module = snapshots.load(ref), import_module(f"repos.{family}.train")
        content = snapshot.documents(), snapshot.queries(), snapshot.qrels()
        learned = {each: pl.read_parquet(folder / f"{each}.parquet") for each in search_families()}
        hits = module.train(*content, learned, module.Parameters(), _quiet).hits
    pl.concat(list(hits.values())).write_parquet(folder / f"{family}.parquet")


def _quiet(line: str) -> None:
    """No progress: the figures are what is printed."""


if __name__ == "__main__":
    main()
