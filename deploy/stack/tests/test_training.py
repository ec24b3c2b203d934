"""The order of training."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Never

import pytest

from deploy.stack.dagit import training
from deploy.stack.dagit.client import Dagit, EndedRun, Event, RunInFlight, RunPage
from shared_ops.data import storage
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.refused import RefusedCode
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import Repository, Settings, repositories
from tests.lists import list_another_ranker


def test_data_first_then_the_searches_side_by_side_then_the_ranker() -> None:
    assert training.waves() == [["corpus"], ["keyword", "semantic", "behavior"], ["ranker"]]


def with_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the list end with a repository that gives a source, as one that was added does."""
    wiki = Repository(owner="@org/wiki", environment="wiki", role="source", queue="wiki", port=400)
    here = repositories() | {"wiki": wiki}
    for module in ("deploy.stack.dagit.training", "shared_ops.settings"):
        monkeypatch.setattr(f"{module}.repositories", lambda: here)


def test_sources_come_before_the_data_that_is_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_source(monkeypatch)
    assert training.waves()[:3] == [["wiki"], ["corpus"], ["keyword", "semantic", "behavior"]]


@pytest.mark.parametrize("fault", ["fails", "does not load"])
def test_a_source_that_gives_nothing_new_holds_back_nobody_and_is_told(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    with_a_source(monkeypatch)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    looks = dagit(wiki=[page("FAILURE", will_retry="false")], corpus=[page("SUCCESS")], keyword=[page("SUCCESS")])
    looks.launch = lambda location, *_, **__: location
    looks.broken = {"wiki": "SyntaxError"} if fault == "does not load" else {}
    said: list[str] = []
    with pytest.raises(training.TrainingError, match=r"^wiki") as told:
        training.train(Settings(), looks, ["keyword", "corpus", "wiki"], said.append)
    assert said[-1].endswith("keyword_prod ended: SUCCESS") and "corpus" not in str(told.value)


def test_a_search_family_alone_ends_with_what_follows_until_it_is_live(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings, said = Settings(home=tmp_path), list[str]()
    url = settings.staging_url("prod")
    storage.write_json(storage.join(url, "keyword", "accepted.json"), {"version": "k2"})

    def train(settings: Settings, names: list[str]) -> str:
        looks = dagit(first=[page("SUCCESS")])
        training.train(settings, looks, names, said.append)
        return said[-1]

    monkeypatch.setattr(time, "sleep", lambda _: None)
    told = train(settings, ["keyword"])
    assert told.startswith("keyword   k2 is accepted and not live yet. What follows by itself: the ranker learns")
    assert train(settings.model_copy(update={"repos": "corpus keyword"}), ["keyword"]).endswith("ended: SUCCESS")
    assert train(settings, ["semantic"]).endswith("ended: SUCCESS")
    sets = LiveSets(url)
    sets.go_live(sets.propose({"keyword": "k2", "ranker": "r1"}, SnapshotRef(id="s", url="file:///s"), "a ranker's"))
    assert train(settings, ["keyword"]).endswith("ended: SUCCESS")


def test_a_part_of_a_stack_trains_what_it_runs() -> None:
    assert training.waves(None, Settings(repos="keyword corpus live").runs) == [["corpus"], ["keyword"]]


def test_one_repository_trains_alone() -> None:
    assert training.waves(["semantic"]) == [["semantic"]]


class Looks:
    """What `dagit` makes."""

    url = "http://127.0.0.1:9"

    def __init__(self, **looks: list[RunPage]) -> None:
        self.looks = {name: list(pages) for name, pages in looks.items()}

    running = ()

    def in_flight(self) -> Sequence[RunInFlight]:
        return self.running

    def launch(self, location: str, job: str, run_config: object = None, because: str | None = None) -> str:
        self.why = because
        return "first"

    def ended_runs(self, since: float) -> Sequence[EndedRun]:
        return self.over

    def load_errors(self) -> dict[str, str]:
        return self.broken

    broken: ClassVar[dict[str, str]] = {}

    over = ()

    def run(self, run_id: str, after: str | None) -> RunPage:
        pages = self.looks[run_id]
        return pages.pop(0) if len(pages) > 1 else pages[0]


def dagit(**looks: list[RunPage]) -> Any:
    """Dagit, as it answers one look after the other at runs that a busy machine loses."""
    return Looks(**looks)


def page(status: str, *events: Event, **tags: str) -> RunPage:
    return RunPage(status, {f"dagster/{name}": value for name, value in tags.items()}, list(events), None)


LOST = Event("RunFailureEvent", "Run timed out due to taking longer than 45 seconds to start.", "ERROR", None, None)
SAID_LATE = [page("STARTING"), page("FAILURE", LOST), page("FAILURE"), page("FAILURE", will_retry="true")]


def trained(monkeypatch: pytest.MonkeyPatch, looks: Any) -> list[str]:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    said: list[str] = []
    training.train(Settings(), looks, ["keyword"], said.append)
    return said


@pytest.mark.parametrize("force", [False, True])
def test_a_run_says_why_it_was_started(monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    looks = dagit(first=[page("SUCCESS")])
    training.train(Settings(), looks, ["keyword"], lambda _: None, force, "make train by ada")
    assert looks.why == "make train by ada"


def test_a_lost_run_is_followed_into_its_next_try_however_late_dagster_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [*SAID_LATE, page("FAILURE", will_retry="true", auto_retry_run_id="second")]
    said = trained(monkeypatch, dagit(first=first, second=[page("SUCCESS")]))
    assert any("Dagster tries again" in line for line in said) and "ended: SUCCESS" in said[-1]


def test_every_try_is_followed_and_the_last_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [*SAID_LATE, page("FAILURE", will_retry="true", auto_retry_run_id="second")]
    second = [page("FAILURE", LOST), page("FAILURE"), page("FAILURE", will_retry="false")]
    with pytest.raises(training.TrainingError, match="keyword_prod ended with FAILURE: Run timed out"):
        trained(monkeypatch, dagit(first=first, second=second))


def test_a_try_that_never_comes_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "AWAY_SECONDS", 0)
    with pytest.raises(training.TrainingError, match="ended with FAILURE"):
        trained(monkeypatch, dagit(first=SAID_LATE))


def test_a_run_that_was_cancelled_is_told_in_a_sentence_and_not_in_dagster_s_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted = "dagster._core.errors.DagsterExecutionInterruptedError"
    cut_short = Event("ExecutionStepFailureEvent", "Execution of step failed", "ERROR", "train", interrupted)
    said: list[str] = []
    with pytest.raises(training.TrainingError) as told:
        monkeypatch.setattr(time, "sleep", lambda _: None)
        looks = dagit(first=[page("CANCELING", cut_short), page("CANCELED")])
        training.train(Settings(), looks, ["keyword"], said.append)
    assert said[1:] == [said[-1]] and said[-1].endswith("keyword_prod ended: CANCELED")
    assert str(told.value).startswith("keyword_prod was cancelled, by make down or in Dagit: make up")


@pytest.mark.parametrize("verdict", ["accepted", "rejected"])
def test_the_last_line_of_a_run_says_what_its_gate_said(monkeypatch: pytest.MonkeyPatch, verdict: str) -> None:
    ended = RunPage("SUCCESS", {"searchloop/verdict": verdict}, [], None)
    assert trained(monkeypatch, dagit(first=[ended]))[-1].endswith(f"keyword_prod ended: SUCCESS, {verdict}")


def test_a_run_that_waits_for_one_that_a_trigger_has_started_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = dagit(first=[page("QUEUED"), page("QUEUED"), page("SUCCESS")])
    others = [RunInFlight("other", "semantic_prod", "STARTED"), RunInFlight("earlier", "keyword_prod", "STARTED")]
    launched: Callable[..., str] = looks.launch

    def launch(*names: str, **_: object) -> str:
        looks.running = others
        return launched(*names)

    looks.launch = launch
    (said,) = (line for line in trained(monkeypatch, looks) if "waiting" in line)
    assert "waiting for run earlier, which goes first: http://127.0.0.1:9/runs/earlier" in said


def test_nobody_waits_for_the_dagit_of_a_stack_that_has_ended() -> None:
    def ended() -> Never:
        raise RuntimeError("The stack is not running: make up")

    with pytest.raises(RuntimeError, match="not running: make up"):
        training.train(Settings(), Dagit("http://127.0.0.1:9", ended), ["keyword"], print)


def test_after_the_ranker_its_promotion_is_followed_a_trigger_s_or_one_of_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    due = [None, None, "Set 1 holds the accepted ranker."]
    monkeypatch.setattr(training, "promotion_obstacles", lambda *_: {"ranker": due.pop(0) if len(due) > 1 else due[0]})
    for trigger_seconds, others in ((30, [RunInFlight("theirs", "promotion_prod", "STARTED")]), (-1, [])):
        due[:] = [None, None]
        monkeypatch.setattr(training, "TRIGGER_SECONDS", trigger_seconds)
        looks = dagit(first=[page("SUCCESS")], theirs=[page("SUCCESS")])
        looks.running = others
        said: list[str] = []
        monkeypatch.setattr(time, "sleep", lambda _: None)
        training.train(Settings(), looks, ["ranker"], said.append)
        assert "ranker_prod ended: SUCCESS" in said[1] and "promotion_prod ended: SUCCESS" in said[-1]
        assert said[-1].startswith("promotion ")
        assert any("run theirs" in line for line in said) == bool(others)


def test_a_promotion_that_ended_before_anyone_looked_is_told_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "promotion_obstacles", lambda *_: {"ranker": "Set 1 holds the accepted ranker."})
    monkeypatch.setattr(time, "sleep", lambda _: None)
    said_nothing_was_judged = Event("LogMessageEvent", "Accepted: nothing was judged.", "INFO", "gate", None)
    looks = dagit(first=[page("SUCCESS")], theirs=[page("SUCCESS", said_nothing_was_judged), page("SUCCESS")])
    looks.over = [
        EndedRun("ranker", "ranker_prod", "SUCCESS", 9.0),
        EndedRun("theirs", "promotion_prod", "SUCCESS", 2.0),
        EndedRun("earlier", "promotion_prod", "SUCCESS", 2.0),
    ]
    said: list[str] = []
    training.train(Settings(), looks, ["ranker"], said.append)
    assert any("gate: Accepted: nothing was judged." in line for line in said)
    assert said[-1].startswith("promotion ") and "promotion_prod ended: SUCCESS" in said[-1]
    assert not any("run earlier" in line for line in said)


def test_code_that_does_not_load_is_told_and_leaves_the_others_trainings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Staging, "accepted", lambda *_: None)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    looks = dagit(keyword=[page("SUCCESS")])
    looks.broken, looks.launch = {"behavior": "SyntaxError: '(' was never closed"}, lambda location, *_, **__: location
    said: list[str] = []
    with pytest.raises(training.TrainingError, match=r"does not load: SyntaxError.*\n.*make code-server REPO=behavior"):
        training.train(Settings(), looks, ["keyword", "behavior", "ranker"], said.append)
    assert any("keyword_prod ended: SUCCESS" in line for line in said)


def test_code_that_was_not_taken_is_told_and_no_run_is_started_from_its_files(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    said: list[str] = []
    refused = RefusedCode(location="behavior", at=datetime.now(UTC), place="repos/behavior/ops.py:3", message="no x")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "behavior.json").write_text(refused.model_dump_json())
    expected = "behavior is not trained, its code does not load: repos/behavior/ops.py:3: no x\n"
    expected += "  Mend it, then: make code-server REPO=behavior (while make dev runs, a save is enough)"
    with pytest.raises(training.TrainingError) as told:
        training.train(settings, dagit(), ["behavior"], said.append)
    assert str(told.value) == expected and said == []


def failure(cause: str) -> list[RunPage]:
    """A run that has failed and is not tried again, as it is told look after look."""
    return [page("FAILURE", Event("RunFailureEvent", cause, "ERROR", None, None)), page("FAILURE", will_retry="false")]


@pytest.mark.parametrize("accepted", ["v1", None])
def test_a_search_that_fails_leaves_the_ranker_to_what_was_accepted_before(
    monkeypatch: pytest.MonkeyPatch, accepted: str | None
) -> None:
    monkeypatch.setattr(training, "promotion_obstacles", lambda *_: {"ranker": "Set 1 holds the accepted ranker."})
    monkeypatch.setattr(Staging, "accepted", lambda *_: accepted)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    looks = dagit(keyword=failure("no memory"), ranker=[page("SUCCESS")])
    looks.launch = lambda location, *_, **__: location
    said: list[str] = []
    with pytest.raises(training.TrainingError, match=r"^keyword_prod ended with FAILURE: no memory"):
        training.train(Settings(), looks, ["keyword", "ranker"], said.append)
    assert any("ranker_prod ended: SUCCESS" in line for line in said) == bool(accepted)


def test_in_dev_the_dev_jobs_are_launched_and_nothing_is_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    looks, launched = dagit(first=[page("QUEUED"), page("SUCCESS")]), list[str]()

    def launch(location: str, job: str, *_: object, **__: object) -> str:
        launched.append(job)
        looks.running = [RunInFlight("nightly", f"{location}_prod", "STARTED")]
        return "first"

    looks.launch = launch
    said: list[str] = []
    training.train(Settings(), looks, ["keyword", "ranker"], said.append, deployment="dev")
    assert launched == ["keyword_dev", "ranker_dev"]
    assert any("waiting for run nightly, which goes first" in line for line in said)
    assert said[-1].endswith("ranker_dev ended: SUCCESS")


def test_nothing_is_trained_where_the_data_could_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    looks = dagit(corpus=failure("no disk"))
    launched: list[str] = []

    def launch(location: str, *_: object, **__: object) -> str:
        launched.append(location)
        return location

    looks.launch = launch
    with pytest.raises(training.TrainingError, match="no disk"):
        training.train(Settings(), looks, None, lambda _: None)
    assert launched == ["corpus"]


def test_it_is_said_why_a_ranker_is_not_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    obstacles = {"ranker": "ranker/r1 was decided upon: worse end to end"}
    monkeypatch.setattr(training, "promotion_obstacles", lambda *_: obstacles)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    said: list[str] = []
    training.train(Settings(), dagit(first=[page("SUCCESS")]), ["ranker"], said.append)
    told = "promotion nothing to do: ranker/r1 was decided upon: worse end to end"
    assert [line for line in said if "promotion" in line] == [told]


def test_the_promotion_of_each_ranker_that_was_trained_is_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    another = list_another_ranker(monkeypatch, tmp_path)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(training, "TRIGGER_SECONDS", 0)
    looks, launched = dagit(ranker=[page("SUCCESS")], another=[page("SUCCESS")], live=[page("SUCCESS")]), list[str]()
    monkeypatch.setattr(training, "promotion_obstacles", lambda *_: dict(zip("ab", waiting(launched), strict=True)))

    def launch(location: str, *_: object, **__: object) -> str:
        launched.append(location)
        return location

    looks.launch = launch
    training.train(Settings(), looks, ["ranker", another], lambda _: None)
    assert launched == ["ranker", another, "live", "live"]


def waiting(launched: Sequence[str]) -> list[str | None]:
    """Why neither of two rankers is to be promoted: each promotion that was launched has decided upon one."""
    return [None if launched.count("live") <= number else "decided upon" for number in range(2)]
