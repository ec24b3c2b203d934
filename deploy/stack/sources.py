"""Whether the sources that a stack is started on can be read.

Knows neither what a source is nor how it is read: the corpus says that, in its own environment.
"""

import subprocess
from collections.abc import Callable

from deploy.stack.processes.lifecycle import StackError
from shared_ops.release.livesets import LiveSets
from shared_ops.settings import ROOT, Settings, data_repository, python_of, repositories

SECONDS = 120
"""How long the look at the sources may take; one that takes longer is given up, which is no error."""


def check(settings: Settings, say: Callable[[str], None]) -> None:
    """Say what is wrong with the sources, before anything starts; nothing where the stack does not build from them.

    Raises:
        StackError: where nothing is live yet, so that a build would have to follow.
    """
    wrong = problems(settings) if settings.runs(data_repository()) else []
    if wrong is None:
        say(f"sources: the look at them was given up after {SECONDS:g} s; the build will say what is wrong with them.")
        return
    if wrong and LiveSets(settings.staging_url("prod")).live() is None:
        listed = "\n".join(f"- {problem}" for problem in wrong)
        raise StackError(f"The corpus cannot be built from {settings.sources}, so nothing was started:\n{listed}")
    for problem in wrong:
        say(f"sources: {problem} What is live stays as it is.")


def problems(settings: Settings) -> list[str] | None:
    """What keeps the configured sources from being read, in the corpus' own words; empty when nothing does.

    None where the look at them takes longer than SECONDS.
    """
    name = data_repository()
    python = python_of(repositories()[name].environment)
    command = [str(python), "-W", "ignore", "-m", f"repos.{name}.preflight", str(settings.sources)]
    try:
        result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    if result.returncode and not result.stdout.strip():
        return [f"they could not be looked at: {result.stderr.strip()}"]
    return result.stdout.splitlines() if result.returncode else []
