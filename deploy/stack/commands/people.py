"""What asks the running search app, measures it, and sends simulated people to it."""

from pathlib import Path
from typing import Any

import click

from deploy.stack.arguments import Number, Words
from deploy.stack.commands.common import dagit_of
from deploy.stack.processes import lifecycle
from deploy.stack.search import evaluation
from deploy.stack.search.searching import ask
from deploy.stack.terminal import console, say
from deploy.stack.traffic import simulation
from shared_ops.settings import Settings


@click.command()
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
        # Where a document has no title of its own, its doc_id stands for it.
        name = "" if hit["title"] == hit["doc_id"] else f"{hit['doc_id']}  "
        say(f"     {name}{found_by}")
    if not answer["hits"]:
        say("nothing found")
    if lacking := answer["degraded"]:
        reasons = "; ".join(f"{part['family']}: {part['reason']}" for part in lacking)
        say(f"This answer is not complete: {reasons}. Ask again; how often that happens: make status")


@click.command()
@click.argument("out", type=Words("a folder for the runs", "runs"))
@click.pass_obj
def evaluate(settings: Settings, out: str) -> None:
    """Write TREC runs of the live snapshot's test queries to OUT, and print the table of metrics."""
    lifecycle.need_running(settings)
    console.print(evaluation.evaluate(settings, Path(out), say))


@click.command()
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
    stack = simulation.StackWatch(lambda: lifecycle.need_still_running(settings), dagit_of(settings).settle)
    simulation.simulate(settings, simulation.TrafficRequest(**options), say, stack)
