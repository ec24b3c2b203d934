"""The keyword model: BM25 over title and text, its tokenizer and parameters chosen on the dev queries.

Knows no Dagster. The prediction service loads it, the ops train it, a notebook can import it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from repos.keyword.bm25 import TermCounts, TermIndex, WordCounts
from repos.keyword.tuning import Choice, DevJudgements, tune
from repos.keyword.words import Tokenizer, words
from shared_ops.data.tables import Hits
from shared_ops.data.text import SPLITS
from shared_ops.judge.training import TrainingResult, answer

FORMAT = 1
MAX_QUERY = 10_000
"""Characters of a query that are read. A longer query is cut: its first pages say what it asks for."""


class Parameters(BaseModel):
    """How to train.

    With enough judged dev queries, training replaces `stem`, `stop_words`, `k1`, `b` and `title_weight` where other
    values are surely better.
    """

    seed: int = Field(default=0, description="Seed of the search for parameters")
    trials: int = Field(default=80, ge=0, description="Settings tried on the dev queries; 0 keeps the ones given here")
    language: str = Field(default="english", description="Snowball stemmer; stop words exist for english alone")
    stem: bool = Field(default=True, description="Stem words")
    stop_words: bool = Field(default=True, description="Leave out stop words, except from a query of nothing else")
    identifiers: bool = Field(
        default=True, description="Find the parts of identifiers: csv in read_csv, frame in DataFrame"
    )
    k1: float = Field(default=1.2, gt=0, description="How slowly repeating a term saturates")
    b: float = Field(default=0.75, ge=0, le=1, description="How much long documents are discounted")
    title_weight: float = Field(default=1.0, gt=0, description="What a term in the title counts, in terms of the text")

    def choice(self) -> Choice:
        """The choice that stands where nothing better is found.

        Raises:
            ValueError: when there is no stemmer for the language.
        """
        tokenizer = Tokenizer(self.language, self.stem, self.stop_words, self.identifiers)
        return Choice(tokenizer, self.k1, self.b, self.title_weight)


class KeywordModel:
    """BM25 search: texts in, hits out. Safe to use from many threads at once."""

    def __init__(self, index: TermIndex, terms: list[str], doc_ids: list[str], choice: Choice) -> None:
        self.index = index
        self.terms = terms
        self.doc_ids = doc_ids
        self._ids = np.array(doc_ids, object)  # looked up a row of hits at a time
        self.choice = choice
        self._columns = {term: column for column, term in enumerate(terms)}

    @classmethod
    def build(cls, doc_ids: Sequence[str], counts: WordCounts, choice: Choice) -> Self:
        """The model of counted documents. Documents with equal scores will stand in the order of `doc_ids`."""
        term_counts = TermCounts.of(counts, choice.tokenizer)
        index = TermIndex.of(term_counts, choice.k1, choice.b, choice.title_weight)
        return cls(index, term_counts.terms, list(doc_ids), choice)

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        """The best `k` documents of each text, best first, with their BM25 scores (above 0); equal scores by doc_id.

        Any text is legal; one that shares no term with any document gets []. Of a text longer than `MAX_QUERY`
        characters the first ones count.

        Raises:
            ValueError: when k is below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}.")
        queries = [self._look_up(text) for text in texts]
        documents, scores = self.index.search(queries, min(k, self.index.size))
        counts = (documents >= 0).sum(axis=1).tolist()
        return [
            list(zip(self._ids[row[:count]].tolist(), score_row[:count].tolist(), strict=True))
            for row, score_row, count in zip(documents, scores, counts, strict=True)
        ]

    def _look_up(self, text: str) -> list[int]:
        columns = self._columns
        terms = self.choice.tokenizer.query(words(text[:MAX_QUERY]))
        return [columns[term] for term in terms if term in columns]

    def save(self, folder: Path) -> None:
        """Write the model into `folder`, made if missing. The same model gives the same bytes."""
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self.index, name) for name in ("starts", "documents", "scores")}
        (folder / "index.safetensors").write_bytes(save(arrays))
        _write(folder / "terms.json", self.terms)
        _write(folder / "documents.json", self.doc_ids)
        _write(folder / "model.json", {"format": FORMAT, **self.choice.flat()})


def load(folder: Path) -> KeywordModel:
    """The model that `save` wrote, ready to answer: its compiled parts are loaded before this returns.

    Raises:
        ValueError: when the folder's format is not this code's.
        FileNotFoundError: when a file is missing.
    """
    from safetensors.numpy import load_file

    about = _read(folder / "model.json")
    if about.pop("format", None) != FORMAT:
        raise ValueError(
            f"{folder / 'model.json'} is not of format {FORMAT}: train again with this code, or update it."
        )
    weights = {name: about.pop(name) for name in ("k1", "b", "title_weight")}
    doc_ids = _read(folder / "documents.json")
    index = TermIndex(**load_file(folder / "index.safetensors"), size=len(doc_ids))
    model = KeywordModel(index, _read(folder / "terms.json"), doc_ids, Choice(Tokenizer(**about), **weights))
    model.search([model.terms[0]], 1)
    return model


def train(
    documents: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
    parameters: Parameters,
    log: Callable[[str], None] = print,
) -> TrainingResult[KeywordModel]:
    """Index the documents with the tokenizer and parameters that serve the dev queries best.

    The tables are those of `shared_ops.data.tables`, with all splits. With fewer than 20 judged dev queries the
    given parameters stay.

    The index is made of the documents alone, and nothing is learned from the train queries' answers. So the model's
    hits for train queries are what any new query would get: `hits["train"]` needs no cross-fitting.

    Raises:
        ValueError: when no document holds a word.
    """
    documents = documents.sort("doc_id")
    doc_ids = documents["doc_id"].to_list()
    counts = WordCounts.of(documents["title"].to_list(), documents["text"].to_list())
    log(f"Counted {len(counts.words)} distinct words in {len(doc_ids)} documents")
    judged = _dev_judgements(queries.filter(pl.col("split") == "dev"), qrels, doc_ids)
    choice = tune(counts, judged, parameters.choice(), parameters.trials, parameters.seed, log)
    model = KeywordModel.build(doc_ids, counts, choice)
    hits = {split: answer(model, queries.filter(pl.col("split") == split)) for split in SPLITS}
    return TrainingResult(model, choice.flat(), hits)


def _dev_judgements(queries: pl.DataFrame, qrels: pl.DataFrame, doc_ids: list[str]) -> DevJudgements:
    row = {doc_id: place for place, doc_id in enumerate(doc_ids)}
    grades: dict[str, dict[int, int]] = {}
    answers = qrels.filter(pl.col("doc_id").is_in(doc_ids)).sort("query_id", "doc_id")
    for query_id, doc_id, grade in answers.select("query_id", "doc_id", "grade").iter_rows():
        grades.setdefault(query_id, {})[row[doc_id]] = grade
    texts = dict(queries.sort("query_id").select("query_id", "text").iter_rows())
    return DevJudgements({query: text for query, text in texts.items() if query in grades}, grades)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
