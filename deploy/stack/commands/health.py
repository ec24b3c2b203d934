"""What looks for whatever is wrong."""

import json
import sys

import click

from deploy.stack.doctor import examination
from deploy.stack.terminal import say
from shared_ops.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> None:
    """Examine machine and stack, and say what is wrong with what mends it; exit status 1 where anything is."""
    found = {}
    for area, findings in examination.examine(settings):
        found[area] = findings
        for line in () if as_json else examination.lines(area, findings):
            say(line)
    if as_json:
        click.echo(json.dumps(examination.as_json(settings, found), indent=2))
    else:
        say(examination.summary(found))
    if any(found.values()):
        sys.exit(1)
