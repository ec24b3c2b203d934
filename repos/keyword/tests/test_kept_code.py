"""A release answers by the code that made it, whatever the checkout has become since."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pytest

from repos.keyword.model import Parameters, train
from repos.keyword.ops import opened
from shared_ops.data import tables
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.judge.answering import AnsweringError, ReleaseProcess, answering
from shared_ops.release import codes, runtimes
from shared_ops.release.inputs import Inputs
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.settings import current

MODEL = "repos/keyword/model.py"
SCORES = "score_row[:count].tolist()"
QUERY = ("q1", "median of an array")
SNAPSHOT = SnapshotRef(id="s", url="file:///s")
INPUTS = Inputs(family="keyword", snapshot=SNAPSHOT)


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    return Staging(current().staging_url("prod"))


def released(staging: Staging, folder: Path, version: str, old: str = "", new: str = "") -> None:
    """A tiny model, released with the code of this checkout in which `old` is `new`."""
    content = codes.tree("keyword")
    assert old.encode() in content[MODEL]
    changed = content | {MODEL: content[MODEL].replace(old.encode(), new.encode())} if old else content
    runtime = runtimes.keep("keyword", changed, current())
    rows = [
        {"doc_id": d, "source": "t", "title": d, "text": f"The {d} of an array.", "url": None, "metadata": "{}"}
        for d in ("mean", "median", "sum")
    ]
    documents = tables.make("documents", rows)
    train(documents, tables.empty("queries"), tables.empty("qrels"), Parameters(trials=0)).model.save(folder)
    manifest = ReleaseManifest(
        family="keyword", version=version, created_at=datetime.now(UTC), snapshot=SNAPSHOT, parameters={},
        hyperparameters={}, metrics={}, gate={}, environment=runtime.environment, code=runtime.code, code_version="",
        deployment="prod", run_id="r",
    )  # fmt: skip
    staging.publish(folder, manifest)


def test_a_release_of_this_code_answers_in_this_process(staging: Staging, tmp_path: Path) -> None:
    released(staging, tmp_path / "a", "v1")
    with answering(staging, INPUTS, "v1", opened) as answers:
        assert not isinstance(answers, ReleaseProcess)


@pytest.mark.slow
def test_a_release_of_other_code_answers_by_that(staging: Staging, tmp_path: Path) -> None:
    released(staging, tmp_path / "a", "v1")
    released(staging, tmp_path / "b", "v2", SCORES, f"(1000 * {SCORES.removesuffix('.tolist()')}).tolist()")
    asked = pl.DataFrame([QUERY], schema=["query_id", "text"], orient="row")
    with answering(staging, INPUTS, "v1", opened) as ours, answering(staging, INPUTS, "v2", opened) as theirs:
        assert isinstance(theirs, ReleaseProcess)
        expected: list[Any] = [(doc_id, pytest.approx(1000 * score)) for doc_id, score in ours.one(*QUERY)]
        assert theirs.one(*QUERY) == expected and 0 < theirs.seconds(*QUERY) < 1
        assert theirs.many(asked)["score"].to_list() == pytest.approx([1000 * s for s in ours.many(asked)["score"]])


@pytest.mark.slow
def test_a_release_of_another_format_answers_by_the_code_that_reads_it(staging: Staging, tmp_path: Path) -> None:
    """What this checkout's code cannot load any more is no dead end: it is measured as it was made."""
    released(staging, tmp_path / "a", "v1", "FORMAT = 1", "FORMAT = 1  # the code of before")

    def refuse(*_: object) -> NoReturn:
        raise ValueError("this format is not read any more")

    with answering(staging, INPUTS, "v1", refuse) as answers:
        assert answers.one(*QUERY)


def test_code_that_does_not_run_is_told(staging: Staging, tmp_path: Path) -> None:
    released(staging, tmp_path / "a", "v1", "import ", "import no_such_module\nimport ")
    with (
        pytest.raises(AnsweringError, match=r"keyword/v1 does not answer in the code"),
        answering(staging, INPUTS, "v1", opened) as answers,
    ):
        answers.one(*QUERY)
