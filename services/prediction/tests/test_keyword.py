"""The service as it runs: a process of its own in a family's environment, with that family's real model."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.tests.stack import DOCUMENTS, ServingStack, stack, until
from shared_ops.data import tables
from shared_ops.settings import ROOT, families

pytest.importorskip("Stemmer", reason="runs in envs/keyword")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[ServingStack]:
    with stack(tmp_path) as made:
        yield made


def start(local: ServingStack) -> subprocess.Popen[bytes]:
    variables = {
        **os.environ,
        "SEARCHLOOP_HOME": str(local.settings.home),
        "SEARCHLOOP_PORT_BASE": str(local.settings.port_base),
    }
    command = [sys.executable, "-m", "services.prediction", "keyword"]
    return subprocess.Popen(command, cwd=ROOT, env=variables)


def trained(local: ServingStack, folder: Path) -> None:
    from repos.keyword.model import Parameters, train

    rows = [
        {"doc_id": d, "source": "test", "title": title, "text": text, "url": None, "metadata": "{}"}
        for d, (title, text) in DOCUMENTS.items()
    ]
    documents = tables.make("documents", rows)
    model = train(documents, tables.empty("queries"), tables.empty("qrels"), Parameters(trials=0)).model
    model.save(folder)


@pytest.mark.slow
def test_it_serves_the_staged_model_and_is_back_after_a_kill(local: ServingStack, tmp_path: Path) -> None:
    trained(local, tmp_path / "model")
    snapshot = local.snapshot()
    local.release("keyword", "v1", snapshot, folder=tmp_path / "model")
    live_set = local.go_live(snapshot, keyword="v1")
    for _ in range(2):
        service = start(local)
        try:
            until(lambda: local.answers("keyword", "/health"), seconds=60)
            assert local.state("keyword", live_set)["state"] == "ready"
            answer = local.post("keyword", "/search", release="v1", query="transforming signals", k=2)
            assert set(answer.json()["doc_ids"]) == {"fft", "window"}
        finally:
            service.send_signal(signal.SIGKILL)
            service.wait()


def test_it_names_the_families_that_there_are() -> None:
    command = [sys.executable, "-m", "services.prediction", "corpus"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert all(family in refused.stderr for family in families())
