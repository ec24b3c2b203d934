"""The cache of vectors: what was encoded once is not encoded again.

Knows no TensorFlow. One SQLite file per encoder: a killed writer loses at most the batch that it was writing, and two
writers at once both succeed. It may be deleted at any time.
"""

import sqlite3
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np

STORED = np.float16
"""The type of a stored vector: half the size of float32, and nDCG@10 is the same to four decimals (README)."""
_KEYS_PER_SELECT = 10_000
_INPUTS_PER_PART = 2_048


class CacheError(RuntimeError):
    """A cache file that SQLite cannot use."""


class VectorCache:
    """Vectors by their encoder input, for one encoder."""

    def __init__(self, folder: Path, encoding: str, width: int) -> None:
        """The cache in `folder` of vectors of size `width`. `encoding` names whatever decides a vector besides its
        input: the encoder's weights, the precision, the library's version.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{blake2b(encoding.encode(), digest_size=16).hexdigest()}.sqlite"
        self.width = width
        with self._open() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (input BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                # With WAL, NORMAL gives up no more than this: a power cut may lose the last batches, never the file.
                connection.execute("PRAGMA synchronous = NORMAL")
                yield connection
        except sqlite3.DatabaseError as error:
            raise CacheError(
                f"The cache {self.path} cannot be used ({error}): delete it, it will be made again."
            ) from error

    def get(self, inputs: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """The vectors [inputs, width] float16, and which are in the cache [inputs] bool; the others are zeros."""
        vectors = np.zeros((len(inputs), self.width), STORED)
        cached = np.zeros(len(inputs), bool)
        rows: dict[bytes, list[int]] = {}
        for row, tokens in enumerate(inputs):
            rows.setdefault(_key(tokens), []).append(row)
        keys = list(rows)
        with self._open() as connection:
            for first in range(0, len(keys), _KEYS_PER_SELECT):
                part = keys[first : first + _KEYS_PER_SELECT]
                select = f"SELECT input, vector FROM vectors WHERE input IN ({','.join('?' * len(part))})"
                for key, vector in connection.execute(select, part):
                    vectors[rows[key]] = np.frombuffer(vector, STORED)
                    cached[rows[key]] = True
        return vectors, cached

    def put(self, inputs: Sequence[Sequence[int]], vectors: np.ndarray) -> None:
        """Keep `vectors` [inputs, width] float16. A vector that is there already stays."""
        rows = [(_key(tokens), vector.tobytes()) for tokens, vector in zip(inputs, vectors.astype(STORED), strict=True)]
        with self._open() as connection:
            connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)


def embed(
    inputs: Sequence[list[int]],
    encode: Callable[[Sequence[list[int]]], np.ndarray],
    width: int,
    cache: VectorCache | None,
    log: Callable[[str], None],
) -> np.ndarray:
    """Vectors [inputs, width] float16 of `inputs`: from the cache, or from `encode` where the cache lacks them."""
    vectors, cached = (
        cache.get(inputs) if cache else (np.zeros((len(inputs), width), STORED), np.zeros(len(inputs), bool))
    )
    # Inputs of equal length together, as the encoder wants them; a part at a time, so that a killed run keeps its
    # parts.
    missing = sorted(np.flatnonzero(~cached).tolist(), key=lambda row: len(inputs[row]))
    log(f"{len(inputs) - len(missing)} of {len(inputs)} passages come from the cache")
    for first in range(0, len(missing), _INPUTS_PER_PART):
        rows = missing[first : first + _INPUTS_PER_PART]
        part = [inputs[row] for row in rows]
        vectors[rows] = encode(part).astype(STORED)
        if cache:
            cache.put(part, vectors[rows])
        log(f"Encoded {first + len(rows)} of {len(missing)} passages")
    return vectors


def _key(tokens: Sequence[int]) -> bytes:
    return blake2b(array("i", tokens).tobytes(), digest_size=20).digest()
