"""What one team works with, beside its own folder: a Python of its environment, and a script to try its model in."""

import os
import subprocess
import sys
from pathlib import Path
from pkgutil import iter_modules
from string import Template

import click

from deploy.stack.arguments import Name
from deploy.stack.processes.listing import STACK_MARK, environment_variables
from deploy.stack.processes.shares import TRAINING
from deploy.stack.terminal import say
from shared_ops.settings import ROOT, Settings, families, python_of, repositories, variable

TEMPLATE = ROOT / "deploy" / "stack" / "notebook.py.template"
DATA = ("home", "snapshots", "staging", "read_from")
"""The settings that say where data lies."""


@click.command()
@click.argument("repository", type=Name(repositories))
@click.pass_obj
def shell(settings: Settings, repository: str) -> None:
    """Start the Python of a repository's environment, with the checkout importable and the stack's settings."""
    environment = repositories()[repository].environment
    _make(environment)
    modules = sorted(each.name for each in iter_modules([str(ROOT / "repos" / repository)]) if each.name != "tests")
    say(f"The Python of envs/{environment}, with the data of {settings.home}; exit() ends it. What is importable:")
    say(f"  from repos.{repository} import {', '.join(modules)}")
    say("  from shared_ops.data.snapshots import Snapshots, load")
    say(f"  snapshot = load(Snapshots({settings.input_snapshots_url('prod')!r}).latest())")
    python = str(python_of(environment))
    os.chdir(ROOT)
    os.execve(python, [python, "-q"], os.environ | _variables(settings))


def _make(environment: str) -> None:
    """Make an environment where it is not made; what keeps it from being made is said, and ends the command."""
    command = [sys.executable, str(ROOT / "envs" / "build.py"), "sync", environment]
    if status := subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(status)


def _variables(settings: Settings) -> dict[str, str]:
    """What a training finds in its environment, but for the mark by which `make down` ends what belongs to a stack."""
    variables = {**environment_variables(settings), **TRAINING.variables, "PYTHONPATH": str(ROOT)}
    del variables[STACK_MARK]
    return variables


@click.command()
@click.argument("repository", type=Name(families))
@click.pass_obj
def notebook(settings: Settings, repository: str) -> None:
    """Write a script with cells that trains a family's model without a server; one that is there is left alone."""
    # A script's folder comes first where Python looks: one named as a module of Python's own would stand in for it.
    path = settings.home / "notebooks" / f"{repository}_notebook.py"
    environment = families()[repository].environment
    _make(environment)
    if path.exists():
        say(f"{path} is there already, and stays as it is: move it away for a new one. It runs by:")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_written(settings, repository, environment, path))
        say(f"{path} is yours. Its first lines say how to open it; as a script it runs by:")
    say(f"  envs/{environment}/.venv/bin/python {path}")


def _written(settings: Settings, family: str, environment: str, path: Path) -> str:
    places = {variable(name): str(value) for name in DATA if (value := getattr(settings, name))}
    words = {"family": family, "environment": environment, "path": str(path), "variables": repr(places)}
    return Template(TEMPLATE.read_text()).substitute(words)
