"""Turns a source's rows into rows of our tables, and counts the bad ones by what is wrong with them.

Only this module decides what a bad row is. Knows no kind of source.
"""

import json
from collections.abc import Mapping
from typing import Any

from repos.corpus.sources.collected import Collected, Row, SourceReport
from repos.corpus.sources.values import FlawError, address_of, grade_of, id_of, plain, text_of, whole_factor
from shared_ops.data.tables import MAX_ID_CHARACTERS
from shared_ops.data.text import SPLITS, Split, split_of


class Checked:
    """Collects the good rows of one source. Add all documents first, then queries, then judgements.

    Of several rows with one id, one stays and the others are counted. Which one stays depends on their content, not on
    their order, which a database does not guarantee. `where` is always a row's place (file and line), for the report.
    """

    def __init__(self, name: str, kind: str, exclude_self: bool = False, most: int | None = None) -> None:
        self.collected = Collected(SourceReport(name=name, kind=kind), most=most)
        self._exclude_self = exclude_self
        self._documents: dict[str, Row] = {}
        self._queries: dict[str, Row] = {}
        self._grades: dict[tuple[str, str], float] = {}
        self._rejected: dict[str, set[str]] = {"documents": set(), "queries": set()}

    def document(self, where: str, row: Mapping[str, Any]) -> None:
        """Add a document from doc_id, title, text, url and metadata; an id and a text or title are required."""
        doc_id = self._id("documents", where, row.get("doc_id"))
        texts = doc_id and self._texts("documents", where, doc_id, row.get("text"), row.get("title"))
        if not doc_id or not texts:
            return
        text, title = texts
        if not text:
            self.collected.note("documents: no text, its title stands for it")
        document = {
            "doc_id": doc_id,
            "source": self.collected.report.name,
            "title": title,
            "text": text or title,
            "url": self._url(where, row.get("url")),
            "metadata": self._metadata(where, row.get("metadata") or {}),
        }
        self._keep("documents", self._documents, doc_id, document, where)

    def query(self, where: str, row: Mapping[str, Any]) -> None:
        """Add a query from query_id, text and, where its source has one, split."""
        query_id = self._id("queries", where, row.get("query_id"))
        texts = query_id and self._texts("queries", where, query_id, row.get("text"), row.get("split"), needed=1)
        if not query_id or not texts:
            return
        text, split = texts
        if split and split not in SPLITS:
            self.collected.reject("queries", f"split that is none of {', '.join(SPLITS)}", where)
            self._rejected["queries"].add(query_id)
            return
        query = {"query_id": query_id, "text": text, "split": split or None, "source": self.collected.report.name}
        self._keep("queries", self._queries, query_id, query, where)

    def judgement(self, where: str, row: Mapping[str, Any]) -> None:
        """Add a judgement from query_id, doc_id and grade. With a grade of 0 or less it is only counted."""
        query_id, doc_id = self._id("qrels", where, row.get("query_id")), self._id("qrels", where, row.get("doc_id"))
        if query_id is None or doc_id is None:
            return
        try:
            grade = grade_of(row["grade"])
        except FlawError as flaw:
            self.collected.reject("qrels", str(flaw), where)
            return
        if grade <= 0:
            self.collected.note("qrels: judged not relevant")
        elif self._exclude_self and query_id == doc_id:
            self.collected.note("qrels: of the query's own document, which is no answer to it (exclude_self)")
        elif query_id not in self._queries:
            self._count_missing("queries", "query", query_id, where)
        elif doc_id not in self._documents:
            self._count_missing("documents", "document", doc_id, where)
        elif (query_id, doc_id) in self._grades:
            self.collected.reject("qrels", "duplicate", f"{where}: {query_id} {doc_id}")
            self._grades[query_id, doc_id] = max(grade, self._grades[query_id, doc_id])
        else:
            self._grades[query_id, doc_id] = grade

    def split(self, splits: Mapping[str, str]) -> None:
        """Set the splits of queries, by their ids; ids of no query are ignored."""
        for query_id, split in splits.items():
            if query_id in self._queries:
                self._queries[query_id]["split"] = split

    def split_by_hash(self, shares: Mapping[Split, float], of: Split | None = None) -> None:
        """Split the queries of the split `of` (None: those without one) by a hash of their text, in these shares."""
        for query in self._queries.values():
            if query["split"] == of:
                query["split"] = split_of(query["text"], shares)

    def has(self, split: Split) -> bool:
        """Whether any query is in a split."""
        return any(query["split"] == split for query in self._queries.values())

    def done(self) -> Collected:
        """Return what was collected. Queries without a relevant document are left out: they teach and measure nothing.

        Grades become whole numbers: where some are fractions, all are multiplied by the `whole_factor`.
        """
        judged = {query_id for query_id, _ in self._grades}
        if self._exclude_self:
            for query_id, query in self._queries.items():
                query["own_doc_id"] = query_id if query_id in self._documents else None
        self.collected.note("queries: nothing is judged relevant", len(self._queries.keys() - judged))
        factor = whole_factor(set(self._grades.values()))
        if factor > 1:
            self.collected.report.notes["qrels: grades are fractions, each was multiplied by"] = factor
        self.collected.documents = [self._documents[doc_id] for doc_id in sorted(self._documents)]
        self.collected.queries = [self._queries[query_id] for query_id in sorted(judged)]
        self.collected.qrels = [
            {"query_id": query_id, "doc_id": doc_id, "grade": max(1, round(grade * factor))}
            for (query_id, doc_id), grade in sorted(self._grades.items())
        ]
        return self.collected

    def _count_missing(self, table: str, what: str, row_id: str, where: str) -> None:
        """Count a judgement of a missing query or document: as bad, unless that was left out as a bad row itself."""
        if row_id in self._rejected[table]:
            self.collected.note("qrels: of a query or document that was left out")
        else:
            self.collected.reject("qrels", f"unknown {what}", f"{where}: {row_id}")

    def _id(self, table: str, where: str, value: Any) -> str | None:
        try:
            row_id = id_of(value)
            if len(f"{self.collected.report.name}:{row_id}") > MAX_ID_CHARACTERS:
                raise FlawError(f"id of more than {MAX_ID_CHARACTERS} characters, its source's name counted")
        except FlawError as flaw:
            self.collected.reject(table, str(flaw), where)
            return None
        return row_id

    def _texts(self, table: str, where: str, row_id: str, *values: Any, needed: int | None = None) -> list[str] | None:
        """The values of a row as texts; None where it is a bad row, which is counted.

        A value that is no text makes a bad row. So does a row whose first `needed` values are all empty; without
        `needed`, a row whose values are all empty.
        """
        try:
            texts = [text_of(value) for value in values]
            if not any(texts[:needed]):
                raise FlawError("empty text")
        except FlawError as flaw:
            self.collected.reject(table, str(flaw), f"{where}: {row_id}")
            self._rejected[table].add(row_id)
            return None
        return texts

    def _url(self, where: str, value: Any) -> str | None:
        """A document's address. One that no browser may follow is left out, the document stays."""
        try:
            url = address_of(value)
        except FlawError as flaw:
            self.collected.reject("documents", f"{flaw}, left out", where)
            return None
        return url or None

    def _metadata(self, where: str, metadata: Mapping[str, Any]) -> str:
        """Metadata as JSON; what JSON cannot hold is left out, the document stays."""
        values = {}
        for name, value in metadata.items():
            try:
                values[name] = plain(value)
            except FlawError as flaw:
                self.collected.reject("documents", f"metadata: {flaw}, left out", f"{where}: {name!r:.80}")
        return json.dumps(values, sort_keys=True, default=str)

    def _keep(self, table: str, rows: dict[str, Row], row_id: str, row: Row, where: str) -> None:
        if row_id in rows:
            self.collected.reject(table, "duplicate id", f"{where}: {row_id}")
            row = min(row, rows[row_id], key=lambda each: json.dumps(each, sort_keys=True))
        rows[row_id] = row
