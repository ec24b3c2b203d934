"""Removes what is left in envs/ of environments that git has no more.

`make up` calls it once all that it starts is started, `make envs` runs it: `python -m deploy.environments` in
envs/platform.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from deploy.stack.processes import workers
from deploy.stack.terminal import say
from shared_ops.release import runtimes
from shared_ops.settings import ROOT, Settings

MADE = {".venv", ".venv.new", ".venvs"}
"""The names of what envs/build.py makes in an environment's folder, none of which is in git."""


def remove_left(settings: Settings, say: Callable[[str], None]) -> None:
    """Remove what nothing needs of the environments that git has no more; says what was done with each, and why."""
    for folder in sorted(filter(_is_left, (ROOT / "envs").glob("*/"))):
        say(_removed(folder, settings))


def _is_left(folder: Path) -> bool:
    """Whether a folder holds an environment, and nothing that is in git."""
    names, link = {each.name for each in folder.iterdir()}, folder / ".venv"
    return names <= MADE and (".venvs" in names or link.is_symlink() or (link / runtimes.STAMP).exists())


def _removed(folder: Path, settings: Settings) -> str:
    """Remove what is left of an environment, unless something needs it; returns what was done."""
    stays = f"{folder.name:<9} stays, though git has it no more: "
    if any(folder in place.parents for place in workers.environments_of_processes()):
        return f"{stays}a process runs from it. Once it has ended: make envs"
    made = (*folder.glob(".venvs/*"), folder / ".venv")
    if kept := dict.fromkeys(url for each in made for url in runtimes.kept_in(each, settings)):
        return f"{stays}releases made in it are kept, with its lock in {', '.join(kept)}. Once none is: make envs"
    shutil.rmtree(folder)
    return f"{folder.name:<9} removed: git has it no more"


if __name__ == "__main__":
    try:
        remove_left(Settings(), say)
    except ValidationError:
        sys.exit()  # whoever starts a stack with these settings is told; which releases are kept, nobody knows
