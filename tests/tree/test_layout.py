"""Everything that names the repositories agrees with repos/repos.toml."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from deploy import generate
from deploy.matrix import suites
from deploy.stack.processes.listing import environment_variables, processes, worker
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import LIST, ROOT, Repository, Settings, families, repositories, source_repositories

REPOSITORIES = list(repositories())
OF_EACH_FAMILY = {"Parameters", "TrainConfig"}
"""Classes that every family has, in its model.py and its ops.py, by the same name."""


def sources() -> dict[Path, str]:
    """Every Python file outside tests, by its path."""
    places = ("bench", "deploy", "repos", "services", "shared_ops/src")
    files = [path for place in places for path in (ROOT / place).rglob("*.py") if "tests" not in path.parts]
    return {path.relative_to(ROOT): path.read_text() for path in files}


def test_what_is_generated_is_as_the_list_says() -> None:
    assert "".join(generate.differences()) == ""


def test_the_workspace_s_variables_are_those_that_the_stack_sets() -> None:
    variables, settings = environment_variables(Settings()), Settings()
    for entry in yaml.safe_load(generate.workspace(repositories()))["load_from"]:
        server = entry["grpc_server"]
        assert variables[server["host"]["env"]] == settings.host
        assert int(variables[server["port"]["env"]]) == settings.ports[f"code-{server['location_name']}"]


def test_one_entry_more_changes_each_generated_file_by_its_own_lines() -> None:
    entry = Repository(owner="@org/news", environment="one_more", role="search", queue="one_more", port=17)
    before, after = generate.files(repositories()), generate.files({**repositories(), "one_more": entry})
    gained = {name: set(after[name].splitlines()) - set(before[name].splitlines()) for name in after}
    assert {name: {" ".join(line.split()) for line in lines} for name, lines in gained.items()} == {
        "workspace.yaml": {"location_name: one_more", "port: { env: SEARCHLOOP_PORT_CODE_ONE_MORE }"},
        ".github/CODEOWNERS": {"/repos/one_more/ @org/news", "/envs/one_more/ @org/news"},
    }
    assert len(yaml.safe_load(after["workspace.yaml"])["load_from"]) == len(REPOSITORIES) + 1


def test_an_environment_that_teams_share_is_the_platform_s() -> None:
    def owner(of: str) -> str:
        entry = Repository(owner="@org/news", environment=of, role="search", queue="one_more", port=17)
        lines = generate.owners({**repositories(), "one_more": entry}).splitlines()
        return dict(line.split() for line in lines if line[0] != "#")[f"/envs/{of}/"]

    others = {each.environment for each in repositories().values() if each.owner != "@searchloop/platform"}
    assert {owner(each) for each in others} == {"@searchloop/platform"} and owner("its_own") == "@org/news"


def test_what_a_hand_changed_is_told_with_the_difference_and_the_command(tmp_path: Path) -> None:
    for name in (*generate.files(repositories()), LIST):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "workspace.yaml").write_text((ROOT / "workspace.yaml").read_text().replace("CODE_LIVE", "CODE_LIFE"))

    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        script = "import runpy, pathlib, sys, shared_ops.settings as s; s.ROOT = pathlib.Path(sys.argv.pop(1)); "
        script += "runpy.run_module('deploy.generate', run_name='__main__')"
        command = [sys.executable, "-c", script, str(tmp_path), *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    told = ran("--check")
    assert told.returncode == 1 and told.stderr.endswith("\nmake generate\n")
    assert [line for line in told.stderr.splitlines() if re.match("[-+] ", line)] == [
        "-      port: { env: SEARCHLOOP_PORT_CODE_LIFE }",
        "+      port: { env: SEARCHLOOP_PORT_CODE_LIVE }",
    ]
    assert ran().stdout == "workspace.yaml written\n" and ran("--check").returncode == 0
    (tmp_path / LIST).write_text((ROOT / LIST).read_text().replace("vectors =", "vektors ="))
    assert "semantic: nothing reads vektors. Expected some of owner," in ran("--check").stderr


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


@pytest.mark.parametrize("name", REPOSITORIES)
def test_each_repository_is_laid_out_alike(name: str) -> None:
    folder = ROOT / "repos" / name
    own = {"ops.py", "model.py" if name in families() else "graph.py"}
    expected = {"README.md", "definitions.py", *({"source.py"} if name in source_repositories() else own)}
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
