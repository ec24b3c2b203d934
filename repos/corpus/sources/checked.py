"""Rows as a source gives them become rows of our tables, or are counted with what is wrong with them.

The one place that says what a bad row is. Knows no kind of source.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from repos.corpus.sources.collected import Collected, Row, SourceReport
from repos.corpus.sources.text import SPLITS, Split, is_utf8, split_of


class Checked:
    """Collects the good rows of one source. Add all documents first, then queries, then judgements.

    Of several rows with one id, one stays and the rest are counted. Which one depends on their content and not on the
    order they came in, which a database does not promise.
    """

    def __init__(self, name: str, kind: str) -> None:
        self.collected = Collected(SourceReport(name=name, kind=kind))
        self._documents: dict[str, Row] = {}
        self._queries: dict[str, Row] = {}
        self._grades: dict[tuple[str, str], int] = {}
        self._rejected: dict[str, set[str]] = {"documents": set(), "queries": set()}

    def document(self, where: str, row: Mapping[str, Any]) -> None:
        """Add a document from doc_id, title, text, url and metadata, all but doc_id and text optional."""
        doc_id, text, title = (
            self._id("documents", where, row.get("doc_id")),
            _text(row.get("text")),
            _text(row.get("title")),
        )
        if doc_id is None or not self._written("documents", where, doc_id, text, title):
            return
        if not text:
            self.collected.note("documents: no text, its title stands for it")
        url = _text(row.get("url")) or None
        if url is not None and not url.lower().startswith(("http://", "https://")):
            self.collected.reject("documents", "url that is no http address, left out", where)
            url = None
        document = {
            "doc_id": doc_id,
            "source": self.collected.report.name,
            "title": title,
            "text": text or title,
            "url": url,
            "metadata": json.dumps(_plain(row.get("metadata") or {}), sort_keys=True, default=str),
        }
        self._keep("documents", self._documents, doc_id, document, where)

    def query(self, where: str, row: Mapping[str, Any]) -> None:
        """Add a query from query_id, text and, where its source has one, split."""
        query_id, text = self._id("queries", where, row.get("query_id")), _text(row.get("text"))
        if query_id is None or not self._written("queries", where, query_id, text):
            return
        split = _text(row.get("split")) or None
        if split is not None and split not in SPLITS:
            self.collected.reject("queries", f"split that is none of {', '.join(SPLITS)}", where)
            return
        query = {"query_id": query_id, "text": text, "split": split, "source": self.collected.report.name}
        self._keep("queries", self._queries, query_id, query, where)

    def judgement(self, where: str, row: Mapping[str, Any]) -> None:
        """Add a judgement from query_id, doc_id and grade. A grade of 0 or less is not judged relevant."""
        query_id, doc_id = self._id("qrels", where, row.get("query_id")), self._id("qrels", where, row.get("doc_id"))
        grade = _whole(row["grade"])
        if query_id is None or doc_id is None:
            return
        if grade is None:
            self.collected.reject("qrels", "grade that is no whole number", where)
        elif grade <= 0:
            self.collected.note("qrels: judged not relevant")
        elif query_id in self._rejected["queries"] or doc_id in self._rejected["documents"]:
            self.collected.note("qrels: of a query or document that was left out")
        elif query_id not in self._queries:
            self.collected.reject("qrels", "unknown query", f"{where}: {query_id}")
        elif doc_id not in self._documents:
            self.collected.reject("qrels", "unknown document", f"{where}: {doc_id}")
        elif (query_id, doc_id) in self._grades:
            self.collected.reject("qrels", "duplicate", f"{where}: {query_id} {doc_id}")
            self._grades[query_id, doc_id] = max(grade, self._grades[query_id, doc_id])
        else:
            self._grades[query_id, doc_id] = grade

    def split(self, splits: Mapping[str, str]) -> None:
        """Say which split each query belongs to, by its id."""
        for query_id, split in splits.items():
            if query_id in self._queries:
                self._queries[query_id]["split"] = split

    def split_by_hash(self, shares: Mapping[Split, float], of: Split | None = None) -> None:
        """Give the queries that have no split (or have the split `of`) the one that their text falls into."""
        for query in self._queries.values():
            if query["split"] == of:
                query["split"] = split_of(query["text"], shares)

    def has(self, split: Split) -> bool:
        """Whether any query is in a split."""
        return any(query["split"] == split for query in self._queries.values())

    def done(self) -> Collected:
        """What was collected. Queries without a relevant document are left out: they can teach or tell nothing."""
        judged = {query_id for query_id, _ in self._grades}
        self.collected.note("queries: nothing is judged relevant", len(self._queries.keys() - judged))
        self.collected.documents = [self._documents[doc_id] for doc_id in sorted(self._documents)]
        self.collected.queries = [self._queries[query_id] for query_id in sorted(judged)]
        self.collected.qrels = [
            {"query_id": query_id, "doc_id": doc_id, "grade": grade}
            for (query_id, doc_id), grade in sorted(self._grades.items())
        ]
        return self.collected

    def _id(self, table: str, where: str, value: Any) -> str | None:
        found = _text(value)
        if not found:
            self.collected.reject(table, "no id", where)
        elif len(found.split()) > 1:  # TREC's run files separate their columns by white space
            self.collected.reject(table, "id with white space", f"{where}: {found[:80]}")
        elif not is_utf8(found):
            self.collected.reject(table, "wrong encoding", where)
        else:
            return found
        return None

    def _written(self, table: str, where: str, row_id: str, *texts: str) -> bool:
        """Whether there is a text, and it is one that can be written."""
        if any(texts) and all(is_utf8(text) for text in texts):
            return True
        self.collected.reject(table, "wrong encoding" if any(texts) else "empty text", f"{where}: {row_id}")
        self._rejected[table].add(row_id)
        return False

    def _keep(self, table: str, rows: dict[str, Row], row_id: str, row: Row, where: str) -> None:
        if row_id in rows:
            self.collected.reject(table, "duplicate id", f"{where}: {row_id}")
            row = min(row, rows[row_id], key=lambda each: json.dumps(each, sort_keys=True))
        rows[row_id] = row


def _text(value: Any) -> str:
    """A field as text without white space around it; "" where it holds none."""
    if isinstance(value, float):
        return (
            str(int(value)) if math.isfinite(value) and value.is_integer() else "" if math.isnan(value) else str(value)
        )
    return "" if value is None or isinstance(value, bool | dict | list) else str(value).strip()


def _whole(value: Any) -> int | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _plain(value: Any) -> Any:
    """`value` without the numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
