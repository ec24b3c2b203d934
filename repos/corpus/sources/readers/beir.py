"""Reads a folder in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/{train,dev,test}.tsv.

    {"_id": "d1", "title": "...", "text": "..."}      corpus.jsonl
    {"_id": "q1", "text": "..."}                      queries.jsonl
    query-id<TAB>corpus-id<TAB>score                  qrels/<split>.tsv, with this header line; see qrels.py

The layout is that of Thakur et al. 2021, "BEIR: A Heterogeneous Benchmark" (github.com/beir-cellar/beir).
"""

from repos.corpus.sources.checked import Checked
from repos.corpus.sources.collected import PRECEDENCE, Collected, SourceError
from repos.corpus.sources.config import BeirSource
from repos.corpus.sources.files import exists, listing
from repos.corpus.sources.formats import rows
from repos.corpus.sources.readers.qrels import judgements
from repos.corpus.sources.wanted import WantedColumns
from shared_ops.data.storage import local_path
from shared_ops.data.text import Split

_LINES = WantedColumns(
    ["_id"], ["title", "text"], "In BEIR's layout each line names its `_id`; other tables are `kind: table`."
)
REQUIRED = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")


def files(source: BeirSource) -> dict[str, bool]:
    """The URLs of the files that a BEIR folder holds or may hold, and whether each must be there."""
    names = dict.fromkeys([*REQUIRED, *(f"qrels/{split}.tsv" for split in PRECEDENCE)])
    return {f"{source.path}/{name}": name in REQUIRED for name in names}


def read(source: BeirSource, most: int | None = None) -> Collected:
    """Read a BEIR folder, under its own ids: at most `most` rows of each table, or all (None).

    Without a dev split, one is cut from train by a hash.

    Raises:
        SourceError: where a file is missing, cannot be read, or changes while it is read.
    """
    if missing := [name for name in REQUIRED if not exists(f"{source.path}/{name}", source.name)]:
        names = listing(source.path, source.name)
        problem = (
            "is not there"
            if names is None
            else f"has no {', '.join(missing)}; it has {', '.join(names[:20]) or 'nothing'}"
        )
        raise SourceError(
            f"Source {source.name!r}: {source.path} {problem}. A folder in BEIR's layout holds "
            f"{', '.join(REQUIRED)}, and may hold qrels/train.tsv and qrels/dev.tsv. Check `path` in the sources file."
        )
    checked = Checked(source.name, source.kind, source.exclude_self, most)
    for where, row in rows(f"{source.path}/corpus.jsonl", None, checked.collected, "documents", _LINES):
        metadata = row.get("metadata") or {}
        if not isinstance(metadata, dict):
            checked.collected.reject("documents", "metadata: no object with names, left out", where)
            metadata = {}
        renamed = {"doc_id": row.get("_id"), "title": row.get("title"), "text": row.get("text")}
        checked.document(where, renamed | {"url": metadata.get("url"), "metadata": metadata})
    for where, row in rows(f"{source.path}/queries.jsonl", None, checked.collected, "queries", _LINES):
        checked.query(where, {"query_id": row.get("_id"), "text": row.get("text")})
    if unread := _unread(source):
        checked.collected.report.notes["qrels: files not read, whose names are none of test, dev, train.tsv"] = unread
    splits: dict[str, str] = {}
    # A query that is judged in two of them belongs to the first; its judgements in the other are left out.
    for split in PRECEDENCE:
        url = f"{source.path}/qrels/{split}.tsv"
        if exists(url, source.name):
            _read_judgements(checked, url, split, splits)
    checked.split(splits)
    if not checked.has("dev"):
        checked.split_by_hash({"dev": source.dev_share, "train": 1 - source.dev_share}, of="train")
    return checked.done()


def _unread(source: BeirSource) -> str:
    """The names of local files in qrels/ that belong to no split, joined; not every other store can list them."""
    folder = f"{source.path}/qrels"
    names = listing(folder, source.name) if local_path(folder) else None
    return ", ".join(name for name in names or [] if name.removesuffix(".tsv") not in PRECEDENCE)


def _read_judgements(checked: Checked, url: str, split: Split, splits: dict[str, str]) -> None:
    for where, row in judgements(url, checked.collected):
        if splits.setdefault(row["query-id"], split) != split:
            checked.collected.note(f"qrels: in {split}, of a query that a more held-back split has")
            continue
        checked.judgement(where, {"query_id": row["query-id"], "doc_id": row["corpus-id"], "grade": row["score"]})
