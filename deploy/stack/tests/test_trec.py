"""What `make evaluate` writes: TREC files on which the field's own tool gives the table that was printed."""

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from rich.table import Table

from deploy.stack.search import evaluation
from shared_ops.data import tables
from shared_ops.data.snapshots import Snapshot, Snapshots, load
from shared_ops.data.tables import Hits
from shared_ops.judge import trec
from shared_ops.judge.evaluation import MEASURES

DOCUMENTS = [f"{word} {number}" for word in ("sort", "mean%20of") for number in range(5)]
QUERIES = ["q 1", "q%201", "q2", "q\u20033"]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Ten documents and four queries whose ids hold white space; q2 is a document too, and none of its own answers."""
    documents = [
        {"doc_id": each, "source": "s", "title": each, "text": each, "url": None, "metadata": "{}"}
        for each in [*DOCUMENTS, "q2"]
    ]
    queries = [
        {"query_id": each, "text": each, "split": "test", "source": f"s{number % 2}", "own_doc_id": None}
        for number, each in enumerate(QUERIES)
    ]
    queries[2]["own_doc_id"] = "q2"
    qrels = [
        {"query_id": query, "doc_id": document, "grade": 1 + number % 3}
        for number, query in enumerate(QUERIES)
        for document in DOCUMENTS[number : number + 4]
    ]
    content = {
        "documents": tables.make("documents", documents),
        "queries": tables.make("queries", queries),
        "qrels": tables.make("qrels", qrels),
        "slices": tables.make("slices", [{"query_id": "q 1", "slice": "verbatim"}]),
    }
    return load(Snapshots((tmp_path / "snapshots").as_uri()).publish(content))


@pytest.fixture
def asked() -> dict[str, list[Hits]]:
    """Each model's hits: ties, scores that differ past single precision, nothing found, the query itself on top."""
    ties = [(each, 0.5) for each in DOCUMENTS[2:]]
    close = [(each, 1 / 3 - number * 1e-12) for number, each in enumerate(DOCUMENTS)]
    falling = [("q2", 99.0), *((each, 12.75 - number) for number, each in enumerate(reversed(DOCUMENTS)))]
    in_order_of_ids: dict[str, dict[str, Hits]] = {
        "keyword": {"q 1": falling, "q%201": ties, "q2": falling, "q\u20033": []},
        "semantic": {"q 1": close, "q%201": close, "q2": ties, "q\u20033": falling},
        "behavior": {"q 1": [], "q%201": [], "q2": [], "q\u20033": []},
        "final": {"q 1": ties, "q%201": falling, "q2": falling, "q\u20033": close},
    }
    return {name: [hits[query] for query in sorted(QUERIES)] for name, hits in in_order_of_ids.items()}


def printed(table: Table) -> list[list[str]]:
    """The rows of a table as they are printed: slice, queries, model, measures."""
    text = io.StringIO()
    Console(file=text, width=200).print(table)
    lines = [line.strip("│").split("│") for line in text.getvalue().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line] for line in lines]


def test_ir_measures_on_the_files_gives_the_printed_table(
    snapshot: Snapshot, asked: dict[str, list[Hits]], tmp_path: Path
) -> None:
    import ir_measures

    files: Any = ir_measures  # its readers of files state no types
    measured = evaluation.measure(asked, snapshot)
    measured.write(tmp_path / "runs")
    rows = printed(measured.table())
    assert {row[2] for row in rows} == {
        "keyword",
        "semantic",
        "behavior",
        "RRF",
        "min-max",
        "final",
        "hindsight",
        "perfect",
    }
    assert {row[0] for row in rows} == {"all", "source:s0", "source:s1", "verbatim"}
    names = [ir_measures.parse_measure(name) for name in MEASURES]
    for slice_name, _, model, *values, interval in rows:
        qrels = list(files.read_trec_qrels(str(tmp_path / f"runs/{slice_name.replace(':', '-')}.qrels")))
        run = list(files.read_trec_run(str(tmp_path / f"runs/{model}.run")))
        means = ir_measures.calc_aggregate(names, qrels, run)
        assert [f"{means[name]:.3f}" for name in names] == values, (slice_name, model)
        low, high = map(float, interval.split(" to "))
        assert low <= float(values[0]) <= high
    best = {row[2]: float(row[3]) for row in rows if row[0] == "all"}
    assert 0 == best["behavior"] < best["keyword"], "the table tells models apart"
    assert max(best.values()) == best["perfect"] and best["hindsight"] >= best["min-max"]


def test_the_final_order_is_compared_with_all_others_on_the_same_queries(
    snapshot: Snapshot, asked: dict[str, list[Hits]]
) -> None:
    measured = evaluation.measure(asked, snapshot)
    means = {name: values["all"]["nDCG@10"] for name, values in measured.metrics.items()}
    for name, mean, interval in printed(measured.comparison()):
        assert float(mean) == pytest.approx(means["final"] - means[name], abs=0.0011)
        low, high = map(float, interval.split(" to "))
        assert low <= float(mean) <= high
    assert (
        "min-max fusion by the fixed weights that are best on these very queries (behavior " in measured.explanation()
    )


def test_the_scores_are_the_models_own_and_ties_keep_their_order() -> None:
    found = {"q 1": [("b", 12.5), ("a c", 0.5), ("100%", 0.5)], "q2": []}
    rows = [line.split() for line in trec.run_lines("final", found)]
    assert [[*row[:4], row[5]] for row in rows] == [
        ["q%201", "Q0", "b", "1", "final"],
        ["q%201", "Q0", "a%20c", "2", "final"],
        ["q%201", "Q0", "100%25", "3", "final"],
    ]
    assert [row[4] for row in rows[:2]] == ["12.5", "0.5"]
    assert float(rows[2][4]) == pytest.approx(0.5, abs=1e-6) and float(rows[2][4]) < 0.5


def test_a_query_is_no_answer_of_its_own(snapshot: Snapshot, asked: dict[str, list[Hits]]) -> None:
    runs = evaluation.measure(asked, snapshot).runs
    assert all(run.filter(pl.col("query_id") == "q2", pl.col("doc_id") == "q2").is_empty() for run in runs.values())
    assert not runs["keyword"].filter(pl.col("query_id") == "q 1", pl.col("doc_id") == "q2").is_empty()
