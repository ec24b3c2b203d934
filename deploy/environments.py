"""Removes what is left in envs/ of environments that git has no more.

Run as `python -m deploy.environments <name> ...` in envs/platform, by envs/build.py.
"""

import shutil
import sys

from pydantic import ValidationError

from deploy.stack.processes import workers
from deploy.stack.terminal import say
from shared_ops.release import runtimes
from shared_ops.settings import ROOT, Settings


def remove(name: str, settings: Settings) -> str:
    """Remove what is left of an environment, unless something needs it; says what was done."""
    folder = ROOT / "envs" / name
    if any(folder in place.parents for place in workers.environments_of_processes()):
        return f"{name:<9} stays, though git has it no more: a process runs from it"
    made = {runtimes.made_from(each) for each in (*folder.glob(".venvs/*"), folder / ".venv")}
    if any(lock and runtimes.is_kept(lock, settings) for lock in made):
        return f"{name:<9} stays, though git has it no more: a release that is kept was made in it"
    shutil.rmtree(folder)
    return f"{name:<9} removed: git has it no more"


if __name__ == "__main__":
    try:
        chosen = Settings()
    except ValidationError:
        sys.exit()  # whoever starts a stack with these settings is told; which releases are kept, nobody knows
    for each in sys.argv[1:]:
        say(remove(each, chosen))
