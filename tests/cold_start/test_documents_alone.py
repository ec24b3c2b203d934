"""Documents alone: two commands give a live search, and SIMULATED clicks alone make it better. Advice on the way helps.

The corpus is a CSV of 500 docstrings of Python's standard library: no query, no judgement.
"""

import importlib
import inspect
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

from deploy.stack.traffic.search_client import SearchApp
from deploy.stack.traffic.simulation import Record
from shared_ops.data import snapshots
from shared_ops.release.inputs import reach
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import ROOT, families
from tests.cold_start.conftest import write_documents
from tests.conftest import UP_SECONDS, Stack, free_port_base

pytestmark = pytest.mark.slow

ROWS = 500
MODULES = """
    argparse ast asyncio base64 bisect calendar codecs collections configparser contextlib csv dataclasses datetime
    decimal difflib email enum fractions functools glob gzip hashlib heapq html inspect io ipaddress itertools json
    linecache locale logging mailbox math mimetypes operator os pathlib pprint random re sched secrets shlex shutil
    signal smtplib socket sqlite3 ssl statistics string struct subprocess tarfile tempfile textwrap threading time
    tokenize traceback types unicodedata unittest urllib.parse urllib.request uuid warnings weakref zipfile zlib
"""


def docstrings() -> dict[str, str]:
    """Names and docstrings of the public functions and classes of Python's standard library."""
    texts: dict[str, str] = {}
    for name in MODULES.split():
        for attribute, value in inspect.getmembers(importlib.import_module(name)):
            text = inspect.getdoc(value) if inspect.isroutine(value) or inspect.isclass(value) else None
            if text and len(text) > 60 and not attribute.startswith("_") and text not in texts.values():
                texts[f"{name}.{attribute}"] = text
    return texts


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    texts = docstrings()
    chosen = random.Random(0).sample(sorted(texts), ROWS)
    return write_documents(folder / "sources.yaml", [(name, name, texts[name]) for name in chosen])


@pytest.fixture(scope="module")
def sets(stack: Stack) -> LiveSets:
    return LiveSets(stack.settings.staging_url("prod"))


@pytest.fixture(scope="module")
def staging(stack: Stack) -> Staging:
    return Staging(stack.settings.staging_url("prod"))


@pytest.fixture(scope="module")
def interrupted(stack: Stack) -> str:
    """Somebody interrupts the first `make up` once the servers run, while the models are trained."""
    up = subprocess.Popen(
        ["make", "up"], cwd=ROOT, env=stack.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    said = []
    for line in up.stdout:
        said.append(line)
        if line.startswith("training "):
            break
    else:
        pytest.fail("make up did not come to the training:\n" + "".join(said))
    os.killpg(up.pid, signal.SIGINT)
    up.communicate(timeout=60)
    return "".join(said)


def trained_as_advised(stack: Stack, family: str, tries: int = 5) -> str:
    """Train a family; where the message says to train another one first, train that, and then try again."""
    done = stack.make("train", f"REPO={family}", check=False)
    if done.returncode == 0:
        return done.stdout
    advised = re.search(r"make train REPO=(\w+)", done.stdout)
    assert advised and tries, done.stdout
    return trained_as_advised(stack, advised[1], tries - 1) + trained_as_advised(stack, family, tries - 1)


@pytest.fixture(scope="module")
def up(stack: Stack, interrupted: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of the command that every command advises which needs a live set and finds none."""
    out = tmp_path_factory.mktemp("evaluated")
    for command in (["search", "Q=read a file"], ["evaluate", f"OUT={out}"], ["simulate"], ["lineage"], ["status"]):
        told = stack.make(*command, check=False)
        assert "make train" in told.stdout, told.stdout
        assert told.returncode or command[0] in ("lineage", "status"), told.stdout
    return trained_as_advised(stack, "ranker") + stack.make("train").stdout + stack.make("up").stdout


@pytest.fixture(scope="module")
def first(up: str, sets: LiveSets) -> LiveSet:
    """The set that was live before anybody clicked."""
    return sets.live()


def test_two_commands_give_a_live_search_that_all_models_answer(stack: Stack, up: str, first: LiveSet) -> None:
    assert first.number == 1 and "from set 1" in up
    app = SearchApp(stack.settings.url("search"))
    titles = snapshots.load(first.snapshot).documents()["title"].gather_every(ROWS // 10).to_list()
    shown = [[hit["title"] for hit in app.whole_search(title, 10)["hits"]] for title in titles]
    app.close()
    hit_count = sum(title in hits for title, hits in zip(titles, shown, strict=True))
    assert hit_count >= 0.8 * len(titles), dict(zip(titles, shown, strict=True))


def test_it_is_said_that_nothing_was_judged_and_what_would_change_that(
    up: str, first: LiveSet, staging: Staging
) -> None:
    assert "nothing was judged" in up and "people's clicks, change that" in up
    for family, version in first.releases.items():
        verdict = staging.manifest(family, version).gate
        assert verdict["accepted"] and verdict["queries"] == 0 and "change that" in verdict["notes"][0]
    assert staging.manifest("behavior", first.releases["behavior"]).gate["notes"][0].startswith("It abstains")
    assert staging.manifest("ranker", first.releases["ranker"]).hyperparameters["kind_chosen"] == "fusion"


def test_who_would_evaluate_is_told_that_there_is_nothing_to_evaluate_on(
    stack: Stack, first: LiveSet, tmp_path: Path
) -> None:
    told = stack.make("evaluate", f"OUT={tmp_path}", check=False)
    assert told.returncode and "no judged test queries" in told.stdout and "make simulate" in told.stdout


def simulated_as_advised(stack: Stack, *arguments: str, tries: int = 3) -> None:
    """Simulate as the README says; where the gates let nothing through, do what the message says then."""
    done = stack.make("simulate", *arguments, check=False, seconds=1200)
    if done.returncode:
        advised = re.search(r"make simulate (SESSIONS=\d+ SEED=\d+ WATCH=1)", done.stdout)
        assert advised and tries, done.stdout
        simulated_as_advised(stack, *advised[1].split(), tries=tries - 1)


@pytest.fixture(scope="module")
def record(stack: Stack, first: LiveSet) -> Record:
    """SIMULATED people searched for documents and clicked, and another set went live."""
    simulated_as_advised(stack, "SESSIONS=300", "WATCH=1")
    written = sorted((stack.settings.home / "simulation").glob("*.json"))[-1]
    return Record.model_validate_json(written.read_text())


def test_clicks_alone_make_the_final_order_surely_better(record: Record, first: LiveSet, sets: LiveSets) -> None:
    assert sets.live().number > first.number
    assert record.held_back.surely_better, record.held_back.sentence


def test_the_newest_sessions_judged_what_went_live(
    record: Record, first: LiveSet, sets: LiveSets, staging: Staging
) -> None:
    live = sets.live()
    for family in ("behavior", "ranker"):
        manifest = staging.manifest(family, live.releases[family])
        assert manifest.version != first.releases[family] and manifest.feedback
        assert manifest.gate["accepted"] and manifest.gate["queries"] > 20
    assert reach(staging.release_url("behavior", live.releases["behavior"]))
    assert staging.manifest("ranker", live.releases["ranker"]).hyperparameters["kind_chosen"] != "fusion"
    assert set(live.releases) == set(families())


def test_what_was_rolled_back_comes_back_as_the_message_says(stack: Stack, record: Record, sets: LiveSets) -> None:
    live = sets.live()
    stack.make("rollback")
    assert sets.live().number < live.number
    told = stack.make("status").stdout
    assert f"rolled back: set {live.number}" in told and f"make promote SET={live.number} WHY=" in told
    stack.make("promote", f"SET={live.number}", "WHY=it was good after all")
    assert sets.live() == live


def test_lineage_names_what_can_be_trained_again(stack: Stack, record: Record, sets: LiveSets) -> None:
    refused = stack.make("reproduce", "RELEASE=keyword/1", check=False)
    assert refused.returncode and "make lineage" in refused.stdout, refused.stdout
    name = f"keyword/{sets.live().releases['keyword']}"
    assert name in stack.make("lineage").stdout
    assert "are the same, bit for bit" in stack.make("reproduce", f"RELEASE={name}").stdout


def test_advice_leads_from_other_sources_and_ports_to_an_answer(
    stack: Stack, record: Record, sources: Path, sets: LiveSets
) -> None:
    """A running stack refuses other sources, other ports and to be cleaned, and says: down; one that is down says: up.

    What it says of other ports is a whole command line, which is run as it stands.
    """
    other = sources.with_name("other.yaml")
    other.write_bytes(sources.read_bytes())
    stack.environment["SEARCHLOOP_SOURCES"] = str(other)
    refused = stack.make("up", check=False)
    assert refused.returncode and "make down, then make up" in refused.stdout, refused.stdout
    refused = stack.make("clean", check=False)
    assert refused.returncode and "make down first" in refused.stdout, refused.stdout
    stack.settings = stack.settings.model_copy(update={"port_base": free_port_base()})
    stack.environment["SEARCHLOOP_PORT_BASE"] = str(stack.settings.port_base)
    refused = stack.make("up", check=False)
    advised = re.search(r"or move the stack: (SEARCHLOOP_.* make down), then make up\.$", refused.stdout, re.MULTILINE)
    assert refused.returncode and advised, refused.stdout
    subprocess.run(advised[1], shell=True, cwd=ROOT, env=stack.environment, check=True, timeout=UP_SECONDS)
    for command in ("search", "status", "train", "simulate"):
        arguments = ["Q=read a file"] if command == "search" else []
        refused = stack.make(command, *arguments, check=False)
        assert refused.returncode and "is not running: make up" in refused.stdout, refused.stdout
    assert "is not running: make up answers from it" in stack.make("rollback").stdout
    live = sets.live()
    stack.make("up")
    answer = stack.search("read a file")
    assert answer["hits"] and answer["live_set"]["number"] == live.number
    stack.make("down")
    stack.make("clean")
