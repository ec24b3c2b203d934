"""An operator's hand: what is live is held, pinned, promoted or taken back, and asked why."""

from collections.abc import Callable

import click

from deploy.stack import history
from deploy.stack.arguments import Name, Number, Words
from deploy.stack.commands.common import dagit_of, tell_dagit, who
from deploy.stack.processes import lifecycle
from deploy.stack.processes.supervisor import Supervisor
from deploy.stack.search.searching import follows
from deploy.stack.terminal import console, cut, say
from shared_ops.data.snapshots import Snapshots
from shared_ops.release import overrides, promotion
from shared_ops.release.livesets import LiveSet, LiveSets
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
        tell_dagit(dagit_of(settings), live, note)


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
    _tell_moved(settings, before, live, note)


@click.command()
@click.argument("number", type=Number(1, example="3"), required=False)
@click.option("--releases", type=Words("a ranker's release", "<family>/<version>"), help="Of a ranker.")
@click.option("--why", type=Words("the reason, as no gate is asked", '"<reason>"'), required=True, help="The reason.")
@click.pass_obj
def promote(settings: Settings, number: int | None, releases: str | None, why: str) -> None:
    """Make live a set that was taken back, or that of a ranker's release, past the end-to-end gate."""
    lifecycle.need_running(settings)
    sets = LiveSets(settings.staging_url("prod"))
    before, note = sets.live(), f"promotion by {who()}: {why}"
    live = overrides.promote_chosen(
        sets,
        Snapshots(settings.snapshots_url("prod")),
        number=number,
        releases=[overrides.release_of(each) for each in (releases or "").split()],
        note=note,
        services=True,
        log=lambda line: say(f"  {line}"),
    )
    _tell_moved(settings, before, live, note)


def _tell_moved(settings: Settings, before: LiveSet | None, live: LiveSet, note: str) -> None:
    """Tell people and Dagit which set is live now."""
    if not follows(settings, live.number):
        say("the search app does not answer from it yet: make status")
    if live != before:
        tell_dagit(dagit_of(settings), live, note)


@click.command()
@click.argument("n", type=Number(1, example="20"), default=20)
@click.pass_obj
def runs(settings: Settings, n: int) -> None:
    """Show the newest runs: when and why each started, and how it ended."""
    lifecycle.need_running(settings)
    for run in dagit_of(settings).recent_runs(n):
        took = "" if run.seconds is None else f" after {run.seconds:.0f} s"
        say(f"{run.created:%Y-%m-%d %H:%M:%S} UTC  {run.run_id[:8]}  {run.job:<18} {run.status}{took}")
        if run.because:
            say(cut(f"    because: {run.because}"))
        if outcome := " ".join(run.outcome.split()):
            # Whoever looks for what failed needs all of it.
            say(f"    {outcome}" if run.status == "FAILURE" else cut(f"    {outcome}"))


@click.command()
@click.argument("release", type=Words("a release (make lineage names those that are live)", "<family>/<version>"))
@click.pass_obj
def explain(settings: Settings, release: str) -> None:
    """Say why a release (family/version) was accepted or rejected, with its numbers."""
    family, version = overrides.release_of(release)
    for line in history.explanation(settings, family, version):
        say(line)
    if (slices := history.slices(settings, family, version)).row_count:
        console.print(slices)
