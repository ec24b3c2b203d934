"""What loads the teams' code, trains their models, and tells where releases came from."""

import os
import subprocess
import sys
from typing import Any

import click

from deploy.stack import bulk, history
from deploy.stack.arguments import Name, Number, Words
from deploy.stack.commands.common import dagit_of, reload_code, who
from deploy.stack.dagit import training
from deploy.stack.processes import lifecycle
from deploy.stack.processes.lifecycle import StackError
from deploy.stack.processes.shares import TRAINING
from deploy.stack.processes.supervisor import Supervisor
from deploy.stack.terminal import console, say
from shared_ops.judge.evaluation import DEPTH
from shared_ops.refused import mended_by
from shared_ops.release import codes, runtimes
from shared_ops.release.livesets import NOTHING_LIVE, LiveSets
from shared_ops.release.releases import ReleaseError, Staging, environment_lock
from shared_ops.release.runtimes import Runtime
from shared_ops.settings import DEPLOYMENTS, ROOT, Deployment, Settings, families, repositories


@click.command("code-servers")
@click.pass_obj
def code_servers(settings: Settings) -> None:
    """Start the running stack's code servers that do not run, and reload the code of those that do."""
    lifecycle.need_running(settings)
    held = Supervisor(settings).states()
    names = [name for name in repositories() if settings.runs(name)]
    for name in names:
        if f"code-{name}" not in held:
            say(f"{name:<17} is not in the running stack yet: make up")
    _reload(settings, [name for name in names if f"code-{name}" in held])


@click.command("code-server")
@click.argument("repository", type=Name(repositories))
@click.pass_obj
def code_server(settings: Settings, repository: str) -> None:
    """Start one code server, or reload its code, if it loads; runs in flight finish on the old code."""
    lifecycle.need_running(settings)
    lifecycle.need_part(settings, repository)
    _reload(settings, [repository])


def _reload(settings: Settings, names: list[str]) -> None:
    """Start or reload these; what keeps one's code from loading is told once all have been."""
    lifecycle.start(settings, say, [f"code-{name}" for name in names])
    state = Supervisor(settings).states()["dagit"]
    if not state.pid:
        say("Dagit does not run, so there is nothing to reload: make up")
        return
    dagit = dagit_of(settings)
    broken = {}
    for name in names:
        if problem := reload_code(settings, dagit, name):
            broken[name] = problem
            continue
        is_news = name in families() and _is_news(settings, name)
        say(f"{name:<17} reloaded" + (f"; people get it by: make train REPO={name}" if is_news else ""))
    if broken:
        raise StackError("\n".join([*broken.values(), f"Mend it, then: {mended_by(next(iter(broken)))}"]))


def _is_news(settings: Settings, family: str) -> bool:
    """Whether a family's code or packages are others than those of its live release, or it has none."""
    sets = LiveSets(settings.staging_url("prod"))
    live = sets.live()
    if live is None or family not in live.releases:
        return True
    try:
        runs = runtimes.of_release(sets.url, family, live.releases[family])
    except ReleaseError:  # make doctor says what is wrong with it
        return True
    return runs != Runtime(family, codes.present(family), environment_lock(family))


@click.command()
@click.argument("repository", required=False, type=Name(training.trained))
@click.option("--force", is_flag=True, help="Train although nothing changed since a release.")
@click.option("--deployment", type=Name(lambda: DEPLOYMENTS), default="prod", help="dev: on a sample, beside prod.")
@click.pass_obj
def train(settings: Settings, repository: str | None, force: bool, deployment: Deployment) -> None:
    """Launch a deployment's jobs, all in order or one, and show their progress until they end."""
    lifecycle.need_running(settings)
    for name in [repository] if repository else filter(settings.runs, training.trained()):
        lifecycle.need_part(settings, name)
    given = {
        "REPO": repository,
        "DEPLOYMENT": deployment if deployment != "prod" else "",
        "FORCE": "1" if force else "",
    }
    stated = " ".join(f"{name}={value}" for name, value in given.items() if value)
    because = f"{f'make train {stated}'.strip()} by {who()}"
    names = [repository] if repository else None
    training.train(settings, dagit_of(settings), names, say, force, because, deployment)


@click.command()
@click.option("--queries", type=Words("the URL of a table of queries", "queries.csv"), help="Of .parquet, .csv, ...")
@click.option("--sql", help="In place of it: a statement that gives them, asked of --database.")
@click.option("--database", help="The environment variable with its SQLAlchemy URL, as the stack was started with.")
@click.option("--columns", help="The columns with a query's id and its text, if not query_id,text: <id>,<text>.")
@click.option("--out", type=Words("a folder for the answers", "predictions"), required=True, help="Any fsspec URL.")
@click.option("--k", type=Number(1, DEPTH, "10"), default=10, help="Hits a query.")
@click.option("--release", type=Words("a release (make lineage names those that are live)", "<family>/<version>"))
@click.option("--family", type=Name(families), help="Its live release.")
@click.option("--number", type=Number(1, example="3"), help="A set that was live; without any of these the live one.")
@click.pass_obj
def predict(settings: Settings, /, **given: Any) -> None:
    """Answer a table of queries by the live set, or another, or one release; OUT gets Parquet and a TREC run."""
    lifecycle.need_running(settings)
    repository, config = bulk.asked(**given)
    lifecycle.need_part(settings, repository)
    bulk.refuse_unfit(config)
    training.predict(dagit_of(settings), repository, config, f"make predict by {who()}", say)


@click.command()
@click.pass_obj
def lineage(settings: Settings) -> None:
    """Print the chain from the sources to the weights of the live set."""
    tree = history.lineage(settings)
    console.print(tree or NOTHING_LIVE)


@click.command()
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
