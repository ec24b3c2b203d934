"""Runs and judgements as the files that TREC's tools read (trec_eval, ir_measures).

The format separates its fields by white space. So white space in an id is percent-encoded (%20), and so is the %
itself; every other character stands as it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np

from shared_ops.data.tables import Hits


def run_lines(tag: str, results: Mapping[str, Hits]) -> Iterator[str]:
    """The lines of a run, from each query's hits: `query Q0 document rank score tag`.

    The scores are the models' own, in single precision, which trec_eval keeps. It orders by score and breaks ties by
    id: a score that does not fall is written as the next smaller number, so that every reader sees the hits' order.
    """
    for query_id, hits in results.items():
        before = np.float32(np.inf)
        for rank, (doc_id, score) in enumerate(hits, start=1):
            before = min(np.float32(score), np.nextafter(before, np.float32(-np.inf)))
            yield f"{_field(query_id)} Q0 {_field(doc_id)} {rank} {before} {tag}\n"


def write_qrels(path: Path, judgements: Iterable[tuple[str, str, int]]) -> None:
    """Write judgements (query, document, grade): `query 0 document grade`."""
    with path.open("w") as file:
        file.writelines(f"{_field(query)} 0 {_field(document)} {grade}\n" for query, document, grade in judgements)


def _field(name: str) -> str:
    return "".join(quote(each, safe="") if each.isspace() or each == "%" else each for each in name)
