"""What starts the stack, ends it and looks at it."""

import os
import time

import click

from deploy import environments
from deploy.stack import saves, sources
from deploy.stack import status as status_of
from deploy.stack.commands.common import dagit_of, reload_code, tell_dagit, who
from deploy.stack.dagit import training
from deploy.stack.dagit.client import Dagit
from deploy.stack.processes import lifecycle, places
from deploy.stack.processes.lifecycle import StackError
from deploy.stack.processes.listing import processes
from deploy.stack.processes.supervisor import Supervisor
from deploy.stack.search.searching import wait_for_search
from deploy.stack.terminal import console, say
from shared_ops.data.snapshots import Snapshots
from shared_ops.refused import mended_by
from shared_ops.release.livesets import LiveSets
from shared_ops.release.releases import Staging
from shared_ops.settings import (
    LIST,
    Settings,
    data_repository,
    families,
    live_repository,
    ranking_families,
    repositories,
    search_families,
    source_repositories,
)

PROD_LINEAGE = "/asset-groups~group%3A%22prod%22/"
"""Where Dagit shows the lineage of prod alone: its own page of all lineage opens with groups that are folded."""


@click.command()
@click.option("--watch", is_flag=True, help="Then reload what is saved, as `dev` does.")
@click.pass_obj
def up(settings: Settings, watch: bool) -> None:
    """Start everything, train where nothing is live yet, and wait until a search answers."""
    began = time.monotonic()
    settings = lifecycle.agree_with_running(settings, say)
    lifecycle.refuse_unfit_read_from(settings)
    sources.check(settings, say)
    say(f"servers (home {settings.home})")
    lifecycle.start(settings, lambda line: say(f"  {line}"))
    dagit = dagit_of(settings)
    names = [name for name in repositories() if settings.runs(name)]
    lifecycle.wait_for_locations(settings, dagit, names, lambda line: say(f"  {line}"))
    _follow_list(settings, dagit)
    environments.remove_left(settings, say)
    if lacking := _lacking(settings):
        _train_part(settings, dagit)
        say(f"no search is waited for: no set goes live without {', '.join(lacking)} (SEARCHLOOP_REPOS)")
        say(f"up after {time.monotonic() - began:.0f} s\n")
        return _addresses(settings)
    if LiveSets(settings.staging_url("prod")).live() is None:
        say("training the first set of models")
        because = f"make up by {who()}: no set of models was live yet"
        training.train(settings, dagit, None, lambda line: say(f"  {line}"), because=because)
    else:
        _tell_dagit(settings, dagit)
    say(f"search: {wait_for_search(settings, say, lambda: lifecycle.need_still_running(settings))}")
    say(f"up after {time.monotonic() - began:.0f} s\n")
    _addresses(settings)
    if watch:
        saves.follow(settings, dagit, say)


@click.command()
@click.pass_obj
def dev(settings: Settings) -> None:
    """Reload in the running stack what is saved, where it loads, until Ctrl-C."""
    lifecycle.need_running(settings)
    saves.follow(settings, dagit_of(settings), say)


def _follow_list(settings: Settings, dagit: Dagit) -> None:
    """Reload the locations whose definitions name others, where the list has changed since they were loaded.

    Dagit's lineage would lack what the list has gained, and show what is gone.
    """
    for name in lifecycle.of_another_list(settings):
        if problem := reload_code(settings, dagit, name):
            say(f"  {problem} Mend it, then: {mended_by(name)}")
        else:
            say(f"  {name:<17} reloaded: {LIST} has changed since it was loaded")


def _lacking(settings: Settings) -> list[str]:
    """The repositories without which no set goes live, and which this part of a stack does not run.

    Of several rankers one is enough.
    """
    rankers = [] if any(map(settings.runs, ranking_families())) else ranking_families()
    return [name for name in (live_repository(), *search_families(), *rankers) if not settings.runs(name)]


def _train_part(settings: Settings, dagit: Dagit) -> None:
    """Train what this part of a stack runs and has no result of yet, as far as its data is there or is made here."""
    snapshots = Snapshots(settings.input_snapshots_url("prod"))
    snapshot = snapshots.latest()
    staging = Staging(settings.staging_url("prod"))
    data, chosen = data_repository(), [family for family in families() if settings.runs(family)]
    lacking = [name for name in filter(settings.runs, source_repositories()) if _gave_nothing(settings, name)]
    if snapshot is None and not settings.runs(data):
        say(f"no model is trained: there is no snapshot in {snapshots.url}, and {data} makes them")
        chosen = []
    elif snapshot is None:
        lacking.append(data)
    lacking += [name for name in chosen if not staging.accepted(name)]
    if lacking:
        say(f"training {', '.join(lacking)}")
        because = f"make up by {who()}: there was no result yet"
        training.train(settings, dagit, lacking, lambda line: say(f"  {line}"), because=because)
    for family in chosen:
        say(f"accepted: {family}/{staging.accepted(family)}")


def _gave_nothing(settings: Settings, source: str) -> bool:
    return Snapshots(settings.source_url("prod", source)).latest() is None


def _tell_dagit(settings: Settings, dagit: Dagit) -> None:
    """Tell Dagit of the newest move of the live set if it does not know of it, as of one made while Dagit was down."""
    sets = LiveSets(settings.staging_url("prod"))
    live, moved = sets.live(), [move for move in sets.moves() if not move.held]
    if live:
        tell_dagit(dagit, live, moved[0].note if moved else None, unless_shown=True)


@click.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """End everything that belongs to the stack, and nothing else."""
    lifecycle.stop(settings, say)


@click.command()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the processes, the code locations, what runs and what failed, the live set, and what was rejected."""
    console.print(status_of.table(settings))
    for line in status_of.lines(settings):
        say(line)


@click.command()
@click.argument("process", required=False)
@click.pass_obj
def logs(settings: Settings, process: str | None) -> None:
    """Follow the logs of all processes, or of one; show their ends where the stack is down."""
    workers = Supervisor(settings).workers()
    names = [*workers, *(each.name for each in processes(settings))]
    chosen = [name for name in names if process in (None, name) or (name in workers and name.startswith(f"{process}-"))]
    if not chosen:
        raise StackError(f"No process {process}. There are: {', '.join(names)}.")
    files = [places.log_file(settings, name) for name in chosen]
    if not any(file.exists() for file in files):
        raise StackError(f"No logs in {settings.home / 'logs'} yet: make up")
    follow = ["-F"] if Supervisor(settings).running() else []
    tail = ["tail", "-n", "20", *follow, *(str(file) for file in files if file.exists())]
    os.execvp(tail[0], tail)


@click.command()
@click.pass_obj
def addresses(settings: Settings) -> None:
    """Print one `name url` line for each address, for scripts."""
    _addresses(settings)
    if not Supervisor(settings).running():
        click.echo(f"Nothing answers there: the stack in {settings.home} is not running. make up", err=True)


def _addresses(settings: Settings) -> None:
    for name in ("search", "dagit", *filter(settings.runs, families())):
        say(f"{name} {settings.url(name)}")
    say(f"lineage {settings.url('dagit')}{PROD_LINEAGE}")


@click.command()
@click.pass_obj
def clean(settings: Settings) -> None:
    """Remove the stack's state: snapshots, models, database, logs."""
    if Supervisor(settings).running():
        raise StackError(f"The stack in {settings.home} is running: make down first.")
    if others := places.clean(settings):
        say(f"removed what the stack had made in {settings.home}; no stack made what is left: {', '.join(others)}")
    else:
        say(f"removed {settings.home}")
