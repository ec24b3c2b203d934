"""An operator's hand: what is live is held, pinned, promoted or taken back, and asked why."""

from collections.abc import Callable

import click

from deploy.stack import history
from deploy.stack.arguments import Name, Number, Words
from deploy.stack.commands.common import dagit_of, who
from deploy.stack.dagit.client import DagitError
from deploy.stack.processes.supervisor import Supervisor
from deploy.stack.search.searching import follows
from deploy.stack.terminal import say
from shared_ops.release import overrides, promotion
from shared_ops.release.livesets import LiveSet, LiveSets, asset_path
from shared_ops.release.releases import Staging
from shared_ops.settings import Settings, families

WHY = click.option("--why", default="", help="The reason, kept in the sets' history.")


def known() -> list[str]:
    """The families that are listed or have published a release."""
    return list(dict.fromkeys([*families(), *Staging(Settings().staging_url("prod")).families()]))


@click.command()
@WHY
@click.pass_obj
def freeze(settings: Settings, why: str) -> None:
    """Promote nothing until `thaw`; trainings and gates go on, and a rollback still works."""
    _hold(settings, lambda sets: overrides.freeze(sets, who(), why))


@click.command()
@WHY
@click.pass_obj
def thaw(settings: Settings, why: str) -> None:
    """End the freeze: what is accepted by now is promoted by its trigger."""
    _hold(settings, lambda sets: overrides.thaw(sets, who(), why))


@click.command()
@click.argument("family", type=Name(known))
@click.option("--release", type=Words("a release", "<version>"), help="Its version [default: the live one]")
@WHY
@click.pass_obj
def pin(settings: Settings, family: str, release: str | None, why: str) -> None:
    """Keep a family at a release until `unpin`."""
    version = release.removeprefix(f"{family}/") if release else None
    _hold(settings, lambda sets: overrides.pin(sets, family, version, who(), why))


@click.command()
@click.argument("family", type=Name(known))
@WHY
@click.pass_obj
def unpin(settings: Settings, family: str, why: str) -> None:
    """End a family's pin."""
    _hold(settings, lambda sets: overrides.unpin(sets, family, who(), why))


def _hold(settings: Settings, act: Callable[[LiveSets], str]) -> None:
    """Change what holds the live set, and say what is so now."""
    sets = LiveSets(settings.staging_url("prod"))
    note = act(sets)
    say(note)
    for line in history.held_lines(settings):
        say(line)
    if (live := sets.live()) and Supervisor(settings).running():
        _tell_dagit(settings, live, note)


@click.command()
@click.argument("number", type=Number(1, example="3"), required=False)
@click.option("--why", default="", help="The reason, kept with the move.")
@click.pass_obj
def rollback(settings: Settings, number: int | None, why: str) -> None:
    """Make the set before the present live again, or the one of this number."""
    sets = LiveSets(settings.staging_url("prod"))
    running = bool(Supervisor(settings).running())
    before, chosen = sets.live(), promotion.past_set(sets, number)
    note = f"rollback by {who()}{f': {why}' if why else ''}"
    if not running:
        promotion.provide(sets, chosen.releases)  # else make up would find a set that it cannot start
    live = promotion.rollback(sets, chosen.number, note=note, services=running, log=lambda line: say(f"  {line}"))
    say(f"live set {live.number}: {', '.join(f'{family}/{version}' for family, version in live.releases.items())}")
    if not running:
        say(f"the stack in {settings.home} is not running: make up answers from it")
        return
    if not follows(settings, live.number):
        say("the search app does not answer from it yet: make status")
    if live != before:
        _tell_dagit(settings, live, note)


def _tell_dagit(settings: Settings, live: LiveSet, note: str) -> None:
    try:
        dagit_of(settings).report_materialization(asset_path("prod"), live.facts(note))
    except DagitError as error:
        say(f"Dagit does not show this before the next move: {error}")
