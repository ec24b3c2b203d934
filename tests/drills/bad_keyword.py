"""`python -m tests.drills.bad_keyword <how>` in envs/keyword: one prod run of keyword, whose challenger is bad.

It runs the real graph, on the stack that the environment names. Only the challenger's answers are changed: in all else
it is as good as the champion.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dagster import DagsterInstance

from repos.keyword import model
from repos.keyword.model import KeywordModel
from shared_ops.data.tables import Hits

SLOW_SECONDS = 0.012
"""More than ten times what a search takes, and more than the differences that the gate ignores."""


def constant(hits: list[Hits]) -> list[Hits]:
    return [[(doc_id, 1.0) for doc_id, _ in query_hits] for query_hits in hits]


def nan(hits: list[Hits]) -> list[Hits]:
    return [[(doc_id, float("nan")) for doc_id, _ in query_hits] for query_hits in hits]


def slow(hits: list[Hits]) -> list[Hits]:
    time.sleep(SLOW_SECONDS)
    return hits


def worse(hits: list[Hits]) -> list[Hits]:
    """Without the first three hits of each query."""
    return [query_hits[3:] for query_hits in hits]


HOW: dict[str, Callable[[list[Hits]], list[Hits]]] = {each.__name__: each for each in (constant, nan, slow, worse)}


def main() -> None:
    """Run it, and print the run's id."""
    change, load, search = HOW[sys.argv[1]], model.load, KeywordModel.search

    def loaded(folder: Path) -> KeywordModel:
        made = load(folder)
        made.is_champion = folder.parent.name == "releases"  # type: ignore[attr-defined]
        return made

    def changed(self: KeywordModel, texts: Any, k: int) -> list[Hits]:
        hits = search(self, texts, k)
        return hits if getattr(self, "is_champion", False) else change(hits)

    model.load, KeywordModel.search = loaded, changed  # type: ignore[method-assign]
    from repos.keyword.definitions import defs  # its ops take `load` when they are imported

    prod = defs.resolve_job_def("keyword_prod")
    with DagsterInstance.get() as instance:
        config = {"ops": {"load_inputs": {"config": {"force": True}}}}
        print(prod.execute_in_process(run_config=config, instance=instance, raise_on_error=False).run_id)


if __name__ == "__main__":
    main()
