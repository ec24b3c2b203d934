"""The stack's commands: `envs/platform/.venv/bin/python -m deploy.stack <command>`; the Makefile calls them."""

import os
import sys
from typing import Any

import click
from pydantic import ValidationError

from deploy.stack import arguments
from deploy.stack.commands import health, models, operator, people, running, team
from deploy.stack.dagit import training
from deploy.stack.dagit.client import DagitError
from deploy.stack.processes import lifecycle, places
from deploy.stack.processes.lifecycle import SECRET, StackError
from deploy.stack.processes.places import HomeError
from deploy.stack.processes.supervisor import NotRunningError
from deploy.stack.search.searching import SearchError
from deploy.stack.terminal import hear_interrupts, visible
from deploy.stack.traffic import simulation
from shared_ops.release import promotion
from shared_ops.release.codes import CodeError
from shared_ops.release.releases import ReleaseError
from shared_ops.release.runtimes import RuntimeMissingError
from shared_ops.settings import Settings, unread


@click.group()
@click.pass_context
def commands(context: click.Context) -> None:
    """Start, end, look at and use the stack whose home is SEARCHLOOP_HOME."""
    settings = Settings()
    for name, meant in unread(os.environ).items():
        message = f"{name} is no setting, and nothing reads it.{f' Was {meant} meant?' if meant else ''} See make help"
        click.echo(message, err=True)
    places.refuse_no_folder(settings)
    lifecycle.refuse_other_addresses(settings)
    lifecycle.refuse_unknown_repositories(settings)
    # `up` compares them, as all settings, with those that the stack runs with.
    asks = context.invoked_subcommand != "up"
    context.obj = lifecycle.with_running_repositories(settings) if asks else settings


for module in (running, health, models, operator, team, people):
    for command in vars(module).values():
        if isinstance(command, click.Command):
            commands.add_command(command)


def main() -> None:
    """Run a command; an error is told in one message, without a stack trace."""
    hear_interrupts()
    try:
        commands(prog_name="python -m deploy.stack", standalone_mode=False)
    except click.Abort:
        sys.exit("Interrupted. What the stack does goes on: make status")
    except click.BadParameter as error:
        sys.exit(visible(arguments.argument_error(error)))
    except click.ClickException as error:
        sys.exit(visible(error.format_message()))
    except ValidationError as error:
        sys.exit("\n".join(visible(_problem(each)) for each in error.errors()))
    except (StackError, HomeError, DagitError, NotRunningError, SearchError, ValueError) as error:
        sys.exit(visible(str(error)))
    except (CodeError, RuntimeMissingError) as error:
        sys.exit(visible(str(error)))
    except (training.TrainingError, simulation.SimulationError, promotion.PromotionError, ReleaseError) as error:
        sys.exit(visible(str(error)))


def _problem(error: Any) -> str:
    """What is wrong with a setting: its name, the value that came, and what was expected."""
    field = str(error["loc"][0])
    came = "" if field in SECRET else f"={error['input']}"
    return f"SEARCHLOOP_{field.upper()}{came}: {error['msg'].removeprefix('Value error, ')}"


if __name__ == "__main__":
    main()
