"""A table of queries is answered in bulk by a release, as the release answers each of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult

from repos.keyword.definitions import defs
from repos.keyword.ops import opened
from repos.keyword.tests.test_kept_code import INPUTS, SCORES, released
from shared_ops.data import storage, tables
from shared_ops.judge.answering import answering
from shared_ops.release.releases import Staging
from shared_ops.settings import current

WORDS = ["median of an array", "sum", "", "mean of the mean", "nothing like that"]


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    """Two releases, the second made by code whose scores are a thousand times as large; the first is accepted."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    staging = Staging(current().staging_url("prod"))
    released(staging, tmp_path / "a", "v1")
    released(staging, tmp_path / "b", "v2", SCORES, f"(1000 * {SCORES.removesuffix('.tolist()')}).tolist()")
    staging.accept(staging.manifest("keyword", "v1"))
    return staging


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.csv"
    pl.DataFrame({"query_id": [f"q {number}" for number in range(len(WORDS))], "text": WORDS}).write_csv(path)
    return path


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def predicted(instance: DagsterInstance, **config: Any) -> ExecuteInProcessResult:
    job = defs.get_job_def("keyword_predict")
    return job.execute_in_process({"ops": {"predict": {"config": config}}}, instance)


def test_the_answers_are_the_release_s_own(
    staging: Staging, queries: Path, tmp_path: Path, instance: DagsterInstance
) -> None:
    out = (tmp_path / "out").as_uri()
    predicted(instance, queries=queries.as_uri(), out=out, k=2, part=2)
    parts = sorted((tmp_path / "out" / "hits").glob("*.parquet"))
    assert len(parts) == 3, "two queries a part"
    hits = tables.hits_by_query(pl.concat(map(pl.read_parquet, parts)))
    with answering(staging, INPUTS, "v1", opened) as answers:
        expected = {f"q {n}": answers.one(f"q {n}", text)[:2] for n, text in enumerate(WORDS) if text}
    assert hits == {query: found for query, found in expected.items() if found}
    run = [line.split() for line in (tmp_path / "out" / "run.trec").read_text().splitlines()]
    assert [(row[0], row[2], row[5]) for row in run] == [
        (query.replace(" ", "%20"), doc_id, "keyword-v1") for query, found in hits.items() for doc_id, _ in found
    ]


def test_dagit_is_told_what_answered_what(
    staging: Staging, queries: Path, tmp_path: Path, instance: DagsterInstance
) -> None:
    result = predicted(instance, queries=str(queries), out=str(tmp_path / "out"))
    (made,) = result.asset_materializations_for_node("predict")
    assert made.asset_key == AssetKey(["prod", "keyword", "predictions"])
    told = {name: value.value for name, value in made.metadata.items()}
    assert told["answered by"] == {"release": "keyword/v1"} and told["queries from"] == str(queries)
    assert (told["queries"], told["queries without hits"], told["k"]) == (5, 2, 10)
    written = pl.read_json(tmp_path / "out" / "predictions.json").row(0, named=True)
    assert written["release"] == "keyword/v1" and written["queries"] == 5 and written["run"] == result.run_id


@pytest.mark.slow
def test_a_release_of_other_code_answers_by_that(
    staging: Staging, queries: Path, tmp_path: Path, instance: DagsterInstance
) -> None:
    for version in ("v1", "v2"):
        predicted(instance, queries=str(queries), out=str(tmp_path / version), version=version)
    one, two = (pl.read_parquet(tmp_path / version / "hits" / "*.parquet") for version in ("v1", "v2"))
    assert two["score"].to_list() == pytest.approx([1000 * score for score in one["score"]])


def test_answers_are_never_written_over(
    staging: Staging, queries: Path, tmp_path: Path, instance: DagsterInstance
) -> None:
    predicted(instance, queries=str(queries), out=str(tmp_path / "out"))
    with pytest.raises(Exception, match=r"out holds answers already\. Name another folder, or remove it"):
        predicted(instance, queries=str(queries), out=str(tmp_path / "out"))


def test_nothing_else_s_folder_is_taken_for_answers(
    staging: Staging, queries: Path, tmp_path: Path, instance: DagsterInstance
) -> None:
    """A release's folder has hits, too; and a file is no folder."""
    release = storage.local_path(staging.release_url("keyword", "v1"))
    before = sorted(path.name for path in release.rglob("*"))
    for place, said in ((release, "is not empty"), (queries, "is a file")):
        with pytest.raises(Exception, match=said):
            predicted(instance, queries=str(queries), out=str(place))
    assert sorted(path.name for path in release.rglob("*")) == before


def test_a_run_that_did_not_come_to_its_end_is_begun_anew(
    staging: Staging, queries: Path, tmp_path: Path, instance: DagsterInstance
) -> None:
    storage.write_atomic((tmp_path / "out" / "hits" / "part-000007.parquet").as_uri(), b"half")
    storage.write_atomic((tmp_path / "out" / "predictions.begun").as_uri(), b"")
    predicted(instance, queries=str(queries), out=str(tmp_path / "out"))
    assert len(pl.read_parquet(tmp_path / "out" / "hits" / "*.parquet")["query_id"].unique()) == 3


def test_a_store_that_is_no_folder_holds_queries_and_answers(staging: Staging, instance: DagsterInstance) -> None:
    table = pl.DataFrame({"query_id": ["1"], "text": ["median"]})
    tables.write("memory://asked/queries.parquet", table)
    predicted(instance, queries="memory://asked/queries.parquet", out="memory://answered")
    assert tables.read("memory://answered/hits/part-000000.parquet")["doc_id"].to_list() == ["median"]
    assert storage.read_bytes("memory://answered/run.trec") == b"1 Q0 median 1 " + _score("memory://answered")


def _score(url: str) -> bytes:
    score = tables.read(f"{url}/hits/part-000000.parquet").cast({"score": pl.Float32})["score"].to_numpy()[0]
    return f"{score} keyword-v1\n".encode()
