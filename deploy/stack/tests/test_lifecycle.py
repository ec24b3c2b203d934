"""Which stack a command means, where that may lie, and how long it is waited for, with the real supervisor."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result

from deploy import environments
from deploy.stack import __main__ as stack
from deploy.stack import sources, terminal
from deploy.stack.__main__ import commands
from deploy.stack.bulk import AskedError
from deploy.stack.commands import models, operator, people
from deploy.stack.commands import running as running_commands
from deploy.stack.dagit import training
from deploy.stack.dagit.client import DagitError, RecentRun
from deploy.stack.processes import lifecycle, patience, places, supervisor, workers
from deploy.stack.processes.lifecycle import StackError
from deploy.stack.processes.listing import Process, environment_variables, processes
from deploy.stack.processes.patience import Patience, StackPatience, wait_for_stack
from deploy.stack.processes.places import HomeError
from deploy.stack.processes.supervisor import NotRunningError, Supervisor
from deploy.stack.search import searching
from deploy.stack.search.searching import SearchError
from deploy.stack.terminal import VisibleConsole
from deploy.stack.tests.test_supervisor import sleeper, wait_for
from shared_ops.data import snapshots
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.refused import RefusedCode, mended_by
from shared_ops.release import codes
from shared_ops.release.livesets import LiveSets
from shared_ops.release.promotion import PromotionError
from shared_ops.release.releases import ReleaseManifest, Staging, environment_lock
from shared_ops.settings import LIST, ROOT, Settings, families, repositories

PORT_BASE = 31_000


def command(settings: Settings, *arguments: str, **given: str) -> Result:
    """The result of one of the stack's commands, given these variables, as click's runner gives it."""
    variables = {
        "SEARCHLOOP_HOME": str(settings.home),
        "SEARCHLOOP_HOST": settings.host,
        "SEARCHLOOP_PORT_BASE": str(settings.port_base),
    }
    return CliRunner(env=variables | given).invoke(commands, arguments)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervisor]:
    """A stack of two sleepers that runs at PORT_BASE."""
    settings = Settings(home=tmp_path, port_base=PORT_BASE, postgres_url=None)
    made = Supervisor(settings)
    made.start([sleeper("one"), sleeper("dagit")], environment_variables(settings))
    made.start_process("one")
    yield made
    if made.running():
        made.shut_down()


@pytest.fixture
def held(running: Supervisor) -> Supervisor:
    """The same stack with Dagit running, and every code server but that of `live`, which the list has gained since."""
    for name in repositories():
        if name != "live":
            running.add(sleeper(f"code-{name}"))
    running.start_process("dagit")
    wait_for(lambda: running.states()["dagit"].pid)
    return running


def test_what_goes_on_in_an_environment_of_before_is_told_with_what_renews_it(running: Supervisor) -> None:
    said: list[str] = []
    lifecycle._tell_of_before(running, [sleeper("one"), sleeper("dagit")], said.append)
    assert not said
    running.add(sleeper("code-keyword"))
    renewed = [sleeper(name, "import time; time.sleep(601)") for name in ("dagit", "code-keyword")]
    lifecycle._tell_of_before(running, [sleeper("one"), *renewed], said.append)
    dagit, keyword = said
    assert dagit.startswith("dagit ") and dagit.endswith("make down, then make up")
    assert keyword.startswith("code-keyword ") and keyword.endswith("make code-server REPO=keyword")


COMMANDS = (["up"], ["down"], ["train"], ["status"], ["search", "x"], ["evaluate", "runs"], ["simulate"], ["addresses"])


@pytest.mark.slow
def test_a_command_with_other_ports_than_the_running_stack_s_does_nothing(running: Supervisor) -> None:
    before = running.states()["one"].pid
    for arguments in COMMANDS:
        done = command(Settings(home=running.settings.home, port_base=PORT_BASE + 100), *arguments)
        said = str(done.exception)
        assert isinstance(done.exception, StackError) and "nothing was done" in said
        assert f"SEARCHLOOP_PORT_BASE={PORT_BASE} make down" in said
        assert f"SEARCHLOOP_PORT_BASE={PORT_BASE + 100}, where another stack may be" in said
    assert running.states()["one"].pid == before != 0


def test_every_command_but_up_goes_by_the_repositories_that_the_stack_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port_base=PORT_BASE, postgres_url=None, repos="corpus keyword")
    part = Supervisor(settings)
    part.start([sleeper("one")], environment_variables(settings))
    try:
        for given in ({}, {"SEARCHLOOP_REPOS": "behavior"}):
            addresses = command(settings, "addresses", **given).stdout
            assert "keyword http" in addresses and "behavior" not in addresses
            refused = str(command(settings, "code-server", "behavior", **given).exception)
            assert refused.startswith("This stack runs corpus, keyword alone, and not behavior: make down, ")
        refused = str(command(settings, "up", SEARCHLOOP_REPOS="behavior").exception)
        assert refused.startswith(
            "The running stack was started with SEARCHLOOP_REPOS='corpus keyword', and this command was given "
            "SEARCHLOOP_REPOS=behavior. "
        )
    finally:
        part.shut_down()


def test_a_part_of_a_stack_has_its_own_code_servers_and_services_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port_base=PORT_BASE, repos="corpus keyword")
    names = [process.name for process in processes(settings)]
    assert names == ["postgres", "search", "code-corpus", "code-keyword", "dagit", "daemon", "watch"]
    assert [runtime.family for runtime in workers.first(settings)] == ["keyword"]


def test_a_name_that_is_no_repositorys_is_told(tmp_path: Path) -> None:
    refused = str(command(Settings(home=tmp_path), "up", SEARCHLOOP_REPOS="corpus platform").exception)
    assert refused.startswith("SEARCHLOOP_REPOS=corpus platform: expected names of corpus, ")
    assert refused.endswith(", separated by spaces, got platform") and not (tmp_path / "stack.lock").exists()


@pytest.mark.slow
def test_another_host_is_another_address(running: Supervisor) -> None:
    with pytest.raises(StackError, match=r"SEARCHLOOP_HOST=127\.0\.0\.1 .*given SEARCHLOOP_HOST=\[::1\]"):
        lifecycle.refuse_other_addresses(Settings(home=running.settings.home, port_base=PORT_BASE, host="::1"))


@pytest.mark.slow
def test_a_command_with_the_settings_of_the_running_stack_finds_it(running: Supervisor) -> None:
    lifecycle.refuse_other_addresses(running.settings)
    lifecycle.need_running(running.settings)
    assert command(running.settings, "addresses").exception is None


ASKING = (["train"], ["search", "x"], ["evaluate", "runs"], ["simulate"], ["code-server", "keyword"], ["code-servers"])


@pytest.mark.parametrize("arguments", ASKING)
def test_what_asks_a_stack_does_not_ask_another_one_on_its_ports(tmp_path: Path, arguments: list[str]) -> None:
    """Where the home's own stack does not run, what listens on its ports belongs to another."""
    done = command(Settings(home=tmp_path, port_base=PORT_BASE), *arguments)
    assert isinstance(done.exception, NotRunningError)
    assert str(done.exception) == f"The stack in {tmp_path} is not running: make up"


def test_addresses_at_which_nothing_answers_are_told_with_what_to_do(tmp_path: Path) -> None:
    done = command(Settings(home=tmp_path, port_base=PORT_BASE), "addresses")
    assert f"search http://127.0.0.1:{PORT_BASE}" in done.stdout
    assert done.stderr == f"Nothing answers there: the stack in {tmp_path} is not running. make up\n"


def process(home: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the stack's commands as a process, as make runs it."""
    variables = os.environ | {"SEARCHLOOP_HOME": str(home), "SEARCHLOOP_PORT_BASE": str(PORT_BASE)}
    ran = [sys.executable, "-W", "ignore", "-m", "deploy.stack", *arguments]
    return subprocess.run(ran, cwd=ROOT, env=variables, text=True, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["simulate", "--sessions=abc"],
            "SESSIONS: expected a whole number from 1 to 100000, got 'abc': make simulate SESSIONS=200",
        ),
        (["simulate", "--rate=0"], "RATE: expected a number of 0.001 or more, got '0': make simulate RATE=5"),
        (["simulate", "--seed=-1"], "SEED: expected a whole number of 0 or more, got '-1': make simulate SEED=0"),
        (["rollback", "--", "abc"], "SET: expected a whole number of 1 or more, got 'abc': make rollback SET=3"),
        (
            ["code-server", "--", "nosuch"],
            f"REPO: expected one of {', '.join(repositories())}, got 'nosuch': make code-server REPO=corpus",
        ),
        (
            ["notebook", "--", "nosuch"],
            f"REPO: expected one of {', '.join(families())}, got 'nosuch': make notebook REPO=keyword",
        ),
        (
            ["train", "--", "live"],
            f"REPO: expected one of {', '.join(training.trained())}, got 'live': make train REPO=corpus",
        ),
        (
            ["train", "--deployment=staging"],
            "DEPLOYMENT: expected one of dev, prod, got 'staging': make train DEPLOYMENT=dev",
        ),
        (["search", "--", " "], "Q: expected words to search for, got ' ': make search Q=\"sort an array\""),
        (["evaluate"], "OUT: expected a folder for the runs, got nothing: make evaluate OUT=runs"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence_that_says_what_does_and_what_to_type(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = process(tmp_path, *arguments)
    assert done.returncode == 1 and done.stderr == f"{said}\n" and done.stdout == ""


def test_logs_of_a_stack_that_is_down_are_shown_and_not_waited_for(tmp_path: Path) -> None:
    log = places.log_file(Settings(home=tmp_path), "dagit")
    log.parent.mkdir(parents=True)
    log.write_text("the last line\n")
    done = process(tmp_path, "logs", "dagit")
    assert done.returncode == 0 and done.stdout == "the last line\n"


def test_a_stack_that_ends_while_a_command_waits_for_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match=r"has been ended while .* make up"):
        lifecycle.need_still_running(Settings(home=tmp_path))


def test_a_rollback_while_the_stack_is_down_is_refused_where_its_releases_cannot_run(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, port_base=PORT_BASE, postgres_url=None)
    sets, snapshot = LiveSets(settings.staging_url("prod")), SnapshotRef(id="s", url=f"file://{tmp_path}/s")
    for version in ("v1", "v2"):
        sets.go_live(sets.propose({"keyword": version}, snapshot, ""))
    done = command(settings, "rollback")
    assert isinstance(done.exception, PromotionError) and "keyword/v1 cannot go live" in str(done.exception)
    assert sets.live().number == 2 and sets.rolled_back() == []


def test_down_again_says_that_nothing_runs(tmp_path: Path) -> None:
    done = process(tmp_path, "down")
    assert done.returncode == 0 and done.stdout == f"the stack in {tmp_path} is not running\n"


def test_a_supervisor_that_is_just_being_replaced_is_waited_for(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "RECOVERY_SECONDS", 0.5)
    os.kill(int((running.folder / "supervisord.pid").read_text()), 9)
    wait_for(lambda: not running.running())
    began = time.monotonic()
    with pytest.raises(NotRunningError, match="make up"):
        lifecycle.need_running(running.settings)
    assert time.monotonic() - began >= 0.5
    supervisor.end(supervisor.leftovers(running.settings))


def test_cleaning_removes_what_a_stack_has_made_and_nothing_else(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    places.make_home(settings)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (settings.home / "snapshots").symlink_to(elsewhere)
    for name in ("logs", "dagster", ".git"):
        (settings.home / name).mkdir()
    assert places.clean(settings) == [".git"]
    assert [path.name for path in settings.home.iterdir()] == [".git"]
    assert (elsewhere / "kept").exists()
    with pytest.raises(HomeError, match="nothing was removed"):
        places.clean(settings)


def test_cleaning_a_home_of_its_own_removes_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    places.make_home(settings)
    for name in places.MADE[:-1]:
        (settings.home / name).mkdir()
    assert places.clean(settings) == []
    assert not settings.home.exists()


@pytest.mark.parametrize("name", ["cache", "logs", "postgres"])
def test_a_folder_that_holds_other_things_of_a_stack_s_names_is_no_home(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(HomeError, match=f"holds {name}, and no stack runs or ran there"):
        places.make_home(settings)
    (tmp_path / places.LOCK).touch()
    assert places.make_home(settings).exists(), "as where its lock was lost"


@pytest.mark.slow
def test_down_makes_nothing_where_no_stack_was(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine").touch()
    assert process(tmp_path, "down").returncode == 0
    assert process(tmp_path, "clean").returncode == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["logs", "mine"]


def test_every_command_tells_of_a_misspelt_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHLOOP_HOM", "elsewhere")
    told = process(tmp_path, "status").stderr.splitlines()
    assert told[0] == "SEARCHLOOP_HOM is no setting, and nothing reads it. Was SEARCHLOOP_HOME meant? See make help"


def test_nothing_in_the_checkout_bears_the_name_of_what_a_stack_makes() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert not {line.split("/")[0] for line in tracked.splitlines()} & set(places.MADE)


@pytest.mark.parametrize("home", [ROOT, ROOT.parent])
def test_a_folder_that_holds_the_checkout_is_no_home(home: Path) -> None:
    before = set(home.iterdir())
    with pytest.raises(HomeError, match=r"holds the checkout: expected a folder for the stack alone"):
        lifecycle.start(Settings(home=home), print)
    assert set(home.iterdir()) == before


EVERY_COMMAND = [
    *(["up"], ["down"], ["status"], ["logs"], ["addresses"], ["clean"], ["train"], ["code-servers"], ["lineage"]),
    *(["code-server", "keyword"], ["rollback"], ["reproduce", "keyword/v1"], ["search", "x"], ["evaluate", "runs"]),
    *(["simulate"], ["dev"], ["doctor"], ["shell", "keyword"], ["notebook", "keyword"], ["freeze"], ["thaw"]),
    ["predict", "--queries=q.csv", "--out=out"],
    *(["pin", "keyword"], ["unpin", "keyword"], ["promote", "1", "--why=x"], ["runs"], ["explain", "keyword/v1"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("repos", "said"),
    [
        ("", r'no set goes live here of another stack\'s releases.*make up REPOS="corpus feedback keyword .* ranker"$'),
        ("keyword live", r'Leave it out: make up REPOS="keyword"$'),
        ("keyword", r"SEARCHLOOP_READ_FROM=\S+/gone: expected the home of a stack, a folder that holds snapshots/"),
    ],
)
def test_another_stack_s_data_is_for_a_part_of_a_stack_and_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repos: str, said: str
) -> None:
    monkeypatch.setenv("SEARCHLOOP_READ_FROM", str(tmp_path / "gone"))
    monkeypatch.setenv("SEARCHLOOP_REPOS", repos)
    told = process(tmp_path / "home", "up")
    assert told.returncode == 1 and re.search(said, told.stderr.strip()), told.stderr
    assert process(tmp_path / "home", "down").returncode == 0


def test_the_list_holds_every_command() -> None:
    assert {name for name, *_ in EVERY_COMMAND} == set(commands.commands)


@pytest.fixture
def impossible(tmp_path: Path) -> dict[str, str]:
    """Homes that cannot be, each with what is said of it."""
    (tmp_path / "file").touch()
    for name, other in (("one", "other"), ("other", "one")):
        (tmp_path / name).symlink_to(tmp_path / other)
    below, circle = tmp_path / "file" / "home", tmp_path / "one" / "home"
    return {
        str(below): f"SEARCHLOOP_HOME={below} cannot be a stack's home (Not a directory: {below}): expected a folder",
        str(tmp_path / "file"): f"SEARCHLOOP_HOME={tmp_path / 'file'} cannot be a stack's home (Not a directory: ",
        "~nosuchuser/x": "SEARCHLOOP_HOME=~nosuchuser/x: expected a path that leads somewhere (Could not determine ",
        str(circle): f"SEARCHLOOP_HOME={circle}: expected a path that leads somewhere (Symlink loop from ",
    }


@pytest.mark.parametrize("arguments", EVERY_COMMAND, ids=lambda arguments: arguments[0])
def test_a_home_that_cannot_be_is_told_in_a_sentence(
    impossible: dict[str, str],
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["deploy.stack", *arguments])
    for home, said in impossible.items():
        monkeypatch.setenv("SEARCHLOOP_HOME", home)
        with pytest.raises(SystemExit) as ended:
            stack.main()
        told = str(ended.value.code)  # which Python prints, and exits with 1
        assert told.startswith(said) and len(told.splitlines()) == 1
        assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_sentence_about_the_home_is_all_that_a_command_prints(impossible: dict[str, str]) -> None:
    for home, said in impossible.items():
        done = process(home, "lineage")
        assert done.returncode == 1 and done.stderr.startswith(said) and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["lineage"], ["status"], ["rollback"]], ids=lambda arguments: arguments[0])
def test_a_staging_area_below_a_file_holds_nothing(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.MonkeyPatch.context() as given:
        given.setenv("SEARCHLOOP_STAGING", f"file://{tmp_path}/file/staging")
        done = process(tmp_path / "home", *arguments)
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 1


def test_a_home_with_a_percent_sign_is_as_good_as_another(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "50%(home)s %d", postgres_url=None)
    made = Supervisor(settings)
    made.start([sleeper("one")], environment_variables(settings) | {"ODD": "%(x)s 5%"})
    try:
        made.start_process("one")
        log = places.log_file(settings, "one")
        wait_for(lambda: log.exists() and "here" in log.read_text())
        assert made.variables()["SEARCHLOOP_HOME"] == str(settings.home)
    finally:
        made.shut_down()


BUSY = "while True: pass"


@pytest.mark.slow
@pytest.mark.parametrize(("code", "is_over"), [(BUSY, False), ("import time; time.sleep(60)", True)])
def test_what_works_is_waited_for_and_what_stands_still_is_not(
    code: str, is_over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "STALLED_SECONDS", 3)
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(patience, "WORK_SECONDS", 0.05)
    # The work may be a child's, as with a code server.
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    process = subprocess.Popen([sys.executable, "-c", outer], start_new_session=True)
    try:
        wait_for(lambda: psutil.Process(process.pid).children())
        patient, began, over = Patience(), time.monotonic(), False
        while time.monotonic() - began < 4 and not over:
            over = patient.is_over(process.pid)
            time.sleep(0.1)
        assert over == is_over
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def nothing(_: Supervisor, step: int) -> None:
    """Nothing moves."""


def line(running: Supervisor, step: int) -> None:
    """A line is written into a log."""
    with places.log_file(running.settings, "one").open("a") as log:
        log.write("here\n")


def another_process(running: Supervisor, step: int) -> None:
    """A process gets further."""
    running.add(sleeper(f"process-{step}"))


def work(running: Supervisor, step: int) -> None:
    """A process works, and says nothing."""
    if step == 0:
        running.add(sleeper("busy", BUSY))
        running.start_process("busy")


def another_lack(running: Supervisor, step: int) -> None:
    """Something else is lacking: `is_given_up` says what."""


def is_given_up(running: Supervisor, move: Callable[[Supervisor, int], None]) -> bool:
    """Whether nobody waits any more, at the end of three times what patience there is."""
    patient = StackPatience(running.settings)
    for step in range(12):
        move(running, step)
        if patient.is_over(f"lack {step}" if move is another_lack else "the same"):
            return True
        time.sleep(0.5)
    return False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "STALLED_SECONDS", 2)
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(patience, "IDLE_CORES", 0.05)
    monkeypatch.setattr(patience, "SPARE_CORES", -1)  # else other tests, run beside, take what is to spare


@pytest.mark.slow
@pytest.mark.parametrize("move", [nothing, line, another_process, work, another_lack], ids=lambda move: move.__name__)
def test_a_stack_is_waited_for_as_long_as_anything_moves(
    running: Supervisor, impatient: None, move: Callable[[Supervisor, int], None]
) -> None:
    wait_for(lambda: "here" in places.log_file(running.settings, "one").read_text())
    assert is_given_up(running, move) == (move is nothing)


@pytest.mark.slow
def test_a_stack_is_waited_for_while_others_take_all_of_the_processor(
    running: Supervisor, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SPARE_CORES", os.cpu_count() + 1)
    assert not is_given_up(running, nothing)


@pytest.mark.slow
def test_a_stack_that_moves_for_ever_is_not_waited_for_as_long(
    running: Supervisor, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 1)
    assert is_given_up(running, line)


@pytest.mark.slow
def test_what_is_still_waited_for_is_said_now_and_then(
    running: Supervisor, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "TELL_SECONDS", 0.5)
    said: list[str] = []
    assert wait_for_stack(running.settings, lambda: "no answer", said.append, every=0.1) == "no answer"
    assert set(said) == {"still waiting: no answer"} and 2 <= len(said) <= 5
    assert wait_for_stack(running.settings, lambda: None, said.append, every=0.1) is None


class SlowDagit:
    """Loads a code location every second, those that `stuck` names never; and still has one that is listed no more."""

    def __init__(self, *stuck: str) -> None:
        self.began, self.stuck = time.monotonic(), stuck

    def load_errors(self) -> dict[str, str | None]:
        seconds = int(time.monotonic() - self.began)
        if seconds == 0:
            raise DagitError("Dagit does not answer (timed out)")
        loaded: dict[str, str | None] = {
            name: None for name in list(repositories())[:seconds] if name not in self.stuck
        }
        return loaded | {"removed": "Connection refused"}


@pytest.mark.slow
def test_code_locations_are_waited_for_as_long_as_another_one_is_loaded(running: Supervisor, impatient: None) -> None:
    dagit: Any = SlowDagit()
    lifecycle.wait_for_locations(running.settings, dagit, list(repositories()), print)
    assert time.monotonic() - dagit.began > 2 * patience.STALLED_SECONDS


@pytest.mark.slow
def test_a_code_location_that_is_never_loaded_is_named(running: Supervisor, impatient: None) -> None:
    stuck: Any = SlowDagit("semantic", "live")
    with pytest.raises(StackError, match=r"^Dagit has not loaded live, semantic, and .* no longer: make logs$"):
        lifecycle.wait_for_locations(running.settings, stuck, list(repositories()), print)


@pytest.mark.slow
@pytest.mark.parametrize("comes", [True, False])
def test_a_search_is_waited_for_as_long_as_another_worker_is_ready(
    running: Supervisor, impatient: None, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    began, lacking = time.monotonic(), list(repositories())

    def ask(*_: object) -> str:
        if comes and len(lacking) > 0 and time.monotonic() - began > len(repositories()) - len(lacking) + 1:
            del lacking[0]
        if lacking:
            raise SearchError("no hits")
        return "10 hits"

    monkeypatch.setattr(searching, "live_set", lambda _: SimpleNamespace(snapshot=None))
    monkeypatch.setattr(snapshots, "load", lambda _: None)
    monkeypatch.setattr(searching, "_known_query", lambda _: "sort an array")
    monkeypatch.setattr(searching, "_first_hits", ask)
    monkeypatch.setattr(searching, "disagreements", lambda _: [f"{name} does not answer" for name in lacking])
    if comes:
        assert searching.wait_for_search(running.settings, print) == "10 hits"
        assert time.monotonic() - began > 2 * patience.STALLED_SECONDS
    else:
        with pytest.raises(SearchError, match="waited for no longer: no hits; corpus does not answer; feedback"):
            searching.wait_for_search(running.settings, print)


@pytest.mark.parametrize(("query", "shown"), [("a" * 60, f"'{'a' * 60}'"), ("a" * 61, f"'{'a' * 60}...'")])
def test_of_a_long_query_it_is_shown_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, shown: str
) -> None:
    monkeypatch.setattr(searching, "ask", lambda *_: {"hits": [1], "live_set": {"number": 2}})
    assert searching._first_hits(Settings(home=tmp_path), query) == f"1 hits for {shown} from set 2"


def test_a_document_without_a_title_of_its_own_is_named_once(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = [{"doc_id": f"d{i}", "title": title, "source": "s", "found_by": {}} for i, title in enumerate(("d0", "A"))]
    monkeypatch.setattr(people, "ask", lambda *_: {"hits": hits, "degraded": []})
    said = command(running.settings, "search", "x").stdout
    assert said.count("d0") == 1 and "2. A " in said and said.count("d1") == 1


def test_a_process_that_does_not_answer_is_given_up_once_it_stands_still(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CRASHING_SECONDS", 0)
    monkeypatch.setattr(patience, "STALLED_SECONDS", 1)
    silent = Process("one", [], ready=lambda: "it says nothing", phase=0)
    with pytest.raises(StackError, match=r"one did not come up within \d+ s: it says nothing"):
        lifecycle._start_phase(running.settings, running, [silent], print)


@pytest.mark.slow
def test_of_what_is_started_by_name_it_is_not_said_that_it_is_ready(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "processes", lambda _: [sleeper("one"), sleeper("dagit")])
    (running.settings.home / places.LOCK).touch()
    said: list[str] = []
    lifecycle.start(running.settings, said.append, ["one"])
    assert said == [] and running.states()["one"].pid


def test_code_that_does_not_load_is_told_in_one_line_and_the_others_are_reloaded(
    held: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reloads:
        def reload(self, name: str) -> str | None:
            return "repos/keyword/model.py:3: SyntaxError: invalid syntax" if name == "keyword" else None

    monkeypatch.setattr(lifecycle, "start", lambda *_: None)
    monkeypatch.setattr(models, "dagit_of", lambda _: Reloads())
    done = command(held.settings, "code-servers")
    assert str(done.exception).splitlines() == [
        "keyword's code server runs, and its code does not load: repos/keyword/model.py:3: SyntaxError: invalid syntax",
        "Mend it, then: make code-server REPO=keyword (while make dev runs, a save is enough)",
    ]
    assert "keyword" not in done.stdout and done.stdout.count("reloaded") == len(repositories()) - 2
    assert done.stdout.splitlines()[0] == "live              is not in the running stack yet: make up"


def test_code_that_was_not_taken_is_told_with_what_dagit_has_in_its_place(
    held: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Takes:
        def reload(self, name: str) -> None: ...

    monkeypatch.setattr(lifecycle, "start", lambda *_: None)
    monkeypatch.setattr(models, "dagit_of", lambda _: Takes())
    record = held.settings.home / "code" / "keyword.json"
    record.parent.mkdir()
    place, words = "repos/keyword/model.py:3", "SyntaxError: invalid syntax"
    refused = RefusedCode(location="keyword", at=datetime.now(UTC), place=place, message=words)
    record.write_text(refused.model_dump_json())
    done = command(held.settings, "code-server", "keyword")
    assert str(done.exception).splitlines() == [
        f"keyword's code does not load, and the code of before stays in Dagit: {place}: {words}",
        "Mend it, then: make code-server REPO=keyword (while make dev runs, a save is enough)",
    ]
    assert done.exit_code == 1 and "reloaded" not in done.stdout
    record.unlink()
    done = command(held.settings, "code-server", "keyword")
    assert done.exit_code == 0 and "reloaded; people get it by: make train REPO=keyword" in done.stdout


@pytest.mark.parametrize(
    ("code", "environment", "is_news"),
    [(None, None, False), ("code of before", None, True), (None, "lock of before", True)],
)
def test_that_people_get_what_is_reloaded_by_a_training_is_said_where_it_is_not_live_already(
    held: Supervisor, monkeypatch: pytest.MonkeyPatch, code: str | None, environment: str | None, is_news: bool
) -> None:
    sets = LiveSets(held.settings.staging_url("prod"))
    snapshot = SnapshotRef(id="s", url="file:///s")
    manifest = ReleaseManifest(
        family="keyword", version="v1", created_at=datetime.now(UTC), snapshot=snapshot, parameters={},
        hyperparameters={}, metrics={}, gate={}, environment=environment or environment_lock("keyword"),
        code=code or codes.present("keyword"), code_version="", deployment="prod", run_id="r",
    )  # fmt: skip
    (folder := held.settings.home / "release").mkdir()
    Staging(sets.url).publish(folder, manifest)
    sets.go_live(sets.propose({"keyword": "v1"}, snapshot, "first"))
    monkeypatch.setattr(lifecycle, "start", lambda *_: None)
    monkeypatch.setattr(models, "dagit_of", lambda _: SimpleNamespace(reload=lambda _: None))
    said = command(held.settings, "code-servers").stdout
    assert ("keyword           reloaded; people get it by: make train REPO=keyword\n" in said) == is_news
    assert ("keyword           reloaded\n" in said) != is_news


@pytest.mark.parametrize("arguments", [["code-server", "live"], ["predict", "--queries=q.csv", "--out=out"]])
def test_of_what_the_list_has_gained_it_is_said_that_make_up_starts_it(held: Supervisor, arguments: list[str]) -> None:
    done = command(held.settings, *arguments)
    expected = "live is not in the running stack yet: make up makes its environment and starts it."
    assert isinstance(done.exception, StackError) and str(done.exception) == expected


def test_nothing_is_trained_before_all_that_the_list_has_gained_runs(held: Supervisor) -> None:
    held.drop("code-keyword")
    for arguments in (["train", "keyword"], ["train"]):
        assert str(command(held.settings, *arguments).exception).startswith("keyword is not in the running stack yet:")


def test_up_removes_environments_once_all_is_started_that_may_run_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def remove_left(*_: object) -> None:
        raise StackError(f"after {', '.join(done)}")

    def of_another_list(_: object) -> list[str]:
        done.append("list")
        return []

    monkeypatch.setattr(sources, "check", lambda *_: None)
    monkeypatch.setattr(lifecycle, "start", lambda *_: done.append("start"))
    monkeypatch.setattr(lifecycle, "wait_for_locations", lambda *_: done.append("locations"))
    monkeypatch.setattr(lifecycle, "of_another_list", of_another_list)
    monkeypatch.setattr(environments, "remove_left", remove_left)
    settings = Settings(home=tmp_path, port_base=PORT_BASE)
    assert str(command(settings, "up").exception) == "after start, locations, list"


@pytest.mark.slow
def test_what_the_list_gains_and_loses_is_followed_by_up_alone(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "processes", lambda _: [sleeper("dagit"), sleeper("gained")])
    monkeypatch.setattr(lifecycle, "_prepare_instance", lambda *_: None)
    monkeypatch.setattr(workers, "first", lambda _: [])
    (running.settings.home / places.LOCK).touch()
    said: list[str] = []
    lifecycle.start(running.settings, said.append, ["dagit"])
    assert running.states().keys() == {"one", "dagit"} and said == []
    lifecycle.start(running.settings, said.append)
    assert running.states().keys() == {"dagit", "gained"}
    assert "one               ended: repos/repos.toml lists it no more" in said


def test_a_run_is_a_few_lines_which_end_where_the_terminal_does_but_for_what_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = "20261201-015105975-c25fbdd2"
    told = {"SUCCESS": f"Accepted: as good as {made}, " + "and " * 40, "FAILURE": "train: no space " + "at all " * 20}
    at = datetime(2026, 12, 1, 9, tzinfo=UTC)

    class Ran:
        def recent_runs(self, most: int) -> list[RecentRun]:
            because = f"new: keyword/{made}, " + f"semantic/{made}, " * 9
            return [RecentRun("1a2b3c4d5e", "x_prod", at, because, each, 2.4, told[each]) for each in told][:most]

    monkeypatch.setattr(operator, "dagit_of", lambda _: Ran())
    monkeypatch.setattr(lifecycle, "need_running", lambda _: None)
    out = StringIO()
    shown = VisibleConsole(force_terminal=True, width=100, highlight=False, soft_wrap=True, file=out)
    monkeypatch.setattr(terminal, "console", shown)
    CliRunner().invoke(operator.runs, [], obj=Settings(), catch_exceptions=False)
    first, because, came, _, _, failed = out.getvalue().splitlines()
    assert first.split() == ["2026-12-01", "09:00:00", "UTC", "1a2b3c4d", "x_prod", "SUCCESS", "after", "2", "s"]
    assert because.startswith("    because: new: keyword/c25fbdd2, semantic/c25fbdd2, ") and len(because) == 100
    assert came.startswith("    Accepted: as good as c25fbdd2, and ") and came.endswith("…")
    assert failed.strip() == told["FAILURE"].strip()


def test_predict_of_a_table_that_is_not_there_starts_no_run(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "need_part", lambda *_: None)
    given = ("--queries", str(running.settings.home / "none.csv"), "--out", str(running.settings.home / "out"))
    done = command(running.settings, "predict", *given)
    assert isinstance(done.exception, AskedError) and "there is no such file" in str(done.exception)


def test_up_reloads_what_names_other_repositories_once_the_list_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same code, new list: Dagit draws what the list has gained, and what is gone leaves it."""
    asked: list[str] = []

    class Reloads:
        def reload(self, name: str) -> str | None:
            asked.append(name)
            return "no such module" if name == "live" else None

    dagit: Any = Reloads()
    settings = Settings(home=tmp_path, port_base=PORT_BASE, repos="corpus feedback keyword ranker live")
    changed = (ROOT / LIST).stat().st_mtime
    (tmp_path / "code").mkdir()
    for name in repositories():
        file = tmp_path / "code" / f"{name}.modules"
        file.touch()
        os.utime(file, (changed + 1, changed + 1))
    running_commands._follow_list(settings, dagit)
    assert not asked
    for name in repositories():
        os.utime(tmp_path / "code" / f"{name}.modules", (changed - 1, changed - 1))
    running_commands._follow_list(settings, dagit)
    assert asked == ["corpus", "ranker", "live"]
    corpus, ranker, live = capsys.readouterr().out.splitlines()
    assert corpus.startswith("  corpus ")
    assert corpus.endswith(" reloaded: repos/repos.toml has changed since it was loaded")
    assert ranker.startswith("  ranker ") and "does not load: no such module" in live
    assert live.endswith(f"Mend it, then: {mended_by('live')}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("SOURCES", "/nowhere/other.yaml", "SEARCHLOOP_SOURCES=/"),
        ("ENOUGH_CLICKS", "50", "SEARCHLOOP_ENOUGH_CLICKS=200"),
        ("FEEDBACK", "no", "SEARCHLOOP_FEEDBACK=True"),
        ("DRIFT_SEARCHES", "10", "SEARCHLOOP_DRIFT_SEARCHES=300"),
        ("NOTIFY", "json://u:s3cret@h", "SEARCHLOOP_NOTIFY=(not shown)"),
        ("POSTGRES_URL", "postgresql://u:s3cret@h/d", "SEARCHLOOP_POSTGRES_URL=(not shown)"),
    ],
)
def test_up_with_another_setting_than_the_running_stack_s_says_so(
    running: Supervisor, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(f"SEARCHLOOP_{setting}", value)
    done = command(running.settings, "up")
    said = str(done.exception)
    assert isinstance(done.exception, StackError) and shown in said and "make down, then make up" in said
    assert "s3cret" not in said


@pytest.mark.slow
def test_the_same_settings_given_or_not_are_no_others(running: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for _ in range(2):
        given = Settings(home=running.settings.home)
        assert lifecycle.agree_with_running(given, said.append) == given and said == []
        monkeypatch.setenv("SEARCHLOOP_ENOUGH_CLICKS", "200")


def test_up_goes_on_with_settings_that_it_was_not_given_again_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, port_base=PORT_BASE, postgres_url=None)
    started_with = {
        "SEARCHLOOP_ENOUGH_CLICKS": "50",
        "SEARCHLOOP_NOTIFY": "json://u:s3cret@h",
        "SEARCHLOOP_STAGING": "s3://bucket/staging",
        "SEARCHLOOP_DRIFT_SEARCHES": "10",
    }
    monkeypatch.setenv("SEARCHLOOP_DRIFT_SEARCHES", "10")
    made, said = Supervisor(settings), list[str]()
    made.start([sleeper("one")], environment_variables(settings) | started_with)
    try:
        agreed = lifecycle.agree_with_running(Settings(home=tmp_path, port_base=PORT_BASE), said.append)
    finally:
        made.shut_down()
    assert agreed.enough_clicks == 50 and agreed.staging == "s3://bucket/staging"
    assert said == [
        "The running stack goes on with SEARCHLOOP_ENOUGH_CLICKS=50 SEARCHLOOP_NOTIFY=(not shown) "
        "SEARCHLOOP_STAGING=s3://bucket/staging, which this command was not given: make down, then make up, takes what "
        "is given then, or the default."
    ]


@pytest.mark.parametrize("setting", ["FEEDBACK", "DRIFT_ALPHA", "MODEL_TIMEOUT_MS", "ENOUGH_CLICKS"])
def test_a_setting_of_any_process_that_cannot_be_read_is_told_before_anything_starts(
    tmp_path: Path, setting: str
) -> None:
    variables = os.environ | {"SEARCHLOOP_HOME": str(tmp_path / "home"), f"SEARCHLOOP_{setting}": "perhaps"}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.stack", "up"],
        cwd=ROOT,
        env=variables,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode and done.stderr.startswith(f"SEARCHLOOP_{setting}=perhaps: ")
    assert not (tmp_path / "home").exists()
