"""`make doctor` on a whole stack: each fault is made, named with what mends it, and mended by that where that is quick.

deploy/stack/tests/test_examinations.py makes the faults that need no running stack.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.stack.dagit.client import Dagit
from deploy.stack.dagit.queries import REPOSITORY
from deploy.stack.doctor import examination
from deploy.stack.doctor.finding import Finding
from deploy.stack.processes.supervisor import Supervisor
from shared_ops import waiting
from shared_ops.refused import RefusedCode
from shared_ops.release.livesets import LiveSets
from shared_ops.settings import live_repository, search_families
from tests.conftest import Stack, asked_graphql, own_stack, until
from tests.drills.test_full_disk import fill, small_disk

FAMILY, LIVE = search_families()[0], live_repository()
OF_THE_MACHINE = ("disk", "memory")
BACK_SECONDS = 120
"""How long the stack may take until nothing is wrong with it any more."""


@dataclass(frozen=True)
class Fault:
    """Something that is broken on purpose, while the block of `made` runs; what `make doctor` says of it."""

    made: Callable[[Stack], AbstractContextManager[None]]
    area: str
    said: str
    mend: str
    mended_by_it: bool = True
    """Whether the mending is run, too, as it was printed."""


def process_of(stack: Stack, name: str) -> int:
    """The number of a process of the stack, of a worker by its family."""
    states = Supervisor(stack.settings).states()
    return next(state.pid for held, state in states.items() if held.rpartition("-")[0] == name or held == name)


@contextmanager
def killed_again_and_again(stack: Stack) -> Iterator[None]:
    ended = threading.Event()

    def kill() -> None:
        while not ended.wait(0.2):
            if pid := process_of(stack, "search"):
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    ended.set()
    thread.join()


@contextmanager
def hung_worker(stack: Stack) -> Iterator[None]:
    os.kill(process_of(stack, FAMILY), signal.SIGSTOP)
    yield


@contextmanager
def stopped_code_server(stack: Stack) -> Iterator[None]:
    Supervisor(stack.settings).stop_processes([f"code-{FAMILY}"])
    assert Dagit(stack.settings.url("dagit")).reload(FAMILY), "it does not load"
    yield


@contextmanager
def code_that_does_not_load(stack: Stack) -> Iterator[None]:
    """As the code server writes it down: a file of the checkout, from which others run, is not broken for this."""
    refused = RefusedCode(location=LIVE, at=datetime.now(UTC), place="repos/x.py:7", message="SyntaxError: invalid")
    folder = stack.settings.home / "code"
    folder.mkdir(exist_ok=True)
    (folder / f"{LIVE}.json").write_text(refused.model_dump_json())
    yield


@contextmanager
def postgres_away(stack: Stack) -> Iterator[None]:
    Supervisor(stack.settings).stop_processes(["postgres"])
    yield


@contextmanager
def port_taken(stack: Stack) -> Iterator[None]:
    Supervisor(stack.settings).stop_processes(["search"])
    with socket.create_server(("127.0.0.1", stack.settings.ports["search"])):
        yield
    Supervisor(stack.settings).start_process("search")


@contextmanager
def flipped_byte(stack: Stack) -> Iterator[None]:
    sets = LiveSets(stack.settings.staging_url("prod"))
    releases = stack.settings.home / "staging" / "prod" / FAMILY / "releases"
    file = next((releases / sets.live().releases[FAMILY]).glob("*.safetensors"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    yield
    file.write_bytes(content)


@contextmanager
def sensor_off(stack: Stack) -> Iterator[None]:
    """As Dagit's switch does it; the switch is what mends it, too."""
    selector = {"repositoryLocationName": LIVE, "repositoryName": REPOSITORY, "sensorName": "failed_runs"}
    found = "query ($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor { sensorState { id } } } }"
    state = asked_graphql(stack, found, s=selector)["sensorOrError"]["sensorState"]["id"]
    asked_graphql(stack, "mutation ($id: String!) { stopSensor(id: $id) { __typename } }", id=state)
    yield
    asked_graphql(
        stack, "mutation ($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }", s=selector
    )


FAULTS = [
    Fault(killed_again_and_again, "processes", r"^search (ends|was started|does not run)", r"", mended_by_it=False),
    Fault(hung_worker, "processes", rf"^{FAMILY}-\w+ runs and does not answer", r"^kill -9 \d+"),
    Fault(stopped_code_server, "processes", rf"^code-{FAMILY} does not run", rf"^make code-server REPO={FAMILY}$"),
    Fault(code_that_does_not_load, "code", rf"^{LIVE} runs the code of before", rf"code-server REPO={LIVE} \(while"),
    Fault(postgres_away, "postgres", r"^Postgres does not answer", r"^make up"),
    Fault(port_taken, "ports", rf"\(search\) is taken by pid {os.getpid()}", r"^end that", mended_by_it=False),
    Fault(flipped_byte, "staging", rf"^Release {FAMILY}/", r"^make rollback|^rm .*; make train", mended_by_it=False),
    Fault(sensor_off, "triggers", r"^the sensor failed_runs .* is off", r"switch it on in Dagit", mended_by_it=False),
]


def findings(stack: Stack) -> list[dict[str, Any]]:
    """What `make doctor` finds."""
    done = stack.make("doctor", "JSON=1", check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout[: done.stdout.rindex("}") + 1])["findings"]
    assert bool(found) == bool(done.returncode), done.stdout
    return found


@pytest.fixture(scope="module")
def sound(stack: Stack) -> Stack:
    """The stack, once nothing is wrong with it."""
    waiting.until(lambda: not wrong(stack), every=1, seconds=BACK_SECONDS)
    assert wrong(stack) == {}
    return stack


def wrong(stack: Stack) -> dict[str, list[Finding]]:
    """As `findings`, without another process; runs that other tests had fail, and short memory, do not count."""
    found = dict(examination.examine(stack.settings))
    return {area: each for area, each in found.items() if each and area not in ("runs", *OF_THE_MACHINE)}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=[fault.made.__name__ for fault in FAULTS])
def test_a_fault_is_named_with_what_mends_it_and_mended_by_that(sound: Stack, fault: Fault) -> None:
    with fault.made(sound):
        found = findings(sound)
        named = [each for each in found if each["area"] == fault.area and re.search(fault.said, each["problem"])]
        assert named and re.search(fault.mend, named[0]["mend"]), found
        if fault.mended_by_it:
            run(sound, named[0]["mend"])
    nothing_more = f"nothing wrong after {fault.made.__name__}"
    until(lambda: not wrong(sound), BACK_SECONDS, nothing_more, pause=1)


def run(stack: Stack, mend: str) -> None:
    """Run the command of a mending, as a person would copy it."""
    command = re.search(r"(make [\w-]+( \w+=\S+)?|kill -9 \d+)", mend)[0]
    subprocess.run(shlex.split(command), cwd=stack.root, env=stack.environment, check=True, capture_output=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a stack that is never started; the settings of the one that others use are as before after it."""
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_full_disk_is_named(home: Path) -> None:
    with small_disk(home, megabytes=8):
        stack = own_stack(home)
        (home / "stack.lock").touch()
        fill(home)
        (finding,) = [each for each in findings(stack) if each["area"] == "disk"]
    assert re.match(rf"disk is short: 0.0 GiB free at {home}, 6 needed", finding["problem"])
    assert finding["mend"].startswith("free some, or put the stack elsewhere")


@pytest.mark.slow
def test_a_stack_that_is_down_on_purpose_is_sound_until_a_process_of_it_is_left(home: Path) -> None:
    stack = own_stack(home)
    assert not [each for each in findings(stack) if each["area"] not in OF_THE_MACHINE]
    left = subprocess.Popen(["sleep", "60"], env=os.environ | {"SEARCHLOOP_STACK": str(stack.settings.home)})
    told = stack.make("doctor", check=False).stdout
    assert f"1 of the stack's processes run without its supervisor: {left.pid}" in told
    assert "→ make up, or make down" in told and "the stack is down, so not examined: code, " in told
    stack.make("down")
    assert left.wait(10) and not [each for each in findings(stack) if each["area"] not in OF_THE_MACHINE]
