"""What several commands need."""

import getpass
import os

from deploy.stack.dagit.client import Dagit
from deploy.stack.processes import lifecycle
from shared_ops.settings import Settings


def dagit_of(settings: Settings) -> Dagit:
    """The Dagit of the stack; waiting for it ends with an error once the stack has ended."""
    return Dagit(settings.url("dagit"), lambda: lifecycle.need_still_running(settings))


def who() -> str:
    """The person who gives the command, as the machine knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container whose user has no name
        return f"user {os.getuid()}"
