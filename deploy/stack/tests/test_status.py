"""What `make status` and `make lineage` say where something is missing."""

from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from deploy.stack import history, status
from deploy.stack.commands.running import _tell_dagit
from deploy.stack.dagit.client import FailedRun, RunInFlight
from deploy.stack.processes import workers
from deploy.stack.processes.listing import environment_variables
from deploy.stack.processes.supervisor import Supervisor
from deploy.stack.search import searching
from deploy.stack.terminal import console
from deploy.stack.tests.test_supervisor import sleeper
from shared_ops.data import storage
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.refused import RefusedCode
from shared_ops.release import overrides
from shared_ops.release.livesets import Decision, LiveSet, LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import Settings, families
from tests.lists import list_another_ranker


@pytest.fixture
def without_ranker(tmp_path: Path) -> Settings:
    """The settings of a home whose live set was made before repos.toml gained its last family."""
    settings = Settings(home=tmp_path, port_base=31_200, postgres_url=None)
    releases = {family: "v1" for family in families() if family != "ranker"}
    snapshot = SnapshotRef(id="s", url=f"file://{tmp_path}/s")
    made = LiveSet(number=1, created_at=datetime.now(UTC), note="first", releases=releases, snapshot=snapshot)
    (tmp_path / "staging" / "prod").mkdir(parents=True)
    (tmp_path / "staging" / "prod" / "live.json").write_text(made.model_dump_json())
    assert LiveSets(settings.staging_url("prod")).live() == made
    return settings


def test_a_location_that_runs_the_code_of_before_is_a_line(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port_base=31_200, postgres_url=None)
    at = datetime(2026, 11, 30, 9, tzinfo=UTC)
    refused = RefusedCode(location="live", at=at, place="repos/live/ops.py:4", message="ImportError: no name x")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "live.json").write_text(refused.model_dump_json())
    (line,) = [line for line in status.lines(settings) if "live runs the code of before" in line]
    assert "of 2026-11-30 09:00 UTC does not load: repos/live/ops.py:4: ImportError: no name x" in line
    assert line.endswith("Mend it, then: make code-server REPO=live (while make dev runs, a save is enough)")


def test_a_failed_job_of_prod_is_a_line_and_what_a_person_tried_is_none() -> None:
    """Nobody has to ask again for a table that could not be answered: the line would stay for ever."""

    class Failed:
        def load_errors(self) -> dict[str, str | None]:
            return {}

        def unhealthy_daemons(self) -> list[str]:
            return []

        def in_flight(self) -> list[RunInFlight]:
            return []

        def failed_jobs(self) -> list[FailedRun]:
            jobs = ("keyword_prod", "live_predict", "keyword_predict", "keyword_dev")
            return [FailedRun("1a2b3c4d5e", job, datetime(2026, 11, 1, 9, tzinfo=UTC), "no space") for job in jobs]

    dagit: Any = Failed()
    assert list(status._dagit_lines(dagit)) == ["failed: keyword_prod (run 1a2b3c4d, 2026-11-01 09:00 UTC): no space"]


def test_a_family_that_takes_no_part_is_a_line_with_the_reason(without_ranker: Settings) -> None:
    """Before it has an accepted release no ranker could have learned from it."""
    assert f"  ranker    {history.NO_RELEASE}" in list(history.live_lines(without_ranker))
    accepted = storage.join(without_ranker.staging_url("prod"), "ranker", "accepted.json")
    storage.write_json(accepted, {"version": "r1"})
    assert f"  ranker    {history.NO_PART}" in list(history.live_lines(without_ranker))


def test_what_was_taken_back_is_a_line_with_the_command_that_the_documents_name(without_ranker: Settings) -> None:
    sets = LiveSets(without_ranker.staging_url("prod"))
    one = sets.live()
    sets.go_live(one)
    sets.go_live(one.model_copy(update={"number": 2}), instead_of=one)
    sets.go_live(one, goes_back=True)
    (line,) = [line for line in history.rejected_lines(without_ranker) if line.startswith("rolled back")]
    assert line == 'rolled back: set 2 (make promote SET=2 WHY="..." brings it back)'
    assert history._back(sets, 1) == "make rollback SET=1 brings it back"


def test_a_worker_that_no_set_needs_says_that_it_ends_and_holds_no_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(home=tmp_path, port_base=31_200, postgres_url=None)
    live, before, leaving = (Runtime("keyword", code, "e" * 64) for code in ("a" * 64, "b" * 64, "c" * 64))
    monkeypatch.setattr(workers, "of_set", lambda *_: [live])
    monkeypatch.setattr(workers, "required_runtimes", lambda _: [live, before])
    running = Supervisor(settings)
    held = [sleeper(each.worker) for each in (live, before, leaving)]
    running.start([sleeper("search")], environment_variables(settings), held)
    try:
        found = {each.name: each for each in status.found(settings)}
        console.print(status.table(settings))
    finally:
        running.shut_down()
    assert [found[each.worker].leaves for each in (live, before, leaving)] == [False, False, True]
    ports = [found[each.worker].port for each in (live, before, leaving)]
    assert ports == [settings.ports["keyword"], None, None]
    assert capsys.readouterr().out.count("no set needs it") == 1


def test_a_ranker_in_whose_place_another_one_ranks_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    another, settings = list_another_ranker(monkeypatch, tmp_path), Settings(home=tmp_path)
    sets, url = LiveSets(settings.staging_url("prod")), settings.staging_url("prod")
    releases = {family: "v1" for family in families() if family != another}
    sets.go_live(sets.propose(releases, SnapshotRef(id="s", url=f"file://{tmp_path}/s"), "first"))
    for family in ("ranker", another):
        storage.write_json(storage.join(url, family, "accepted.json"), {"version": "a1" if family == another else "v1"})
    assert f"  {another:<9} takes no part in this set: ranker is its ranker" in list(history.live_lines(settings))
    assert f"accepted, and to be promoted: {another}/a1" in list(history.live_lines(settings))
    sets.decide("a1", Decision(accepted=False, reason="no better", rival="ranker"))
    assert f"not promoted: {another}/a1: no better" in list(history.rejected_lines(settings))


def test_a_release_that_waits_for_a_ranker_is_a_line(without_ranker: Settings) -> None:
    accepted = storage.join(without_ranker.staging_url("prod"), "behavior", "accepted.json")
    assert not [line for line in history.live_lines(without_ranker) if line.startswith("accepted")]
    storage.write_json(accepted, {"version": "v2"})
    (line,) = [line for line in history.live_lines(without_ranker) if line.startswith("accepted")]
    assert "behavior/v2; a ranker that learns from it brings it" in line


def test_a_release_that_nothing_judged_says_when_that_was(without_ranker: Settings) -> None:
    snapshot = LiveSets(without_ranker.staging_url("prod")).live().snapshot
    made = ReleaseManifest(
        family="behavior", version="v1", created_at=datetime(2026, 11, 1, 9, tzinfo=UTC), snapshot=snapshot,
        parameters={}, hyperparameters={}, metrics={}, gate={"notes": ["Nobody has clicked yet."]}, environment="",
        code_version="", deployment="prod", run_id="r", files=[],
    )  # fmt: skip
    folder = storage.join(without_ranker.staging_url("prod"), "behavior", "releases", "v1")
    storage.write_json(storage.join(folder, "manifest.json"), made.model_dump(mode="json"))
    (line,) = [line for line in history.live_lines(without_ranker) if line.startswith("  behavior")]
    assert line.endswith("when it was trained (2026-11-01 09:00 UTC), nothing was judged. Nobody has clicked yet.")


def test_the_moves_of_the_live_set_are_lines(without_ranker: Settings) -> None:
    sets = LiveSets(without_ranker.staging_url("prod"))
    one = sets.live()
    sets.go_live(one.model_copy(update={"number": 2, "note": "ranker r2, by run 1a2b: new data"}), instead_of=one)
    sets.go_live(one, note="rollback by ada: wrong order")
    newest, second = history.moved_lines(without_ranker)
    assert newest.endswith(" UTC: set 1 in place of set 2, rollback by ada: wrong order")
    assert second.endswith(" UTC: set 2 in place of set 1, ranker r2, by run 1a2b: new data")


def test_a_process_that_the_running_stack_does_not_know_is_a_row(
    without_ranker: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    running = Supervisor(without_ranker)
    running.start([sleeper("search")], environment_variables(without_ranker))
    try:
        console.print(status.table(without_ranker))
    finally:
        running.shut_down()
    rows = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    assert "STOPPED" in rows["search"]
    assert "not started yet: make up" in rows["code-ranker"]


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(
            b'{"searches": {"answered": 600, "lacking": {"semantic": {"searches": 169, '
            b'"since": "2026-11-24T10:00:00+00:00", "cause": "no answer within 300 ms"}}}}'
        )

    def log_message(self, *arguments: object) -> None:
        pass


def test_searches_that_lacked_a_model_are_told_with_the_first_cause(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (line,) = searching.lacking_lines(Settings(home=tmp_path, port_base=server.server_port))
        server.shutdown()
    assert line == (
        "169 of 600 searches since the search app started lacked semantic, "
        "first at 2026-11-24T10:00:00+00:00: no answer within 300 ms"
    )


def test_dagit_is_told_of_a_rollback_that_was_made_while_it_was_down(tmp_path: Path) -> None:
    told, home = [], Settings(home=tmp_path)

    class Told:
        newest = 2

        def newest_number(self, key: list[str], label: str) -> int | None:
            return self.newest if (key, label) == (["prod", "live_set"], "set") else None

        def report_materialization(self, key: list[str], metadata: dict[str, Any]) -> None:
            told.append((key, metadata["set"], metadata["note"]))

    dagit: Any = Told()
    sets = LiveSets(home.staging_url("prod"))
    for number in (1, 2):
        sets.go_live(sets.propose({"ranker": f"r{number}"}, SnapshotRef(id="s", url="file:///s"), "a ranker's"))
    _tell_dagit(home, dagit)
    assert told == []
    sets.go_live(sets.past(1), note="rollback by ada", goes_back=True)
    _tell_dagit(home, dagit)
    assert told == [(["prod", "live_set"], 1, "rollback by ada")]


def test_a_freeze_is_a_line_as_long_as_it_holds(without_ranker: Settings) -> None:
    sets = LiveSets(without_ranker.staging_url("prod"))
    overrides.freeze(sets, "ada", "the fair")
    (line,) = history.held_lines(without_ranker)
    assert line.startswith("frozen by ada at ") and line.endswith(
        " UTC: the fair; nothing is promoted until: make thaw"
    )
    newest = next(iter(history.moved_lines(without_ranker)))
    assert newest.startswith("held ") and "set 1, frozen by ada" in newest
    overrides.thaw(sets, "ada")
    assert list(history.held_lines(without_ranker)) == []


def test_a_rejected_release_is_explained_with_its_numbers(without_ranker: Settings, tmp_path: Path) -> None:
    snapshot = LiveSets(without_ranker.staging_url("prod")).live().snapshot
    values = {"queries": 40.0, "nDCG@10": 0.5, "R@100": 0.8, "RR@10": 0.6}
    gate = {
        "accepted": False, "reasons": ["A loss of 0.02 is not ruled out at 0.05."], "queries": 76, "challenger": 0.5,
        "champion": 0.55, "champion_version": "v1", "difference": -0.05, "confidence_low": -0.09,
        "confidence_high": -0.01, "p_value": 0.9, "gained": 3, "lost": 9, "unchanged": 28, "policy": {},
        "slice_tests": {"source: numpy": {"queries": 31, "difference": -0.06, "p_value": 0.02}},
        "latency": {"challenger_ms": 3.25, "champion_ms": 3.0},
    }  # fmt: skip
    (folder := tmp_path / "release").mkdir()
    made = ReleaseManifest(
        family="keyword", version="v2", created_at=datetime(2026, 11, 1, 9, tzinfo=UTC), snapshot=snapshot,
        parameters={}, hyperparameters={}, metrics={"all": values, "source: numpy": values}, gate=gate,
        environment="e", code_version="c", deployment="prod", run_id="1a2b3c4d",
    )  # fmt: skip
    Staging(without_ranker.staging_url("prod")).publish(folder, made)
    LiveSets(without_ranker.staging_url("prod")).decide("v2", Decision(accepted=False, reason="worse end to end"))
    told = "\n".join(history.explanation(without_ranker, "keyword", "v2"))
    for part in (
        "its gate: Rejected: nDCG@10 0.5000 against 0.5500 of v1", "p of a loss of 0.02 or more = 0.9000",
        "not ruled out", "margin 0.02", "of its 76 queries 36 are of the newest clicks,",
        "took 3.2 ms a query, the champion 3.0 ms", "not the accepted release: none is", "its set: worse end to end",
        "learned from snapshot s", "/runs/1a2b3c4d", "environment e",
    ):  # fmt: skip
        assert part in told, told
    rows = history.slices(without_ranker, "keyword", "v2")
    compared = {str(column.header): list(column.cells) for column in rows.columns[5:]}
    assert list(rows.columns[1].cells) == ["40", "40"] and compared == {
        "compared on": ["76", "31"], "difference": ["-0.0500", "-0.0600"],
        "p of a loss of 0.02 or more": ["0.9000", ""], "p of no loss": ["", "0.0200"],
    }  # fmt: skip
