"""Everything that names the repositories agrees with repos/repos.toml."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from deploy.matrix import suites
from deploy.stack.processes.listing import environment_variables, processes, worker
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import ROOT, Settings, families, repositories

REPOSITORIES = list(repositories())
OF_EACH_FAMILY = {"Parameters", "TrainConfig"}
"""Classes that every family has, in its model.py and its ops.py, by the same name."""


def sources() -> dict[Path, str]:
    """Every Python file outside tests, by its path."""
    places = ("bench", "deploy", "repos", "services", "shared_ops/src")
    files = [path for place in places for path in (ROOT / place).rglob("*.py") if "tests" not in path.parts]
    return {path.relative_to(ROOT): path.read_text() for path in files}


def test_the_workspace_has_a_code_location_for_each_repository() -> None:
    entries = [entry["grpc_server"] for entry in yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]]
    assert [entry["location_name"] for entry in entries] == REPOSITORIES
    variables = environment_variables(Settings())
    for entry in entries:
        settings = Settings()
        assert variables[entry["host"]["env"]] == settings.host
        assert int(variables[entry["port"]["env"]]) == settings.ports[f"code-{entry['location_name']}"]


def test_the_process_list_has_a_code_server_for_each_repository_in_its_own_environment() -> None:
    listed = {process.name: process for process in processes(Settings())}
    for name, repository in repositories().items():
        command = listed[f"code-{name}"].command
        assert command[0] == str((ROOT / "envs" / repository.environment / ".venv").resolve() / "bin" / "python")
        assert f"repos.{name}.definitions" in command


def test_the_process_list_has_a_prediction_service_for_each_family_in_its_own_environment() -> None:
    for name, repository in families().items():
        python = str((ROOT / "envs" / repository.environment / ".venv").resolve() / "bin" / "python")
        command = worker(Settings(), Runtime(name, "", "")).command
        assert command[command.index(python) + 1 :][:3] == ["-m", "services.prediction", name]


def test_no_two_processes_share_a_name_or_a_port() -> None:
    settings = Settings()
    listed = [*processes(settings), *(worker(settings, Runtime(family, "", "")) for family in families())]
    ports = [process.port for process in listed if process.port]
    assert len(ports) == len(set(ports)) and set(ports) == set(Settings().ports.values())
    assert len(listed) == len({process.name for process in listed})


def test_each_repository_has_one_owner_for_its_code_and_its_environment() -> None:
    lines = [line.split() for line in (ROOT / ".github" / "CODEOWNERS").read_text().splitlines()]
    owners = {line[0]: line[1:] for line in lines if line and line[0] != "#"}
    expected = {"*": ["@searchloop/platform"]}
    teams: dict[str, set[str]] = {}
    for name, repository in repositories().items():
        expected[f"/repos/{name}/"] = [repository.owner]
        teams.setdefault(repository.environment, set()).add(repository.owner)
    for environment, its in teams.items():  # where several teams share one, it is the platform's
        expected[f"/envs/{environment}/"] = list(its) if len(its) == 1 else ["@searchloop/platform"]
    assert owners == expected


def test_the_borders_between_all_repositories_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    independent = next(contract for contract in contracts if contract["type"] == "independence")
    assert independent["modules"] == [f"repos.{name}" for name in REPOSITORIES]


@pytest.mark.parametrize("name", REPOSITORIES)
def test_each_repository_is_laid_out_alike(name: str) -> None:
    folder = ROOT / "repos" / name
    expected = {"README.md", "definitions.py", "ops.py", "model.py" if name in families() else "graph.py"}
    assert expected <= {path.name for path in folder.iterdir()}
    assert f"repos/{name}/tests" in suites()


@pytest.mark.parametrize("name", REPOSITORIES)
def test_each_readme_tells_the_owner_and_how_to_train_only_this_one(name: str) -> None:
    text = (ROOT / "repos" / name / "README.md").read_text()
    assert repositories()[name].owner in text
    if repositories()[name].role != "live":  # it trains nothing
        assert f"make train REPO={name}" in text


def test_no_folder_stands_outside_the_list() -> None:
    folders = {path.name for path in (ROOT / "repos").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(REPOSITORIES)


def test_each_repository_has_its_environment_and_states_its_python() -> None:
    for repository in repositories().values():
        for file in ("requirements.in", "requirements.txt", ".python-version"):
            assert (ROOT / "envs" / repository.environment / file).exists()


def test_every_client_of_one_s_own_addresses_passes_proxies_by() -> None:
    """httpx reads http_proxy and fails on a proxy that it does not know, even where it would not use it."""
    asks = re.compile(r"httpx\.(get|post|put|head|request|stream|Client|AsyncClient)\((?:[^()]|\([^()]*\))*\)")
    calls = {f"{path}: {call[0]}" for path, text in sources().items() for call in asks.finditer(text)}
    assert len(calls) > 5
    assert {call for call in calls if "trust_env=False" not in call} == set()


def test_a_class_s_name_says_which_it_is() -> None:
    nodes = [node for text in sources().values() for node in ast.walk(ast.parse(text))]
    times = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in times.items() if count > 1} == dict.fromkeys(OF_EACH_FAMILY, len(families()))
