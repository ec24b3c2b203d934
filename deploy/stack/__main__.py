"""The stack's commands: `envs/platform/.venv/bin/python -m deploy.stack <command>`; the Makefile calls them."""

import getpass
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from deploy.stack import arguments, history, sources
from deploy.stack import status as status_of
from deploy.stack.arguments import Name, Number, Words
from deploy.stack.dagit import training
from deploy.stack.dagit.client import Dagit, DagitError
from deploy.stack.processes import lifecycle, places
from deploy.stack.processes.lifecycle import SECRET, StackError
from deploy.stack.processes.listing import processes
from deploy.stack.processes.places import HomeError
from deploy.stack.processes.shares import TRAINING
from deploy.stack.processes.supervisor import NotRunningError, Supervisor
from deploy.stack.search import evaluation
from deploy.stack.search.searching import SearchError, ask, follows, wait_for_search
from deploy.stack.terminal import console, say, visible
from deploy.stack.traffic import simulation
from shared_ops.refused import refused_code
from shared_ops.release import promotion, runtimes
from shared_ops.release.codes import CodeError
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets, asset_path
from shared_ops.release.releases import ReleaseError, Staging
from shared_ops.release.runtimes import RuntimeMissingError
from shared_ops.settings import ROOT, Settings, families, repositories, unread


@click.group()
@click.pass_context
def commands(context: click.Context) -> None:
    """Start, end, look at and use the stack whose home is SEARCHLOOP_HOME."""
    context.obj = Settings()
    for name, meant in unread(os.environ).items():
        message = f"{name} is no setting, and nothing reads it.{f' Was {meant} meant?' if meant else ''} See make help"
        click.echo(message, err=True)
    places.refuse_no_folder(context.obj)
    lifecycle.refuse_other_addresses(context.obj)


@commands.command()
@click.pass_obj
def up(settings: Settings) -> None:
    """Start everything, train where nothing is live yet, and wait until a search answers."""
    began = time.monotonic()
    settings = lifecycle.agree_with_running(settings, say)
    sources.check(settings, say)
    say(f"servers (home {settings.home})")
    lifecycle.start(settings, lambda line: say(f"  {line}"))
    dagit = _dagit(settings)
    lifecycle.wait_for_locations(settings, dagit, list(repositories()), lambda line: say(f"  {line}"))
    if LiveSets(settings.staging_url("prod")).live() is None:
        say("training the first set of models")
        because = f"make up by {_who()}: no set of models was live yet"
        training.train(settings, dagit, None, lambda line: say(f"  {line}"), because=because)
    else:
        _tell_dagit(settings, dagit)
    say(f"search: {wait_for_search(settings, say, lambda: lifecycle.need_still_running(settings))}")
    say(f"up after {time.monotonic() - began:.0f} s\n")
    _addresses(settings)


def _tell_dagit(settings: Settings, dagit: Dagit) -> None:
    """Tell Dagit of the newest move of the live set if it does not know of it, as of one made while Dagit was down."""
    sets = LiveSets(settings.staging_url("prod"))
    live, moved = sets.live(), sets.moves(newest=1)
    if live and dagit.newest_number(asset_path("prod"), "set") != live.number:
        dagit.report_materialization(asset_path("prod"), live.facts(moved[0].note if moved else None))


@commands.command()
@click.pass_obj
def down(settings: Settings) -> None:
    """End everything that belongs to the stack, and nothing else."""
    lifecycle.stop(settings, say)


@commands.command()
@click.pass_obj
def status(settings: Settings) -> None:
    """Show the processes, the code locations, what runs and what failed, the live set, and what was rejected."""
    console.print(status_of.table(settings))
    for line in status_of.lines(settings):
        say(line)


@commands.command()
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


@commands.command()
@click.pass_obj
def addresses(settings: Settings) -> None:
    """Print one `name url` line for each address, for scripts."""
    _addresses(settings)
    if not Supervisor(settings).running():
        click.echo(f"Nothing answers there: the stack in {settings.home} is not running. make up", err=True)


def _addresses(settings: Settings) -> None:
    for name in ("search", "dagit", *families()):
        say(f"{name} {settings.url(name)}")


@commands.command("code-servers")
@click.pass_obj
def code_servers(settings: Settings) -> None:
    """Start the running stack's code servers that do not run, and reload the code of those that do."""
    _reload(settings, list(repositories()))


@commands.command("code-server")
@click.argument("repository", type=Name(repositories))
@click.pass_obj
def code_server(settings: Settings, repository: str) -> None:
    """Start one code server, or reload its code, if it loads; runs in flight finish on the old code."""
    _reload(settings, [repository])


def _reload(settings: Settings, names: list[str]) -> None:
    """Start or reload these; what keeps one's code from loading is told once all have been."""
    lifecycle.need_running(settings)
    lifecycle.start(settings, say, [f"code-{name}" for name in names])
    state = Supervisor(settings).states()["dagit"]
    if not state.pid:
        say("Dagit does not run, so there is nothing to reload: make up")
        return
    dagit = _dagit(settings)
    broken = {name: problem for name in names if (problem := _reloaded(settings, dagit, name))}
    if broken:
        raise StackError("\n".join([*broken.values(), f"Mend it, then: make code-server REPO={next(iter(broken))}"]))


def _reloaded(settings: Settings, dagit: Dagit, name: str) -> str | None:
    """Reload one's code, and say so; returns what keeps it from loading, and what runs in its place."""
    if error := dagit.reload(name):
        return f"{name}'s code server runs, and its code does not load: {error}"
    if refused := refused_code(name, settings):
        return f"{name}'s code does not load, and the code of before stays in Dagit: {refused.told}"
    people = f"; people get it by: make train REPO={name}" if name in families() else ""
    say(f"{name:<17} reloaded{people}")
    return None


@commands.command()
@click.argument("repository", required=False, type=Name(training.trained))
@click.option("--force", is_flag=True, help="Train although nothing changed since a release.")
@click.pass_obj
def train(settings: Settings, repository: str | None, force: bool) -> None:
    """Launch the prod jobs, all in order or one, and show their progress until they end."""
    lifecycle.need_running(settings)
    because = f"make train{f' REPO={repository}' if repository else ''}{' FORCE=1' if force else ''} by {_who()}"
    training.train(settings, _dagit(settings), [repository] if repository else None, say, force, because)


@commands.command()
@click.argument("number", type=Number(1, example="3"), required=False)
@click.option("--why", default="", help="The reason, kept with the move.")
@click.pass_obj
def rollback(settings: Settings, number: int | None, why: str) -> None:
    """Make the set before the present live again, or the one of this number."""
    sets = LiveSets(settings.staging_url("prod"))
    running = bool(Supervisor(settings).running())
    before, chosen = sets.live(), promotion.past_set(sets, number)
    note = f"rollback by {_who()}{f': {why}' if why else ''}"
    if not running:
        promotion.provide(sets, chosen.releases)  # else make up would find a set that it cannot start
    live = promotion.rollback(sets, chosen.number, note=note, services=running, log=lambda line: say(f"  {line}"))
    say(f"live set {live.number}: {', '.join(f'{family}/{version}' for family, version in live.releases.items())}")
    if not running:
        say(f"the stack in {settings.home} is not running: make up answers from it")
        return
    if not follows(settings, live.number):
        say("the search app does not answer from it yet: make status")
    if live == before:
        return
    try:
        _dagit(settings).report_materialization(asset_path("prod"), live.facts(note))
    except DagitError as error:
        say(f"Dagit shows the set before until the next move: {error}")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in a container whose user has no name
        return f"user {os.getuid()}"


@commands.command()
@click.pass_obj
def lineage(settings: Settings) -> None:
    """Print the chain from the sources to the weights of the live set."""
    tree = history.lineage(settings)
    console.print(tree or NOTHING_LIVE)


@commands.command()
@click.argument("release", type=Words("a release (make lineage names those that are live)", "<family>/<version>"))
@click.pass_obj
def reproduce(settings: Settings, release: str) -> None:
    """Train a release (family/version) again from its manifest, and compare the weights."""
    family, staging = release.partition("/")[0], Staging(settings.staging_url("prod"))
    known_families = list(dict.fromkeys([*families(), *staging.families()]))
    if family not in known_families or "/" not in release:
        raise StackError(f"Expected <family>/<version> with a family of {', '.join(known_families)}, got {release!r}.")
    try:
        runtime = runtimes.of_release(staging.url, family, release.partition("/")[2])
    except ReleaseError as error:
        raise StackError(f"{error} Those that are live: make lineage") from error
    command = [str(runtime.provide(settings)), "-m", "shared_ops.reproduce", release]
    # With as many threads as it was trained with: sums depend on them.
    own = {"SEARCHLOOP_HOME": str(settings.home), **TRAINING.variables, **runtime.variables(settings)}
    sys.exit(subprocess.run(command, cwd=ROOT, env=os.environ | own).returncode)


@commands.command()
@click.argument("query", type=Words("words to search for", '"sort an array"'))
@click.option("-k", default=10, show_default=True, help="How many hits.")
@click.pass_obj
def search(settings: Settings, query: str, k: int) -> None:
    """Ask the running search app."""
    lifecycle.need_running(settings)
    answer = ask(settings, query, k)
    for rank, hit in enumerate(answer["hits"], start=1):
        found_by = ", ".join(f"{family} {where}" for family, where in hit.get("found_by", {}).items())
        say(f"{rank:>3}. {hit['title']}  [{hit['source']}]  {hit.get('url') or ''}")
        say(f"     {hit.get('snippet', '')}")
        say(f"     {hit['doc_id']}  {found_by}")
    if not answer["hits"]:
        say("nothing found")
    if lacking := answer["degraded"]:
        reasons = "; ".join(f"{part['family']}: {part['reason']}" for part in lacking)
        say(f"This answer is not complete: {reasons}. Ask again; how often that happens: make status")


@commands.command()
@click.argument("out", type=Words("a folder for the runs", "runs"))
@click.pass_obj
def evaluate(settings: Settings, out: str) -> None:
    """Write TREC runs of the live snapshot's test queries to OUT, and print the table of metrics."""
    lifecycle.need_running(settings)
    console.print(evaluation.evaluate(settings, Path(out), say))


@commands.command()
@click.option(
    "--sessions", type=Number(1, 100_000, "200"), default=200, show_default=True, help="How many people come."
)
@click.option(
    "--trend", type=Number(0, example="3"), default=0, help="How many documents are in the news after a third."
)
@click.option("--drift", help="What is asked about then, and not before: a source or a word of titles; 1: any.")
@click.option("--seed", type=Number(0), default=0, show_default=True, help="Same seed and same answers: same clicks.")
@click.option("--rate", type=Number(0.001, example="5"), help="Searches per second [default: as two clients go]")
@click.option(
    "--watch", is_flag=True, help="Wait until all is learned and another set is live, and show what has risen."
)
@click.pass_obj
def simulate(settings: Settings, /, **options: Any) -> None:
    """Let SIMULATED people search and click; all they do is marked as simulated."""
    lifecycle.need_running(settings)
    stack = simulation.StackWatch(lambda: lifecycle.need_still_running(settings), _dagit(settings).settle)
    simulation.simulate(settings, simulation.TrafficRequest(**options), say, stack)


@commands.command()
@click.pass_obj
def clean(settings: Settings) -> None:
    """Remove the stack's state: snapshots, models, database, logs."""
    if Supervisor(settings).running():
        raise StackError(f"The stack in {settings.home} is running: make down first.")
    if others := places.clean(settings):
        say(f"removed what the stack had made in {settings.home}; no stack made what is left: {', '.join(others)}")
    else:
        say(f"removed {settings.home}")


def _dagit(settings: Settings) -> Dagit:
    """The Dagit of the stack; waiting for it ends with an error once the stack has ended."""
    return Dagit(settings.url("dagit"), lambda: lifecycle.need_still_running(settings))


def main() -> None:
    """Run a command; an error is told in one message, without a stack trace."""
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
