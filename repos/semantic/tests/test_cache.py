import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from repos.semantic.cache import CacheError, VectorCache, embed
from repos.semantic.encoder import Encoder
from repos.semantic.model import Parameters
from repos.semantic.task import Task
from repos.semantic.tests.conftest import Tables

INPUTS = [[101, number, 102] for number in range(50)]
VECTORS = np.arange(200, dtype=np.float16).reshape(50, 4)
WRITER = """
import sys, numpy as np
from pathlib import Path
from repos.semantic.cache import VectorCache
cache = VectorCache(Path(sys.argv[1]), "test", 4)
print("ready", flush=True)
for first in range(0, 40000, 100):
    rows = range(first, first + 100)
    cache.put([[101, row, int(sys.argv[2])] for row in rows], np.array([[row] * 4 for row in rows], np.float16))
"""


def write_in_a_process(folder: Path, mark: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(mark)], stdout=subprocess.PIPE)


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    VectorCache(tmp_path, "test", 4).put(INPUTS[:30], VECTORS[:30])
    vectors, cached = VectorCache(tmp_path, "test", 4).get(INPUTS)
    assert cached.tolist() == [True] * 30 + [False] * 20
    assert np.array_equal(vectors[:30], VECTORS[:30])


def test_another_encoding_finds_nothing(tmp_path: Path) -> None:
    VectorCache(tmp_path, "one encoder", 4).put(INPUTS, VECTORS)
    assert not VectorCache(tmp_path, "another", 4).get(INPUTS)[1].any()


def test_only_what_is_missing_is_encoded(tmp_path: Path) -> None:
    encoded: list[list[int]] = []

    def encode(inputs: Sequence[list[int]]) -> np.ndarray:
        encoded.extend(inputs)
        return np.array([VECTORS[tokens[1]] for tokens in inputs], np.float32)

    cache = VectorCache(tmp_path, "test", 4)
    embed(INPUTS[:20], encode, 4, cache, lambda line: None)
    vectors = embed(INPUTS, encode, 4, cache, lambda line: None)
    assert encoded == INPUTS
    assert np.array_equal(vectors, VECTORS)


@pytest.mark.slow
def test_two_writers_at_once_both_succeed(tmp_path: Path) -> None:
    with write_in_a_process(tmp_path, 1) as one, write_in_a_process(tmp_path, 2) as other:
        assert one.wait(60) == other.wait(60) == 0
    cache = VectorCache(tmp_path, "test", 4)
    assert all(cache.get([[101, row, mark] for row in range(40000)])[1].all() for mark in (1, 2))


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    with write_in_a_process(tmp_path, 1) as writer:
        writer.stdout.readline()
        cache = VectorCache(tmp_path, "test", 4)
        while not cache.get([[101, 0, 1]])[1][0]:
            time.sleep(0.01)
        os.kill(writer.pid, signal.SIGKILL)
    vectors, cached = cache.get([[101, row, 1] for row in range(40000)])
    assert cached.reshape(-1, 100).all(axis=1).sum() * 100 == cached.sum() > 0
    assert np.array_equal(vectors[cached][:, 0], np.arange(40000, dtype=np.float16)[cached])
    cache.put(INPUTS, VECTORS)


def test_a_broken_file_says_what_to_do(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path, "test", 4)
    cache.put(INPUTS, VECTORS)
    for path in tmp_path.iterdir():
        path.write_bytes(b"not a database" * 1000)
    with pytest.raises(CacheError, match="delete it"):
        VectorCache(tmp_path, "test", 4)


@pytest.mark.slow
def test_vectors_that_other_code_encoded_are_not_taken(
    tables: Tables, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    documents = tables[0].head(2)
    task = Task.of(documents, *tables[1:], encoder, Parameters(passage_tokens=32), tmp_path, logged.append)
    task.encode(encoder)
    task.encode(encoder)
    monkeypatch.setattr("repos.semantic.task.getsource", lambda module: "other code")
    task.encode(encoder)
    count = len(task.passages.inputs)
    taken = [line for line in logged if "come from the cache" in line]
    assert taken == [f"{each} of {count} passages come from the cache" for each in (0, count, 0)]
