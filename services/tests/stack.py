"""A small real stack for the services' tests: real snapshots, releases and servers; the models are tiny.

The models follow the families' contract (load a folder, search, rank), so these tests need no family's environment.
"""

import json
import random
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
import numpy as np
import uvicorn

from services import connections, web
from services.connections import CalmServer
from services.prediction.app import create_app as prediction_app
from services.prediction.app import holder_of
from services.prediction.front import FrontServer
from shared_ops.data import tables
from shared_ops.data.snapshots import SnapshotRef, Snapshots
from shared_ops.data.tables import Hits
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import FORMAT_VERSION, ReleaseManifest, Staging
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import Settings, families

SEARCHING = ("keyword", "semantic", "behavior")
DOCUMENTS = {
    "fft": ("Fast Fourier transform", "Compute the one-dimensional discrete Fourier transform of a signal."),
    "mean": ("Arithmetic mean", "Compute the arithmetic mean of an array along an axis."),
    "median": ("Median", "Compute the median of an array along an axis."),
    "sort": ("Sort", "Return a sorted copy of an array."),
    "window": ("Windows", "A window function tapers a signal before a Fourier transform."),
}
# Follows at once, and forgives a machine that is busy with other tests.
QUICK = {
    "poll_seconds": 0.03, "retry_seconds": 0.2, "model_timeout_ms": 2000, "ship_seconds": 0.05, "cache_seconds": 0,
}  # fmt: skip
QUERIES = ["fourier transform of a signal", "median of an array", "average along an axis"]

Seen = TypeVar("Seen")
Load = Callable[[str, Path], Any]
"""Gives the model of a family that lies in a folder."""


class TinySearch:
    """Documents by the number of words they share with the query."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def search(self, texts: Sequence[str], k: int) -> list[Hits]:
        time.sleep(self.content.get("seconds", 0))
        if "crash" in self.content and self.content["crash"] in texts[0]:
            raise RuntimeError("the model broke")
        return [self._hits(text)[:k] for text in texts]

    def _hits(self, text: str) -> Hits:
        if "hits" in self.content:
            return [(doc_id, float(score)) for doc_id, score in self.content["hits"]]
        words = _words(text)
        scores = {doc_id: float(len(words & _words(each))) for doc_id, each in self.content["texts"].items()}
        return sorted(((d, s) for d, s in scores.items() if s), key=lambda hit: (-hit[1], hit[0]))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class TinyRanker:
    """The union in the reverse order of ids: an order that no fusion would make."""

    families = SEARCHING

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def rank(self, text: str, hits: Mapping[str, Hits]) -> Hits:
        time.sleep(self.content.get("seconds", 0))
        union = {doc_id for family_hits in hits.values() for doc_id, _ in family_hits}
        kept = sorted(union, reverse=True)[: self.content.get("keeps")]
        return [(doc_id, 1 / rank) for rank, doc_id in enumerate(kept, start=1)]


class TinyEncoder(TinySearch):
    """Has a vector for a text: its length, and its number of words."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text), len(text.split())] for text in texts], np.float32)


class TinyExplainer(TinyRanker):
    """Ranks by features: the first letter's number, how many found it, and one that is never known."""

    def explain(self, text: str, hits: Mapping[str, Hits], n: int) -> tuple[Hits, np.ndarray]:
        order = self.rank(text, hits)
        return order, np.array([self.features(doc_id, hits) for doc_id, _ in order[:n]], np.float32).reshape(-1, 3)

    @staticmethod
    def features(doc_id: str, hits: Mapping[str, Hits]) -> tuple[float, int, float]:
        return ord(doc_id[0]) / 3, sum(doc_id in dict(family_hits) for family_hits in hits.values()), float("nan")


def load_tiny(family: str, folder: Path) -> TinySearch | TinyRanker:
    content = json.loads((folder / "model.json").read_text())
    if families()[family].role == "rank":
        return (TinyExplainer if content.get("explains") else TinyRanker)(content)
    return (TinyEncoder if content.get("embeds") else TinySearch)(content)


def until(condition: Callable[[], Seen | Literal[False]], seconds: float = 10.0) -> Seen:
    """Wait until `condition()` is true, and return what it gave."""
    deadline = time.monotonic() + seconds  # by hand: the services' environment has no tenacity
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"It did not come true within {seconds} s.")


def free_base() -> int:
    """A port base whose services' ports are all free."""
    while True:
        base = random.randint(20_000, 60_000)
        try:
            for offset in (0, 21, 22, 23, 24):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", base + offset))
            return base
        except OSError:
            continue


class ServingStack:
    """A staging area, snapshots, and the services that the test starts."""

    # What a fixture that makes one may leave here for its tests.
    snapshot_ref: SnapshotRef
    first: LiveSet
    live_set: LiveSet

    def __init__(self, home: Path, **settings: Any) -> None:
        self.settings = Settings(home=home, port_base=free_base(), **{"postgres_url": None, **QUICK, **settings})
        self.staging = Staging(self.settings.staging_url("prod"))
        self.sets = LiveSets(self.staging.url)
        self.client = httpx.Client(trust_env=False, timeout=10)
        self._scratch = home / "scratch"
        self._servers: dict[str, tuple[CalmServer, threading.Thread]] = {}

    # What the trainings would make.

    def snapshot(
        self,
        documents: Mapping[str, tuple[str, str]] = DOCUMENTS,
        urls: Mapping[str, str] | None = None,
        queries: Sequence[str] = QUERIES,
    ) -> SnapshotRef:
        rows = [
            {"doc_id": d, "source": "test", "title": title, "text": text, "url": (urls or {}).get(d), "metadata": "{}"}
            for d, (title, text) in documents.items()
        ]
        asked = [
            {"query_id": f"q{n}", "text": text, "split": "test", "source": "test"} for n, text in enumerate(queries)
        ]
        content = {
            "documents": tables.make("documents", rows),
            "queries": tables.make("queries", asked),
            "qrels": tables.empty("qrels"),
            "slices": tables.empty("slices"),
        }
        return Snapshots(self.settings.snapshots_url("prod")).publish(content)

    def release(
        self,
        family: str,
        version: str,
        snapshot: SnapshotRef,
        format_version: int = FORMAT_VERSION,
        folder: Path | None = None,
        code: str = "",
        **content: Any,
    ) -> str:
        """Publish a tiny model that does what `content` says, or the real one in `folder`, made with some `code`."""
        folder = folder or self._tiny(family, version, content)
        manifest = ReleaseManifest(
            format_version=format_version,
            family=family,
            version=version,
            created_at=datetime.now(UTC),
            snapshot=snapshot,
            parameters={},
            hyperparameters={},
            metrics={},
            gate={"accepted": True},
            environment="",
            code=code,
            code_version="",
            deployment="prod",
            run_id="test",
        )
        if format_version > FORMAT_VERSION:
            place = self.release_folder(family, version)
            place.mkdir(parents=True)
            (place / "manifest.json").write_text(manifest.model_dump_json())
        else:
            self.staging.publish(folder, manifest)
        return version

    def _tiny(self, family: str, version: str, content: dict[str, Any]) -> Path:
        folder = self._scratch / family / version
        folder.mkdir(parents=True)
        texts = {doc_id: text for doc_id, (_, text) in DOCUMENTS.items()}
        (folder / "model.json").write_text(json.dumps({"texts": texts, **content}))
        return folder

    def release_folder(self, family: str, version: str) -> Path:
        return self.settings.home / "staging" / "prod" / family / "releases" / version

    def propose(self, snapshot: SnapshotRef, **releases: str) -> LiveSet:
        return self.sets.propose(releases, snapshot, note="a test's")

    def go_live(self, snapshot: SnapshotRef, **releases: str) -> LiveSet:
        chosen = self.propose(snapshot, **releases)
        self.sets.go_live(chosen)
        return chosen

    # The services.

    def start(self, name: str, load: Load = load_tiny, code: str = "") -> None:
        """Start the search app, or a family's worker of some `code`: that is then called `<name> <code>`."""
        server = self._server(name, load, code)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started)
        self._servers[f"{name} {code}".strip()] = server, thread

    def _server(self, name: str, load: Load, code: str) -> CalmServer:
        port = self.settings.ports[name]
        if name != "search":
            runtime = Runtime(name, code, "")
            holder = holder_of(name, self.settings, runtime, load)
            socket_file = runtime.socket(self.settings)
            socket_file.parent.mkdir(parents=True, exist_ok=True)
            config = uvicorn.Config(
                prediction_app(name, self.settings, holder, runtime), uds=str(socket_file), **web.SERVER
            )
            return FrontServer(config, holder.leads, "127.0.0.1", port)
        # Only envs/search can import it; the prediction service's tests run in any family's environment.
        from services.search.app import create_app

        return connections.CalmServer(uvicorn.Config(create_app(self.settings), "127.0.0.1", port, **web.SERVER))

    def stop(self, name: str) -> None:
        server, thread = self._servers.pop(name)
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), f"{name} did not end"

    def get(self, name: str, path: str, **parameters: int | str) -> httpx.Response:
        return self.client.get(self.settings.url(name) + path, params=parameters)

    def answers(self, name: str, path: str) -> bool:
        """Whether the service answers 200 here; another process may not listen yet."""
        try:
            return self.get(name, path).status_code == 200
        except httpx.TransportError:
            return False

    def post(self, name: str, path: str, **body: Any) -> httpx.Response:
        return self.client.post(self.settings.url(name) + path, json=body)

    def state(self, name: str, live_set: LiveSet) -> dict[str, Any]:
        state: dict[str, Any] = self.get(name, f"/sets/{live_set.number}").json()
        return state

    def settled(self, name: str, live_set: LiveSet) -> dict[str, Any]:
        """The state of a set once it is neither unknown nor loading."""
        return until(lambda: (state := self.state(name, live_set))["state"] in ("ready", "failed") and state)

    def until_live(self, name: str, live_set: LiveSet) -> None:
        until(lambda: self.get(name, "/health").json()["live_set"] == live_set.number)

    def close(self) -> None:
        for server, _ in self._servers.values():
            server.should_exit = True  # all at once: each looks twice a second
        for name in list(self._servers):
            self.stop(name)
        self.client.close()
        shutil.rmtree(self.settings.sockets, ignore_errors=True)  # it may lie in the temporary folder


@contextmanager
def stack(home: Path, **settings: Any) -> Iterator[ServingStack]:
    made = ServingStack(home, **settings)
    try:
        yield made
    finally:
        made.close()
