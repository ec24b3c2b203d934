"""What one team works with: the Python of its environment, and a script that trains its model without a server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.stack.commands import team
from deploy.stack.processes.listing import STACK_MARK
from shared_ops.data.snapshots import Snapshots
from shared_ops.release.releases import Staging
from shared_ops.settings import ROOT, Settings, families, python_of
from tests import corpus


def run(home: Path, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """A command in the checkout, with a home of its own and no other setting."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEARCHLOOP_")}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=inherited | {"SEARCHLOOP_HOME": str(home)},
        input=given,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )


def notebook(home: Path, family: str) -> str:
    """What the command says; it is one of click's, called in this process."""
    done = CliRunner().invoke(team.notebook, [family], obj=Settings(home=home), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_shell_is_the_environments_python_with_the_repository_and_the_stacks_settings(tmp_path: Path) -> None:
    asked = (
        "import os, sys; from repos.keyword import model; from shared_ops.settings import current\n"
        f"print(sys.prefix, model.FORMAT, current().home, os.environ.get('{STACK_MARK}'))\n"
    )
    said = run(tmp_path, sys.executable, "-m", "deploy.stack", "shell", "keyword", given=asked).stdout
    assert "The Python of envs/keyword" in said and "from repos.keyword import bm25, definitions, model" in said
    assert said.splitlines()[-1] == f"{python_of('keyword').parent.parent} 1 {tmp_path} None"


def test_a_notebook_is_written_once_and_is_a_script_in_the_projects_style(tmp_path: Path) -> None:
    for family in families():
        notebook(tmp_path, family)
    notebooks = sorted((tmp_path / "notebooks").iterdir())
    assert [path.name for path in notebooks] == sorted(f"{family}_notebook.py" for family in families())
    ruff = Path(sys.executable).parent / "ruff"
    # Its imports come after the settings that they read; nobody calls it, and no terminal is in danger.
    style = [str(ruff), "check", "--no-cache", "--ignore=E402,D,T20,INP,E501,I001", *map(str, notebooks)]
    assert subprocess.run(style, cwd=ROOT, check=False).returncode == 0
    notebooks[0].write_text("mine")
    again = notebook(tmp_path, notebooks[0].stem.removesuffix("_notebook"))
    assert "is there already, and stays as it is" in again
    assert notebooks[0].read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["keyword", "behavior"])
def test_the_script_trains_compares_with_the_accepted_release_runs_the_op_and_publishes_nothing(
    tmp_path: Path, family: str
) -> None:
    settings = Settings(home=tmp_path)
    snapshots = Snapshots(settings.snapshots_url("prod"))
    snapshots.point_to(snapshots.publish(corpus.content()))
    python = str(python_of(families()[family].environment))
    job = f"from repos.{family}.definitions import defs; defs.resolve_job_def('{family}_prod').execute_in_process()"
    trained = run(tmp_path, python, "-c", job)
    version = Staging(settings.staging_url("prod")).accepted(family)
    assert version, trained.stderr
    notebook(tmp_path, family)
    done = run(tmp_path, python, str(tmp_path / "notebooks" / f"{family}_notebook.py"))
    assert done.returncode == 0, done.stderr
    assert "8 documents, 3 queries to judge by" in done.stdout
    assert f"accepted {version}: 'median along an axis'" in done.stdout and "trained here:\n| slice" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Accepted")
    dev = Staging(settings.staging_url("dev"))
    assert dev.versions(family) == [] and dev.accepted(family) is None and dev.candidates() == []
    assert Staging(settings.staging_url("prod")).versions(family) == [version]
