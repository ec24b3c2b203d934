"""Launches a deployment's jobs on the running stack and follows them until they end.

Knows no model: the order is that of the roles.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from deploy.stack.dagit.client import Dagit, DagitError, Event, FailedRun, RunPage
from shared_ops.pipeline.references import VERDICT
from shared_ops.refused import mended_by, refused_code
from shared_ops.release.livesets import LiveSets
from shared_ops.release.promotion import promotion_obstacles
from shared_ops.release.releases import Staging
from shared_ops.settings import (
    DEPLOYMENTS,
    Deployment,
    Repository,
    Settings,
    families,
    live_repository,
    ranking_families,
    repositories,
    search_families,
    source_repositories,
)
from shared_ops.waiting import until

ENDED = ("SUCCESS", "FAILURE", "CANCELED")
PROMOTION = "promotion"
"""The graph that moves the live set to an accepted ranker, in the repository with the role live; its jobs bear it."""
TRIGGER_SECONDS = 30
"""How long the trigger of promotions is given to start one."""
ROLES = ("source", "data", "feedback", "search", "rank")
"""Of the repositories that train or make data, each after those whose results it needs."""
FORCE = {"ops": {"load_inputs": {"config": {"force": True}}}}
"""The configuration of a run that trains although nothing changed."""
AWAY_SECONDS = 300
"""How long to wait for Dagit, or for the next try of a run that was lost."""
FOLLOWS = ("Skipping step", "Dependencies for step")
"""How Dagster's messages begin on the steps that follow one that failed or had nothing to do."""


class TrainingError(RuntimeError):
    """A run that did not end well, with what its failed step said."""


def job_of(graph: str, deployment: Deployment = "prod") -> str:
    """A deployment's job of a graph; a repository that trains or makes data has one graph, which bears its name."""
    return f"{graph}_{deployment}"


def trained() -> dict[str, Repository]:
    """The repositories that train or make data, by name."""
    return {name: repository for name, repository in repositories().items() if repository.role in ROLES}


def failed_of_prod(dagit: Dagit) -> list[FailedRun]:
    """The jobs of prod whose newest ended run has failed.

    Whoever tries something in dev, or has a table answered in bulk, is told how that ended; no later run need follow.
    """
    return [failed for failed in dagit.failed_jobs() if failed.job.endswith(job_of(""))]


def waves(names: Sequence[str] | None = None, runs: Callable[[str], bool] = lambda _: True) -> list[list[str]]:
    """The repositories in the order in which they train: sources, data, the searches side by side, then the rankers.

    Without `names`, all that the stack `runs`.
    """
    listed = trained()
    # Feedback is made when there is enough of it, or when it is asked for by name.
    everything = [name for name, repository in listed.items() if repository.role != "feedback" and runs(name)]
    chosen = sorted(names or everything, key=lambda name: ROLES.index(listed[name].role))
    return [list(wave) for _, wave in groupby(chosen, key=lambda name: listed[name].role)]


def train(
    settings: Settings,
    dagit: Dagit,
    names: Sequence[str] | None,
    say: Callable[[str], None],
    force: bool = False,
    because: str = "make train",
    deployment: Deployment = "prod",
) -> None:
    """Train all repositories, or those named, in a deployment; `say` gets a line for whatever happens.

    Every run that it starts says `because` of what.

    A family with the same inputs as one of its releases is not trained again, except with `force`. After a ranker's
    training in prod its promotion is followed, too: in dev nothing serves.

    Raises:
        TrainingError: with every run that failed. What needs a failed run's result is started only where there is an
            earlier one: where a search model's training fails, the ranker learns from that family's accepted release.
            A source that fails holds back nothing: data is made of what each has given last.
    """
    failures: list[str] = []
    lacking = False
    since = time.time()
    for wave in waves(names, settings.runs):
        if lacking and not _goes_on(settings, wave):
            break
        broken = _broken(settings, dagit, wave)
        loading = [name for name in wave if name not in broken]
        failed = _follow_all([_training(dagit, name, say, because, force, deployment) for name in loading])
        failures += [*broken.values(), *failed]
        lacking |= bool(broken or failed) and wave[0] not in source_repositories()
        rankers = set(loading) & set(ranking_families())
        if deployment == "prod" and rankers and settings.runs(live_repository()):
            try:
                failures += _promote(settings, dagit, say, because, since, len(rankers))
            except DagitError as error:
                failures.append(f"No accepted ranker is promoted yet: {error}")
    if deployment == "prod" and not set(names or ranking_families()) & set(ranking_families()):
        for line in _what_follows(settings, names or ()):
            say(line)
    if failures:
        raise TrainingError("\n".join(failures))


def _what_follows(settings: Settings, names: Sequence[str]) -> Iterator[str]:
    """A line for each of these search families whose accepted release waits for a ranker, where there is one here."""
    staging, live = Staging(settings.staging_url("prod")), LiveSets(settings.staging_url("prod")).live()
    if not (settings.runs(live_repository()) and any(map(settings.runs, ranking_families()))):
        return
    for family in (name for name in names if name in search_families()):
        accepted = staging.accepted(family)
        if accepted and accepted != (live.releases.get(family) if live else None):
            yield (
                f"{family:<9} {accepted} is accepted and not live yet. What follows by itself: the ranker learns from "
                "its hits, and a set with both is proposed. make status shows it; make train does it at once"
            )


def _broken(settings: Settings, dagit: Dagit, names: Sequence[str]) -> dict[str, str]:
    """The repositories among these whose code does not load, each with a message that says what to do.

    Where Dagit still has the code of before, its run would fail, too: it starts from the files as they are.
    """
    errors = dagit.load_errors()
    refused = {name: found.told for name in names if (found := refused_code(name, settings))}
    return {
        name: f"{name} is not trained, its code does not load: {error}\n  Mend it, then: {mended_by(name)}"
        for name in names
        if (error := refused.get(name) or errors.get(name))
    }


def _goes_on(settings: Settings, wave: Sequence[str]) -> bool:
    """Whether a wave has what it needs although an earlier one has failed."""
    url = settings.staging_url("prod")
    live = LiveSets(url).live()
    needed = live.search_families if live else search_families()
    return {*wave} <= {*ranking_families()} and all(Staging(url).accepted(family) for family in needed)


def _follow_all(followed: Sequence["_RunFollower"]) -> list[str]:
    """Follow runs until all have ended; returns the failures."""

    def all_ended() -> bool:
        for run in followed:
            run.look()
        return all(run.ended for run in followed)

    until(all_ended, every=1)
    return [run.failure for run in followed if run.failure]


def _promote(
    settings: Settings, dagit: Dagit, say: Callable[[str], None], because: str, since: float, rankers: int
) -> list[str]:
    """Follow the promotions of accepted rankers, one for each of so many: the runs of their trigger, or our own.

    The trigger's run may have ended before anyone looks: then it is followed from its first event, if it was created
    after the Unix time `since`.
    """
    url, job = settings.staging_url("prod"), job_of(PROMOTION)
    followed: list[str] = []

    def obstacles() -> list[str | None]:
        return list(promotion_obstacles(Staging(url), LiveSets(url)).values())

    def due() -> bool:
        return None in obstacles()

    def runs() -> bool:
        return job in [run.job for run in dagit.in_flight()]

    def follow(run_ids: Sequence[str]) -> list[str]:
        followed.extend(run_ids)
        return _follow_all([_RunFollower(dagit, PROMOTION, job, each, say, "make train") for each in run_ids])

    for _ in range(rankers):
        until(lambda: not due() or runs(), every=1, seconds=TRIGGER_SECONDS)
        if not (due() or runs()):
            break
        if failures := follow([_launched_or_found(dagit, live_repository(), job, because)]):
            return failures
    ended = [run.run_id for run in dagit.ended_runs(since) if run.job == job and run.run_id not in followed]
    if not followed and not ended:
        say(f"{PROMOTION:<9} nothing to do: {' '.join(filter(None, obstacles()))}")
    return follow(ended[: rankers - len(followed)])


def predict(dagit: Dagit, repository: str, config: Mapping[str, Any], because: str, say: Callable[[str], None]) -> None:
    """Launch a repository's `<repository>_predict` with its op's configuration, and tell what happens until it ends.

    Raises:
        TrainingError: when it does not end well.
    """
    job = f"{repository}_predict"
    run_id = dagit.launch(repository, job, {"ops": {"predict": {"config": config}}}, because)
    others = [f"{name}_predict" for name in repositories()]
    if failures := _follow_all([_RunFollower(dagit, repository, job, run_id, say, "make predict", others)]):
        raise TrainingError("\n".join(failures))


def _training(
    dagit: Dagit, name: str, say: Callable[[str], None], because: str, force: bool, deployment: Deployment
) -> "_RunFollower":
    """Follows the run that trains a repository's model."""
    job = job_of(name, deployment)
    forced = force and name in families()
    run_id = dagit.launch(name, job, FORCE, because) if forced else _launched_or_found(dagit, name, job, because)
    rivals = [job_of(name, each) for each in DEPLOYMENTS]
    return _RunFollower(dagit, name, job, run_id, say, "make train", rivals)


def _launched_or_found(dagit: Dagit, location: str, job: str, because: str) -> str:
    """The id of the run to follow: a trigger may have been quicker, then its run is the one that works."""
    started = [run.run_id for run in dagit.in_flight() if run.job == job]
    return started[-1] if started else dagit.launch(location, job, because=because)


class _RunFollower:
    """One run, from its launch to its end, told under a label; a run that is retried is followed into its retry.

    `command` starts it anew, should it be cancelled; for the runs of `rivals`, which are jobs, it may have to wait.
    """

    def __init__(
        self,
        dagit: Dagit,
        label: str,
        job: str,
        run_id: str,
        say: Callable[[str], None],
        command: str,
        rivals: Sequence[str] = (),
    ) -> None:
        self.dagit, self.label, self.job = dagit, label, job
        self.command, self.rivals = command, rivals
        self.started = time.monotonic()
        self.ended, self.failure = False, ""
        self.heard, self.waiting = self.started, False
        self._say, self._told_who_goes_first = say, False
        self._errors: list[str] = []
        self._follow(run_id)

    def look(self) -> None:
        """Tell what has happened since the last look."""
        if self.ended:
            return
        page = self._page()
        if page is None:
            return
        for event in page.events:
            self._tell(event)
        self.cursor = page.cursor
        if page.status not in ENDED or page.events:
            return  # an ended run is left once its last events have been told
        if page.status != "FAILURE" or not self._tried_again(page):
            self._end(page)

    def _page(self) -> RunPage | None:
        try:
            page = self.dagit.run(self.run_id, self.cursor)
            if page.status == "QUEUED" and not self._told_who_goes_first:
                self._tell_who_goes_first()
        except DagitError as error:
            if time.monotonic() - self.heard > AWAY_SECONDS:
                raise
            if not self.waiting:
                self._line(f"waiting for Dagit ({str(error).splitlines()[0]})")
            self.waiting = True
            return None
        self.heard, self.waiting = time.monotonic(), False
        return page

    def _tell_who_goes_first(self) -> None:
        """Say for which run of its rivals a queued one waits: a trigger was quicker, or it trains for dev."""
        running = (run for run in self.dagit.in_flight() if run.job in self.rivals and run.status == "STARTED")
        for run in running:
            self._line(f"waiting for run {run.run_id[:8]}, which goes first: {self.dagit.url}/runs/{run.run_id}")
            self._told_who_goes_first = True

    def _follow(self, run_id: str) -> None:
        self.run_id, self.cursor, self.heard = run_id, None, time.monotonic()
        self._failed_at: float | None = None
        self._line(f"run {run_id[:8]}: {self.dagit.url}/runs/{run_id}")

    def _tried_again(self, page: RunPage) -> bool:
        """Whether Dagster tries the failed run again: then the next try is followed.

        It says so a moment after the run has failed, and starts the next try some seconds later: longer, where the
        machine is busy.
        """
        if retry := page.tags.get("dagster/auto_retry_run_id"):
            self._errors.clear()
            self._line("the run was lost; Dagster tries again")
            self._follow(retry)
            return True
        if page.tags.get("dagster/will_retry") == "false":
            return False
        self._failed_at = self._failed_at or time.monotonic()
        return time.monotonic() - self._failed_at < AWAY_SECONDS

    def _end(self, page: RunPage) -> None:
        self.ended = True
        verdict = page.tags.get(VERDICT)
        self._line(f"{self.job} ended: {page.status}{f', {verdict}' if verdict else ''}")
        if page.status == "CANCELED":
            way_out = f"make up, then {self.command}, starts anew"
            self.failure = f"{self.job} was cancelled, by make down or in Dagit: {way_out}"
        elif page.status != "SUCCESS":
            reason = "\n".join(self._errors) or "see the run"
            self.failure = f"{self.job} ended with {page.status}: {reason}\n  {self.dagit.url}/runs/{self.run_id}"

    def _tell(self, event: Event) -> None:
        step = f"{event.step}: " if event.step else ""
        if event.failure and (event.step or not self._errors):
            self._errors.append(event.failure)
            self._line(event.failure)
        elif event.kind == "ExecutionStepStartEvent":
            self._line(f"{event.step} ...")
        elif event.kind == "LogMessageEvent" and event.level != "DEBUG" and not event.message.startswith(FOLLOWS):
            for line in event.message.splitlines():
                self._line(f"{step}{line}")

    def _line(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self._say(f"{self.label:<9} {minutes:02}:{seconds:02}  {text}")
