"""Lets a release answer in a process of its own, with the code and the environment of its manifest.

Knows no Dagster. In this way a champion is measured whose code the checkout no longer has. The process runs
`shared_ops.answering` of the release's own code, which describes the messages.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from shared_ops.data import tables
from shared_ops.data.tables import Hits
from shared_ops.judge.training import Answers, Open
from shared_ops.release import codes, runtimes
from shared_ops.release.inputs import Inputs
from shared_ops.release.releases import Staging, environment_lock
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import ROOT, current, file_url


class AnsweringError(RuntimeError):
    """A release that does not answer in the code and environment that made it."""


@contextmanager
def answering(staging: Staging, inputs: Inputs, version: str, open_model: Open | None = None) -> Iterator[Answers]:
    """A family's release, ready to answer the queries of `inputs`' snapshot.

    It answers in this process, opened by `open_model`, where that is given and the release was made with this process's
    code and environment; else in a process of its own. A release whose code was never kept runs with the checkout's.

    Raises:
        ReleaseError: when the release is missing, or its files are not what the manifest says.
        RuntimeMissingError: when its environment is not here, and cannot be made again.
        CodeError: when its code is not kept.
        AnsweringError: by a query, when its process ends before it has answered.
    """
    family, folder = inputs.family, staging.fetch(inputs.family, version)
    runtime = runtimes.of_release(staging.url, family, version)
    if open_model and (not runtime.code or runtime == _own_runtime(family)):
        yield open_model(folder, inputs)
        return
    with tempfile.TemporaryDirectory() as scratch, _process(runtime, folder, inputs, Path(scratch)) as process:
        yield ReleaseProcess(process, Path(scratch), f"{family}/{version}")


def _own_runtime(family: str) -> Runtime:
    return Runtime(family, codes.digest(codes.running_code(family)), environment_lock(family))


@contextmanager
def _process(runtime: Runtime, folder: Path, inputs: Inputs, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    settings, inputs_file = current(), scratch / "inputs.json"
    inputs_file.write_text(inputs.model_dump_json())
    with subprocess.Popen(
        [str(runtime.provide(settings)), "-m", "shared_ops.answering", runtime.family, str(folder), str(inputs_file)],
        cwd=ROOT,
        env=os.environ | runtime.variables(settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class ReleaseProcess:
    """The `Answers` of a release in a process of its own, with the time that each takes there."""

    def __init__(self, process: "subprocess.Popen[str]", scratch: Path, name: str) -> None:
        self._process, self._scratch, self._name = process, scratch, name

    def one(self, query_id: str, text: str) -> Hits:
        """The hits of one query."""
        return [(doc_id, score) for doc_id, score in self._ask({"one": [query_id, text]})["hits"]]

    def seconds(self, query_id: str, text: str) -> float:
        """The seconds that one query takes in that process, without the time to reach it."""
        return float(self._ask({"one": [query_id, text]})["seconds"])

    def many(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The `hits` table of queries (query_id, text)."""
        queries_file, hits_file = self._scratch / "queries.parquet", self._scratch / "hits.parquet"
        queries.select("query_id", "text").write_parquet(queries_file)
        self._ask({"many": str(queries_file), "to": str(hits_file)})
        return tables.read(file_url(hits_file))

    def rank(self, queries: pl.DataFrame, hits: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """The `hits` table of queries (query_id, text), of a ranker that orders each family's `hits` table."""
        queries_file, order_file = self._scratch / "queries.parquet", self._scratch / "order.parquet"
        queries.select("query_id", "text").write_parquet(queries_file)
        files = {family: self._scratch / f"hits-{number}.parquet" for number, family in enumerate(hits)}
        for family, file in files.items():
            hits[family].write_parquet(file)
        given = {family: str(file) for family, file in files.items()}
        self._ask({"rank": str(queries_file), "hits": given, "to": str(order_file)})
        return tables.read(file_url(order_file))

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout, "both are pipes"
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise AnsweringError(
                f"{self._name} does not answer in the code and environment that made it: its process has ended with "
                f"{self._process.wait()}. What it said is in this run's log (stderr)."
            )
        answer: dict[str, Any] = json.loads(line)
        return answer
