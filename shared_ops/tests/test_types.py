"""The Dagster types read the data, and stop a run with what they found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shared_ops.data import storage, tables
from shared_ops.data.snapshots import TABLES, SnapshotRef
from shared_ops.pipeline.references import Candidate
from shared_ops.pipeline.types import check_candidate, check_inputs, check_snapshot
from shared_ops.release.inputs import Inputs


def test_a_good_snapshot_passes_with_its_counts(snapshot: SnapshotRef) -> None:
    result = check_snapshot(snapshot)
    assert result.success
    assert result.metadata["documents"].value == 8 and result.metadata["test queries"].value == 3


def rewrite(snapshot: SnapshotRef, table: str, frame: pl.DataFrame) -> None:
    frame.write_parquet(storage.local_path(snapshot.url) / f"{table}.parquet")


def test_a_judgement_of_an_unknown_document_fails_with_its_row(
    snapshot: SnapshotRef, content: dict[str, pl.DataFrame]
) -> None:
    rewrite(snapshot, "qrels", content["qrels"].with_columns(pl.col("doc_id").str.replace("numpy.sort", "numpy.gone")))
    result = check_snapshot(snapshot)
    assert not result.success and "2 judgements name a document" in result.description
    assert "numpy.gone" in json.dumps(result.metadata["failing rows"].value)


def test_a_table_with_an_empty_text_fails_with_its_row(snapshot: SnapshotRef, content: dict[str, pl.DataFrame]) -> None:
    rewrite(snapshot, "documents", content["documents"].with_columns(pl.lit("").alias("text")))
    result = check_snapshot(snapshot)
    assert not result.success and "'documents'" in result.description
    rows: Any = result.metadata["failing rows"].value
    assert len(rows) == 8


def test_a_snapshot_is_read_and_checked_once_for_a_process_and_again_when_a_hand_changed_it(
    snapshot: SnapshotRef, content: dict[str, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    check = tables.check

    def noted(table: str, frame: pl.DataFrame) -> pl.DataFrame:
        checked.append(table)
        return check(table, frame)

    monkeypatch.setattr(tables, "check", noted)
    inputs = Inputs(family="keyword", snapshot=snapshot)
    assert check_snapshot(snapshot).success and check_inputs(inputs).success and check_inputs(inputs).success
    assert sorted(checked) == sorted(TABLES)
    rewrite(snapshot, "documents", content["documents"].with_columns(pl.lit("").alias("text")))
    assert not check_snapshot(snapshot).success and not check_inputs(inputs).success
    assert len(checked) == len(TABLES) + 1, "the first table that fails ends the check"


def test_a_missing_snapshot_fails_clearly(tmp_path: Path) -> None:
    result = check_snapshot(SnapshotRef(id="x", url=(tmp_path / "x").as_uri()))
    assert not result.success and "Build one: make train" in result.description


@pytest.fixture
def candidate(snapshot: SnapshotRef, tmp_path: Path) -> Callable[[pl.DataFrame], Candidate]:
    def make(test_hits: pl.DataFrame) -> Candidate:
        url = (tmp_path / "candidate").as_uri()
        for split in ("train", "dev"):
            tables.write(storage.join(url, "hits", f"{split}.parquet"), tables.empty("hits"))
        tables.write(storage.join(url, "hits", "test.parquet"), test_hits)
        inputs = Inputs(family="keyword", snapshot=snapshot)
        return Candidate(
            inputs=inputs,
            key="k",
            code="c",
            code_version="v",
            environment="e",
            url=url,
            parameters={},
            hyperparameters={},
        )

    return make


def hits(*rows: tuple[str, str, float, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=tables.empty("hits").schema, orient="row")


def test_hits_that_are_an_order_pass(candidate: Callable[[pl.DataFrame], Candidate]) -> None:
    assert check_candidate(candidate(hits(("q4", "numpy.median", 2.0, 1), ("q4", "numpy.mean", 1.0, 2)))).success


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("q4", "numpy.median", float("nan"), 1)], "score"),
        ([("q4", "numpy.median", 1.0, 1), ("q4", "numpy.median", 0.5, 2)], "uniqueness"),
        ([("q4", "numpy.gone", 1.0, 1)], "1 name a document that the snapshot does not hold"),
        ([("q1", "numpy.mean", 1.0, 1)], "1 answer a query of another split"),
    ],
)
def test_hits_that_are_not_fail_with_the_reason(
    candidate: Callable[[pl.DataFrame], Candidate], rows: list[tuple[str, str, float, int]], said: str
) -> None:
    result = check_candidate(candidate(hits(*rows)))
    assert not result.success and said in result.description
