"""What several commands need."""

import getpass
import os

from deploy.stack.dagit.client import Dagit, DagitError
from deploy.stack.processes import lifecycle
from deploy.stack.terminal import say
from shared_ops.refused import refused_code
from shared_ops.release.livesets import LiveSet, asset_path
from shared_ops.settings import Settings


def dagit_of(settings: Settings) -> Dagit:
    """The Dagit of the stack; waiting for it ends with an error once the stack has ended."""
    return Dagit(settings.url("dagit"), lambda: lifecycle.need_still_running(settings))


def reload_code(settings: Settings, dagit: Dagit, name: str) -> str | None:
    """Reload a location's code; returns what keeps it from loading, and what runs in its place."""
    if error := dagit.reload(name):
        return f"{name}'s code server runs, and its code does not load: {error}"
    if refused := refused_code(name, settings):
        return f"{name}'s code does not load, and the code of before stays in Dagit: {refused.told}"
    return None


def tell_dagit(dagit: Dagit, live: LiveSet, note: str | None, *, unless_shown: bool = False) -> None:
    """Have Dagit show that this set is live or held, and by the note who did it and why; say so where it cannot.

    With `unless_shown` only where it shows another set, as after a move that was made while it was down.
    """
    try:
        if not unless_shown or dagit.newest_number(asset_path("prod"), "set") != live.number:
            dagit.report_materialization(asset_path("prod"), live.facts(note))
    except DagitError as error:  # as on the connections that it had to a Postgres which was started anew
        say(f"Dagit does not show this before the next move: {error}")


def who() -> str:
    """The person who gives the command, as the machine knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container whose user has no name
        return f"user {os.getuid()}"
