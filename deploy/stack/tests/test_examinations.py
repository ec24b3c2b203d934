"""What `make doctor` says where no stack has to run: each fault is made for real, and named with what mends it."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.stack.dagit.client import Dagit, RunInFlight
from deploy.stack.doctor import examination, machine, orchestration, running
from deploy.stack.doctor.finding import Finding, Subject
from deploy.stack.processes import places
from deploy.stack.processes.listing import STACK_MARK
from deploy.stack.processes.supervisor import BACKOFF, State
from deploy.stack.status import UNKNOWN, Found
from shared_ops.data import storage, tables
from shared_ops.data.snapshots import TABLES, Snapshots
from shared_ops.release import codes
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import ReleaseManifest, Staging
from shared_ops.settings import Settings, families, ranking_families, search_families

LOCK = b"dagster==1\n"
ENVIRONMENT = hashlib.sha256(LOCK).hexdigest()
FAMILY, RANKER = search_families()[0], ranking_families()[0]
HOLD = """
import fcntl, sys, time
held = open(sys.argv[1])
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a home with two sets of releases, the second of which is live and accepted."""
    made = Settings(home=tmp_path / "home", port_base=29_000, postgres_url=None)
    places.make_home(made)
    staging, sets = Staging(made.staging_url("prod")), LiveSets(made.staging_url("prod"))
    snapshot = Snapshots(made.snapshots_url("prod")).publish({name: tables.empty(name) for name in TABLES})
    storage.write_atomic(storage.join(made.locks_url, ENVIRONMENT, "requirements.txt"), LOCK)
    code = codes.keep(made.code_url, {"model.py": b"pass\n"})
    for version in ("v1", "v2"):
        for family in families():
            (folder := tmp_path / version / family).mkdir(parents=True)
            (folder / "weights.bin").write_bytes(version.encode())
            manifest = ReleaseManifest(
                family=family, version=version, created_at=datetime.now(UTC), snapshot=snapshot, parameters={},
                hyperparameters={}, metrics={}, gate={"accepted": True}, environment=ENVIRONMENT, code=code,
                code_version="", deployment="prod", run_id="r",
            )  # fmt: skip
            staging.accept(staging.publish(folder, manifest))
        sets.go_live(sets.propose(dict.fromkeys(families(), version), snapshot, version))
    return made


def down(settings: Settings) -> Subject:
    return Subject(settings, up=False, dagit=Dagit(settings.url("dagit")))


def prod(settings: Settings, *names: str) -> Path:
    return settings.home.joinpath("staging", "prod", *names)


def flip(file: Path) -> None:
    """Change one bit of a file."""
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def child(ends: ExitStack, *command: str, **variables: str) -> subprocess.Popen[bytes]:
    """A process that ends with the test."""
    process = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE)
    ends.enter_context(process)
    ends.callback(process.kill)
    return process


def flipped(settings: Settings, ends: ExitStack) -> None:
    flip(prod(settings, FAMILY, "releases", "v2", "weights.bin"))


def flipped_in_every_set(settings: Settings, ends: ExitStack) -> None:
    flipped(settings, ends)
    flip(prod(settings, FAMILY, "releases", "v1", "weights.bin"))


def flipped_without_a_use(settings: Settings, ends: ExitStack) -> None:
    flip(prod(settings, FAMILY, "releases", "v1", "weights.bin"))


def flipped_ranker_alone(settings: Settings, ends: ExitStack) -> None:
    flip(prod(settings, RANKER, "releases", "v2", "weights.bin"))
    shutil.rmtree(prod(settings, FAMILY, "releases", "v1"))


def flipped_code(settings: Settings, ends: ExitStack) -> None:
    (file,) = settings.home.glob("staging/code/*/model.py")
    flip(file)


def flipped_lock(settings: Settings, ends: ExitStack) -> None:
    flip(settings.home / "staging" / "locks" / ENVIRONMENT / "requirements.txt")


def lost_manifest(settings: Settings, ends: ExitStack) -> None:
    prod(settings, FAMILY, "releases", "v2", "manifest.json").unlink()


def lost_snapshot(settings: Settings, ends: ExitStack) -> None:
    shutil.rmtree(settings.home / "snapshots")


def broken_pointer(settings: Settings, ends: ExitStack) -> None:
    prod(settings, "live.json").write_text("{")


def taken_port(settings: Settings, ends: ExitStack) -> None:
    ends.enter_context(socket.create_server(("127.0.0.1", settings.ports["dagit"])))


def held_lock(settings: Settings, ends: ExitStack) -> None:
    holder = child(ends, sys.executable, "-c", HOLD, str(prod(settings, ".live.lock")))
    holder.stdout.readline()


def later(settings: Settings, ends: ExitStack) -> None:
    ahead = time.time() + 3600
    os.utime(prod(settings, "live.json"), (ahead, ahead))


def left_process(settings: Settings, ends: ExitStack) -> None:
    child(ends, "sleep", "60", **{STACK_MARK: str(settings.home)})


FAULTS: list[tuple[str, Callable[[Settings, ExitStack], None], str, str]] = [
    ("staging", flipped, rf"Release {FAMILY}/v2: the file weights.bin is not the one", r"make rollback SET=1$"),
    (
        "staging",
        flipped_in_every_set,
        rf"{FAMILY}/v2",
        rf"rm \S+/{FAMILY}/accepted.json; make train REPO={FAMILY} FORCE=1$",
    ),
    ("staging", flipped_without_a_use, rf"{FAMILY}/v1", rf"nothing answers with it: rm -r \S+/{FAMILY}/releases/v1$"),
    (
        "staging",
        flipped_ranker_alone,
        rf"{RANKER}/v2",
        rf"rm \S+/accepted.json; rm \S+/live.json; make train REPO={RANKER} FORCE=1$",
    ),
    (
        "staging",
        flipped_code,
        rf"{FAMILY}/v2: its code \w+ is not in .* as it was kept",
        rf"rm .*; make train REPO={FAMILY} FORCE=1",
    ),
    (
        "staging",
        flipped_lock,
        rf"{FAMILY}/v2: its lock \w+ is not in .* as it was kept",
        rf"rm .*; make train REPO={FAMILY} FORCE=1",
    ),
    ("staging", lost_manifest, rf"{FAMILY}/v2 is not in .*: it has no manifest.json", r"make rollback SET=1$"),
    ("staging", lost_snapshot, r"No snapshot at .*snapshots/prod/", r"make train$"),
    ("staging", broken_pointer, r"could not be examined: .*LiveSet", r"make doctor$"),
    (
        "ports",
        taken_port,
        rf"port 29001 \(dagit\) is taken by pid {os.getpid()}",
        r"end that, or move .*SEARCHLOOP_PORT_BASE",
    ),
    ("locks", held_lock, r"live.lock is held by pid \d+ .*, which runs for \d+ s", r"wait for it to end, or kill it"),
    (
        "clock",
        later,
        r"the clock went backwards: \S+live.json is of .*, 3[56]\d\d s from now",
        r"set-ntp true; .* touch \S+live.json",
    ),
    (
        "processes",
        left_process,
        r"1 of the stack's processes run without its supervisor: \d+",
        r"make up, or make down",
    ),
]


def examined(settings: Settings, area: str) -> list[Finding]:
    """What one area finds, as `make doctor` looks at it while the stack is down."""
    return list(examination.look(examination.AT_ANY_TIME[area], down(settings)))


@pytest.mark.slow
@pytest.mark.parametrize(("area", "fault", "said", "mend"), FAULTS, ids=[fault.__name__ for _, fault, *_ in FAULTS])
def test_a_fault_is_named_with_what_mends_it(
    area: str, fault: Callable[[Settings, ExitStack], None], said: str, mend: str, settings: Settings
) -> None:
    assert examined(settings, area) == []
    with ExitStack() as ends:
        fault(settings, ends)
        findings = examined(settings, area)
    assert any(re.search(said, each.problem) and re.search(mend, each.mend) for each in findings), findings


def test_a_database_of_one_s_own_that_is_away_is_named_though_the_stack_is_down(settings: Settings) -> None:
    away = settings.model_copy(update={"postgres_url": "postgresql://me:secret@127.0.0.1:1/shop"})
    (finding,) = examined(away, "postgres")
    assert "port 1, dbname shop) does not answer" in finding.problem and finding.mend.startswith("start it")


def test_environments_with_different_versions_of_dagster_are_named(settings: Settings, tmp_path: Path) -> None:
    versions = {"light": "1.13.26", "platform": "1.13.27", "search": None, "keyword": "1.13.27"}
    for name, version in versions.items():
        packages = tmp_path / name / ".venv" / "lib" / "python3.11" / "site-packages"
        (packages / "dagster_graphql-1.0.0.dist-info").mkdir(parents=True)
        if version:
            (packages / f"dagster-{version}.dist-info").mkdir()
    (finding,) = machine.dagster(down(settings), tmp_path)
    assert "(1.13.27 in keyword, platform; 1.13.26 in light)" in finding.problem
    assert finding.mend == "make lock, then make envs"
    (tmp_path / "light" / ".venv").rename(tmp_path / "gone")
    assert list(machine.dagster(down(settings), tmp_path)) == []


@pytest.mark.parametrize(
    ("status", "longest", "minutes", "stuck"),
    [
        ("STARTED", None, 60, False),
        ("STARTED", None, 125, True),
        ("STARTED", 600.0, 15, True),
        ("STARTED", 9000.0, 125, False),
        ("STARTING", None, 9, False),
        ("STARTING", 9000.0, 15, True),
        ("QUEUED", None, 60, False),
        ("QUEUED", None, 125, True),
    ],
)
def test_a_run_that_stands_still_is_named(status: str, longest: float | None, minutes: int, stuck: bool) -> None:
    run = RunInFlight("1a2b", "keyword_prod", status, 0.0, longest)
    told = list(orchestration.stuck([run], orchestration.limits(), now=60.0 * minutes))
    assert bool(told) == stuck
    assert not stuck or told[0][1].startswith(f"keyword_prod is {status} for {minutes} min, ")


@pytest.mark.parametrize(
    ("name", "state", "reason", "said", "mend"),
    [
        ("search", State("search", "RUNNING", 7, 90), None, None, None),
        (
            "search",
            State("search", "RUNNING", 7, 90),
            "timed out",
            "search runs and does not answer: timed",
            "kill -9 7",
        ),
        (
            "search",
            State("search", "RUNNING", 7, 9),
            "refused",
            "search was started 9 s ago, and does not",
            "wait; make",
        ),
        ("daemon", State("daemon", "STARTING", 7, 1), None, "daemon was started 1 s ago", "wait; make logs"),
        ("dagit", State("dagit", BACKOFF, 0, 0), "no", "dagit ends as soon as it is", "make logs PROCESS=dagit says"),
        (
            "code-live",
            State("code-live", "FATAL", 0, 0),
            "no",
            r"does not run \(FATAL\)",
            "make code-server REPO=live$",
        ),
        ("code-new", UNKNOWN, "no", r"code-new does not run \(never started\)", "make up$"),
        ("watch", State("watch", "STOPPED", 0, 0), "no", r"watch does not run \(STOPPED\)", "make up$"),
    ],
)
def test_what_is_wrong_with_a_process_is_told_by_its_state(
    name: str, state: State, reason: str | None, said: str | None, mend: str | None
) -> None:
    finding = running.of_process(Found(name, state, None, reason))
    assert bool(finding) == bool(said)
    assert not finding or (re.search(said, finding.problem) and re.match(mend, finding.mend))
