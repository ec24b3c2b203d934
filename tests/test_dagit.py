"""What Dagit shows to people who do not program, and what its code servers take."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.stack.processes.supervisor import Supervisor
from shared_ops.settings import repositories
from tests.conftest import Stack, asked_graphql

pytestmark = pytest.mark.slow

FRAMEWORKS = ("tensorflow", "torch", "sklearn", "pandas")
MEMORY_MB = 160
"""What a code server may take when it has just started: its share of the machine's memory (PSS), as most of what it
maps is mapped by the others, too."""

DESCRIBED = """
query { repositoriesOrError { ... on RepositoryConnection { nodes {
  location { name }
  jobs { name description isAssetJob } sensors { name description } schedules { name description }
  usedSolids { definition { name description ... on SolidDefinition { configField { configType { ...options } } } } }
  assetNodes { assetKey { path } description metadataEntries { label ... on JobMetadataEntry { jobName locationName } }
    assetChecksOrError { ... on AssetChecks { checks { name description } } } }
} } } }
fragment options on ConfigType { ... on CompositeConfigType { fields { name description configType {
  ... on CompositeConfigType { fields { name description configType {
  ... on CompositeConfigType { fields { name description } } } } } } } } }
"""


def options(config: dict[str, Any] | None, path: str) -> Iterator[tuple[str, str | None]]:
    """The fields of a configuration and of those within it, each with what is said of it."""
    for field in (config or {}).get("fields") or []:
        yield f"{path}.{field['name']}", field["description"]
        yield from options(field.get("configType"), f"{path}.{field['name']}")


def said_of_everything(stack: Stack) -> Iterator[tuple[str, str | None]]:
    """Each thing that Dagit shows, with what is said of it there."""
    for repository in asked_graphql(stack, DESCRIBED)["repositoriesOrError"]["nodes"]:
        yield from ((f"job {job['name']}", job["description"]) for job in repository["jobs"] if not job["isAssetJob"])
        for kind in ("sensors", "schedules"):
            yield from ((f"{kind[:-1]} {each['name']}", each["description"]) for each in repository[kind])
        for used in repository["usedSolids"]:
            op = used["definition"]
            if "__" not in op["name"]:  # Dagster's own name of what runs an asset check, which is described itself
                yield f"op {op['name']}", op["description"]
            yield from options((op.get("configField") or {}).get("configType"), f"config {op['name']}")
        for asset in repository["assetNodes"]:
            for check in asset["assetChecksOrError"].get("checks", []):
                yield f"check {check['name']}", check["description"]


def test_a_sentence_says_what_each_thing_is_for(stack: Stack) -> None:
    said = list(said_of_everything(stack))
    assert len(said) > 150
    assert sorted({name for name, description in said if not description}) == []


def test_a_sentence_says_what_each_asset_is(stack: Stack) -> None:
    """In the location that makes it: the others name it as what they depend on."""
    said: dict[str, set[str]] = {}
    for repository in asked_graphql(stack, DESCRIBED)["repositoriesOrError"]["nodes"]:
        for asset in repository["assetNodes"]:
            said.setdefault("/".join(asset["assetKey"]["path"]), set()).add(asset["description"] or "")
    assert len(said) > 20 and [name for name, descriptions in said.items() if not any(descriptions)] == []


def test_each_asset_leads_to_the_job_that_makes_it(stack: Stack) -> None:
    """Whoever wants it anew starts that: Dagit's Materialize button is for assets that are their own jobs."""
    repositories_shown = asked_graphql(stack, DESCRIBED)["repositoriesOrError"]["nodes"]
    jobs = {(each["location"]["name"], job["name"]) for each in repositories_shown for job in each["jobs"]}
    nodes = [node for each in repositories_shown for node in each["assetNodes"] if node["description"]]
    made = {
        "/".join(node["assetKey"]["path"]): (entry["locationName"], entry["jobName"])
        for node in nodes
        for entry in node["metadataEntries"]
        if entry["label"] == "made by"
    }
    assert set(made.values()) <= jobs
    keys = {"/".join(node["assetKey"]["path"]) for node in nodes}
    assert keys - set(made) == {key for key in keys if "/source/" in key}  # which are made elsewhere


@pytest.mark.parametrize("name", repositories())
def test_a_code_server_holds_no_framework_and_little_memory(stack: Stack, name: str) -> None:
    stack.make("code-server", f"REPO={name}")  # one that has just started: what it read since for its ticks is gone
    outer = psutil.Process(Supervisor(stack.settings).states()[f"code-{name}"].pid)
    inner = max(outer.children(), key=lambda process: process.create_time())
    files = [each.path.partition("site-packages/")[2] for each in inner.memory_maps()]
    mapped = {Path(file).parts[0] for file in files if file}
    assert mapped and not mapped & set(FRAMEWORKS)
    taken = inner.memory_full_info().pss / 2**20
    assert taken <= MEMORY_MB, f"{name}'s code server takes {taken:.0f} MB"
