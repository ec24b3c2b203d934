"""Answers queries with a release: reads requests from standard input until it ends, writes answers to standard output.

`judge.answering` starts it in the code and environment that made the release. So its name, its arguments and its
messages, which are JSON lines, may never change: either side may be of any age.

    {"one": ["<query_id>", "<text>"]}              {"hits": [["<doc_id>", <score>], ...], "seconds": <float>}
    {"many": "<queries.parquet>", "to": "<file>"}  {"written": "<file>"}, a `hits` table
    {"rank": "<queries.parquet>", "hits": {"<family>": "<hits.parquet>"}, "to": "<file>"}  the same, of a ranker

A release whose code is older than a message ends at it.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from shared_ops.judge.training import Answers, Ranking
from shared_ops.release.inputs import Inputs


def main() -> None:
    """Open a release with this code, and answer the requests on standard input until it ends."""
    parser = argparse.ArgumentParser(prog="python -m shared_ops.answering", description=__doc__)
    parser.add_argument("family")
    parser.add_argument("folder", type=Path)
    parser.add_argument("inputs", type=Path)
    arguments = parser.parse_args()
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the family's code prints must not mix with the answers
    opened = importlib.import_module(f"repos.{arguments.family}.ops").opened
    model = opened(arguments.folder, Inputs.model_validate_json(arguments.inputs.read_bytes()))
    _answer_all(model, sys.stdin, answers)


def _answer_all(model: Answers, questions: IO[str], answers: IO[str]) -> None:
    for line in questions:
        print(json.dumps(_answer(model, json.loads(line))), file=answers, flush=True)


def _answer(model: Answers, question: dict[str, Any]) -> dict[str, Any]:
    if "many" in question:
        model.many(pl.read_parquet(question["many"])).write_parquet(question["to"])
        return {"written": question["to"]}
    if "rank" in question:
        found = {family: pl.read_parquet(file) for family, file in question["hits"].items()}
        cast(Ranking, model).rank(pl.read_parquet(question["rank"]), found).write_parquet(question["to"])
        return {"written": question["to"]}
    began = time.perf_counter()
    hits = model.one(*question["one"])
    return {"hits": hits, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
