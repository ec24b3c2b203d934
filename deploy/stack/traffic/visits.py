"""Made-up visits: what people look for, what they ask, and what they click, by a seed and by what they are shown.

Knows no server: whoever asks it hands what was shown to `clicked`. The click model is the position-based one that
behavior's simulation of whole tables has, restated here because the platform's commands import no repository: a result
is clicked where it is examined, with probability 1 / rank^eta, and attractive, by its grade (Craswell et al. 2008, "An
experimental comparison of click position-bias models"; Chuklin et al. 2015, "Click Models for Web Search").
Attractiveness is noise + (1 - noise) (2^grade - 1) / (2^highest grade - 1), as in Ai et al. 2018, "Unbiased Learning to
Rank with Unbiased Propensity Estimation".
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import polars as pl

ETA = 1.0
NOISE = 0.1
PAGE_SIZE = 10
MOST_SEARCHES = 4
"""A session has 1 to this many searches, each number as likely as the others."""
USUAL_SHARE = 1 / 3
"""The share of the sessions before a trend or a drift begins."""

TREND_DEPTH = 50
"""How many hits people look at when something is in the news, or about to be."""
TREND_EXAMINED = 0.95
"""How probably they come across it among these hits, wherever it stands."""
TREND_SHARE = 0.8
"""The share of the sessions in a trend that are about it."""
TREND_QUERIES = 3
"""How many queries a document trends for, where so many find it."""
TREND_STARTS = (4, 30)
"""The ranks where it may stand at first: with room to rise, and not put out of sight by a slip of a few places."""

TOPIC_SHARES = (0.02, 0.1)
"""The least and the greatest share of the titles that hold a word, for it to be a topic."""
TOPIC_WORDS = 4
"""How many words of a document somebody types who looks for it."""
TOPIC_WORD_LENGTH = 5
OPENING = 300
"""Characters of a text that its words are taken from."""
FEW_WORDS = 2
"""How many words somebody types who remembers little of a document: many others hold them too."""
CUTOFF = 10
"""How far down an order is measured."""


@dataclass(frozen=True)
class Wish:
    """What somebody asks, and which documents would please them."""

    text: str
    answers: Mapping[str, float]
    """Document to its attractiveness on a scale from 0, that of noise, to 1, certainty."""
    query_id: str = ""
    """Empty where the wish is none of the snapshot's queries."""
    trending: str = ""
    """The document in the news that they came for, if they did."""
    weight: float = 1.0
    """How often it is asked, among others."""


@dataclass(frozen=True)
class Visit:
    """One session: what is asked, and the random generator that decides its clicks."""

    wishes: list[Wish]
    random: np.random.Generator = field(repr=False)


class Topic(NamedTuple):
    """A part of the corpus: the documents of one source, or those with one word in their titles."""

    name: str
    documents: pl.DataFrame


def training_wishes(queries: pl.DataFrame, qrels: pl.DataFrame) -> list[Wish]:
    """Every training query with a judgement, in the order of ids. Both tables hold training queries only."""
    grade = pl.col("grade")
    judged = qrels.sort("query_id", "doc_id").with_columns(answer=(2.0**grade - 1) / (2.0 ** grade.max() - 1))
    answers = judged.group_by("query_id", maintain_order=True).agg("doc_id", "answer")
    return [
        Wish(row["text"], dict(zip(row["doc_id"], row["answer"], strict=True)), row["query_id"])
        for row in answers.join(queries, on="query_id", maintain_order="left").iter_rows(named=True)
    ]


def document_wishes(documents: pl.DataFrame, seed: int) -> list[Wish]:
    """What is asked where no training query is judged: for documents, by title, first sentence, or a few words of them.

    Queries for known items, as in Azzopardi, de Rijke and Balog 2007, "Building simulated queries for known-item
    topics". Few documents are wanted often and most of them seldom: the k-th most wanted 1 / k as often as the first
    (Zipf's law, as in Baeza-Yates et al. 2007, "The impact of caching on search engines"). Which, the seed decides.
    """
    random = np.random.default_rng(seed)
    ordered = documents.sort("doc_id")
    popularity = 1 / (1 + random.permutation(len(ordered)))
    return [
        Wish(text, {row["doc_id"]: 1.0}, weight=weight)
        for row, weight in zip(ordered.iter_rows(named=True), popularity.tolist(), strict=True)
        for text in _asked_for(row["title"], row["text"], random)
    ]


def _asked_for(title: str, text: str, random: np.random.Generator) -> list[str]:
    """The ways in which a document is asked for, each once."""
    opening = text[:OPENING]
    sentence = re.split(r"(?<=[.!?])\s", opening, maxsplit=1)[0]
    few = " ".join(_some_words(f"{title} {opening}", FEW_WORDS, random))
    return list(dict.fromkeys(" ".join(each.split()) for each in (title, sentence, few) if each.strip()))


def _some_words(text: str, number: int, random: np.random.Generator) -> list[str]:
    """`number` random words of a text, or all, in their order."""
    distinct = list(dict.fromkeys(words(text)))
    return [distinct[at] for at in sorted(random.choice(len(distinct), min(number, len(distinct)), replace=False))]


def clicked(wish: Wish, shown: Sequence[str], random: np.random.Generator) -> list[int]:
    """The positions that are clicked among the documents shown, 1 for the first."""
    examined = 1.0 / np.arange(1, len(shown) + 1) ** ETA
    if wish.trending in shown:
        place = shown.index(wish.trending)
        examined[place] = max(examined[place], TREND_EXAMINED)
    attractive = NOISE + (1 - NOISE) * np.array([wish.answers.get(doc_id, 0.0) for doc_id in shown])
    return [int(place) + 1 for place in np.flatnonzero(random.random(len(shown)) < examined * attractive)]


def plan(sessions: range, seed: int, usual: Sequence[Wish], trending: Sequence[Wish] = ()) -> list[Visit]:
    """The visits with these numbers; each draws from a seed of its own, so one more visit changes no other.

    Where something is in the news, most of them are about it.
    """
    visits = []
    for number in sessions:
        random = np.random.default_rng([seed, number])
        pool = trending if trending and random.random() < TREND_SHARE else usual
        count = min(int(random.integers(1, MOST_SEARCHES + 1)), len(pool))
        chosen = random.choice(len(pool), count, replace=False, p=_shares(pool))
        visits.append(Visit([pool[at] for at in chosen], random))
    return visits


def _shares(pool: Sequence[Wish]) -> np.ndarray | None:
    """How likely each wish is; None where all are alike."""
    weights = np.array([wish.weight for wish in pool])
    return weights / weights.sum() if len(pool) and np.ptp(weights) else None


def worth(wish: Wish, shown: Sequence[str]) -> float:
    """nDCG@10 of the documents shown, by what would please the one who asked."""
    ideal = sorted(wish.answers.values(), reverse=True)[:CUTOFF]
    gained = [wish.answers.get(doc_id, 0.0) for doc_id in shown[:CUTOFF]]
    return _discounted(gained) / _discounted(ideal)


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains, start=1)))


def choose_trends(pages: Sequence[tuple[Wish, Sequence[str]]], number: int, seed: int) -> list[Wish]:
    """Choose documents to be in the news, and the wishes of people who will ask for them.

    `pages` holds wishes with the documents that they are shown today. A document trends for some of the queries that
    show it at a rank within `TREND_STARTS`. No query has two trending documents.

    Raises:
        ValueError: when fewer than `number` documents can trend.
    """
    random = np.random.default_rng(seed)
    finders: dict[str, list[Wish]] = defaultdict(list)
    first, last = TREND_STARTS
    for wish, doc_ids in pages:
        for doc_id in doc_ids[first - 1 : last]:
            finders[doc_id].append(wish)
    trends: dict[str, list[Wish]] = {}
    used_texts: set[str] = set()
    order = random.permutation(sorted(finders)).tolist()
    for enough in range(max(1, min(TREND_QUERIES, len(pages) // number)), 0, -1):
        for doc_id in order:
            free = [wish for wish in finders[doc_id] if wish.text not in used_texts]
            if len(trends) < number and doc_id not in trends and len(free) >= enough:
                trends[doc_id] = [free[at] for at in random.choice(len(free), enough, replace=False)]
                used_texts |= {wish.text for wish in trends[doc_id]}
    if len(trends) < number:
        raise ValueError(
            f"Expected {number} documents to trend, found {len(trends)} that stand between {first} and {last} for any "
            f"of {len(pages)} queries. Ask for fewer (TREND={len(trends)}), or let more people come first (SESSIONS)."
        )
    return [replace(wish, answers={doc_id: 1.0}, trending=doc_id) for doc_id in trends for wish in trends[doc_id]]


def choose_topic(documents: pl.DataFrame, name: str | None, seed: int) -> Topic:
    """The topic of this name, or one by the seed: a source where there are several, else a word of titles.

    Raises:
        ValueError: when nothing is about it.
    """
    random = np.random.default_rng(seed)
    sources = sorted(documents["source"].unique())
    titles = [set(words(title or text)) for title, text in documents.select("title", "text").iter_rows()]
    if name is None and len(sources) > 1:
        name = str(random.choice(sources))
    elif name is None:
        name = str(random.choice(_topic_words(titles)))
    if name in sources:
        return Topic(name, documents.filter(pl.col("source") == name))
    about = documents.filter(pl.Series([name.lower() in title for title in titles], dtype=pl.Boolean))
    if about.is_empty():
        raise ValueError(f"No document is about {name!r}: name a word of a title, or a source ({', '.join(sources)}).")
    return Topic(name, about)


def _topic_words(titles: Sequence[set[str]]) -> list[str]:
    counts = Counter(word for title in titles for word in title)
    least, most = (share * len(titles) for share in TOPIC_SHARES)
    fit = sorted(word for word, count in counts.items() if least <= count <= most and len(word) >= TOPIC_WORD_LENGTH)
    if not fit:
        raise ValueError("No word stands in few but not too few titles, so none makes a topic: name one, DRIFT=<word>.")
    return fit


def topic_wishes(topic: Topic, seed: int) -> list[Wish]:
    """For each document of the topic a wish of somebody who types words of its title and its first lines."""
    random = np.random.default_rng(seed)
    wishes = []
    for row in topic.documents.sort("doc_id").iter_rows(named=True):
        if sample := _some_words(f"{row['title']} {row['text'][:OPENING]}", TOPIC_WORDS, random):
            wishes.append(Wish(" ".join(sample), {row["doc_id"]: 1.0}))
    return wishes


def apart_from(topic: Topic, wishes: Sequence[Wish]) -> list[Wish]:
    """The wishes that neither name the topic nor are answered by a document of it.

    Raises:
        ValueError: when there are none.
    """
    inside = set(topic.documents["doc_id"])
    apart = [wish for wish in wishes if topic.name.lower() not in words(wish.text) and not inside & set(wish.answers)]
    if not apart:
        raise ValueError(f"Every training query is about {topic.name!r}: nothing could be asked before the drift.")
    return apart


def words(text: str) -> list[str]:
    """The words of a text, in lower case; those of fewer than three letters are left out."""
    return re.findall(r"[^\W\d_]{3,}", text.lower())
