"""A client of Dagit's GraphQL: code locations, and runs to launch, follow and cancel. Knows no model."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import httpx

from deploy.stack.dagit import queries
from shared_ops.causes import is_own, message, place
from shared_ops.pipeline.references import BECAUSE, HELD, OVERTAKEN, REASON, UNCHANGED, VERDICT
from shared_ops.waiting import until

INTERRUPTED = "DagsterExecutionInterruptedError"
"""The error of a step that was cut short: its run was cancelled, or took longer than it may.

It is no cause: what ended the run stands in an event of the run itself.
"""
MAX_RUNTIME = "dagster/max_runtime"
"""The tag of a run that may take another time than others."""
QUIET_SECONDS = 15
"""Longer than the triggers take to start what follows on a run that has ended."""


class DagitError(RuntimeError):
    """Dagit refused, or did not answer."""


@dataclass(frozen=True)
class Event:
    """One event of a run."""

    kind: str
    message: str
    level: str
    step: str | None
    error: str | None

    @property
    def failure(self) -> str | None:
        """What went wrong, by its first cause; None where the event is no failure, or a step that was cut short."""
        if self.kind not in ("ExecutionStepFailureEvent", "RunFailureEvent") or INTERRUPTED in (self.error or ""):
            return None
        return f"{self.step}: {self.error or self.message}" if self.step else self.error or self.message


@dataclass(frozen=True)
class RunPage:
    """A run's status and tags, and its events since a cursor."""

    status: str
    tags: dict[str, str]
    events: list[Event]
    cursor: str | None


class RunInFlight(NamedTuple):
    """A run that is queued or running."""

    run_id: str
    job: str
    status: str
    since: float = 0.0
    """The Unix time since when it has this status."""
    longest: float | None = None
    """How many seconds it may take, where its job says so."""


class Instigator(NamedTuple):
    """A sensor or a schedule, and what became of its newest tick."""

    location: str
    kind: Literal["sensor", "schedule"]
    name: str
    on: bool
    meant_on: bool
    """Whether it is on where nobody has switched it."""
    tick: str | None
    """The status of the newest tick, None where there was none."""
    ticked_at: float
    """The Unix time of the newest tick, 0 where there was none."""
    error: str | None

    @property
    def path(self) -> str:
        """Where Dagit shows it."""
        return f"/locations/{self.location}/{self.kind}s/{self.name}"


class EndedRun(NamedTuple):
    """A run that has ended, and how long it took from its start."""

    run_id: str
    job: str
    status: str
    seconds: float


class FailedRun(NamedTuple):
    """The newest run of a job, which has failed."""

    run_id: str
    job: str
    ended: datetime
    cause: str


class RecentRun(NamedTuple):
    """A run, whatever became of it: when it was asked for and why, how long it took, and how it ended."""

    run_id: str
    job: str
    created: datetime
    because: str
    status: str
    seconds: float | None
    outcome: str


class Dagit:
    """The webserver at `url`."""

    def __init__(self, url: str, when_away: Callable[[], None] = lambda: None, seconds: float = 130) -> None:
        """`when_away` is called where the webserver does not answer: it may raise, to end the waiting for it.

        Each answer may take so many seconds.
        """
        self.url, self._when_away = url, when_away
        self._client = httpx.Client(base_url=url, timeout=seconds, trust_env=False)

    def close(self) -> None:
        """Let go of the connections to it."""
        self._client.close()

    def launch(
        self, location: str, job: str, run_config: Mapping[str, Any] | None = None, because: str | None = None
    ) -> str:
        """Launch a job and return its run's id. The run's tag says why: `because`, or what the job says by itself.

        Raises:
            DagitError: when there is no such job, or its config is not valid.
        """
        selector = {"repositoryLocationName": location, "repositoryName": queries.REPOSITORY, "jobName": job}
        tags = [{"key": BECAUSE, "value": because}] if because else []
        parameters = {
            "selector": selector,
            "runConfigData": json.dumps(run_config or {}),
            "executionMetadata": {"tags": tags},
        }
        result = self._ask(queries.LAUNCH, "launchRun", parameters=parameters)
        return str(result["run"]["runId"])

    def run(self, run_id: str, after: str | None = None) -> RunPage:
        """The run's status and tags, and its events after a cursor."""
        run = self._ask(queries.RUN, "runOrError", id=run_id, after=after)
        page = run["eventConnection"]
        return RunPage(
            status=run["status"],
            tags={tag["key"]: tag["value"] for tag in run["tags"]},
            events=[_event(event) for event in page["events"]],
            cursor=page["cursor"],
        )

    def load_errors(self) -> dict[str, str | None]:
        """Each code location that has been loaded, with the error that kept it from loading, or None."""
        entries = self._ask(queries.LOCATIONS, "workspaceOrError")["locationEntries"]
        return {entry["name"]: _load_error(entry) for entry in entries if entry["loadStatus"] == "LOADED"}

    def reload(self, location: str) -> str | None:
        """Have a code location loaded anew; returns the error that kept it from loading, or None."""
        return _load_error(self._ask(queries.RELOAD, "reloadRepositoryLocation", name=location))

    def in_flight(self) -> list[RunInFlight]:
        """The runs that are queued or running, the newest first."""
        runs = self._ask(queries.IN_FLIGHT, "runsOrError")["results"]
        return [_in_flight(run) for run in runs]

    def settle(self, seconds: float = 300) -> None:
        """Wait until nothing is in flight, and no trigger has anything to follow up.

        Raises:
            DagitError: when that is not so within `seconds`.
        """
        busy, quiet_since = "", time.monotonic()

        def settled() -> bool:
            nonlocal busy, quiet_since
            if busy := self._busy():
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since >= QUIET_SECONDS

        if not until(settled, every=0.5, seconds=seconds):
            raise DagitError(f"Expected nothing to be in flight after {seconds:g} s, found {busy or 'a pause'}.")

    def _busy(self) -> str:
        """The jobs in flight; or why Dagit does not tell them, which may only be for a moment."""
        try:
            return ", ".join(run.job for run in self.in_flight())
        except DagitError as error:
            return str(error)

    def ended_runs(self, since: float) -> list[EndedRun]:
        """The runs that were created after the Unix time `since` and have ended, the newest first."""
        runs = self._ask(queries.ENDED_RUNS, "runsOrError", since=since)["results"]
        started = [run for run in runs if run["startTime"] and run["endTime"]]
        return [EndedRun(r["runId"], r["jobName"], r["status"], r["endTime"] - r["startTime"]) for r in started]

    def recent_runs(self, most: int) -> list[RecentRun]:
        """The newest runs, at most so many, the latest first."""
        return [self._recent(run) for run in self._ask(queries.NEWEST, "runsOrError", most=most)["results"]]

    def _recent(self, run: Mapping[str, Any]) -> RecentRun:
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        ended = run["startTime"] and run["endTime"]
        return RecentRun(
            run_id=run["runId"],
            job=run["jobName"],
            created=datetime.fromtimestamp(run["creationTime"], UTC),
            because=tags.get(BECAUSE, ""),
            status=run["status"],
            seconds=run["endTime"] - run["startTime"] if ended else None,
            outcome=self._first_cause(run["runId"]) if run["status"] == "FAILURE" else _outcome(tags),
        )

    def failed_jobs(self) -> list[FailedRun]:
        """The jobs whose newest ended run has failed, with the first cause, the newest first."""
        newest: dict[str, dict[str, Any]] = {}
        for run in self._ask(queries.NEWEST_ENDED, "runsOrError")["results"]:
            newest.setdefault(run["jobName"], run)
        return [
            FailedRun(
                run["runId"], job, datetime.fromtimestamp(run["endTime"] or 0, UTC), self._first_cause(run["runId"])
            )
            for job, run in newest.items()
            if run["status"] == "FAILURE"
        ]

    def _first_cause(self, run_id: str) -> str:
        page = self.run(run_id)
        while page.events:
            for event in page.events:
                if event.failure:
                    return event.failure
            page = self.run(run_id, page.cursor)
        return "no reason was given"

    def newest_number(self, key: Sequence[str], label: str) -> int | None:
        """The number under `label` in the metadata of an asset's newest materialization; None where there is none."""
        asset = self._ask(queries.NEWEST_NUMBERS, "assetOrError", path=list(key))
        materializations = asset.get("assetMaterializations", [])
        entries = (entry for each in materializations for entry in each["metadataEntries"])
        return next((entry["intValue"] for entry in entries if entry["label"] == label and "intValue" in entry), None)

    def report_materialization(self, key: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Tell Dagster of an asset that was made outside its runs.

        Raises:
            DagitError: when Dagit does not accept it, or does not answer.
        """
        path = "/".join(quote(part, safe="") for part in key)
        try:
            response = self._client.post(f"/report_asset_materialization/{path}", json={"metadata": dict(metadata)})
        except httpx.HTTPError as error:
            raise DagitError(f"Dagit at {self.url} does not answer ({error})") from error
        if response.is_error:
            raise DagitError(f"Dagit answered {response.status_code}: {response.text[:300]}")

    def cancel(self, run_ids: list[str]) -> None:
        """Cancel runs, and mark them as cancelled at once."""
        self._ask(queries.CANCEL, "terminateRuns", ids=run_ids)

    def instigators(self) -> list[Instigator]:
        """Every sensor and schedule of the code locations that are loaded."""
        nodes = self._ask(queries.INSTIGATORS, "repositoriesOrError")["nodes"]
        sensors = [_instigator(node, "sensor", each) for node in nodes for each in node["sensors"]]
        return [*sensors, *(_instigator(node, "schedule", each) for node in nodes for each in node["schedules"])]

    def unhealthy_daemons(self) -> list[str]:
        """The daemons that this instance needs and that have not been heard of lately."""
        statuses = self._ask(queries.DAEMONS, "instance")["daemonHealth"]["allDaemonStatuses"]
        return [each["daemonType"] for each in statuses if each["required"] and not each["healthy"]]

    def _ask(self, query: str, field: str, **variables: Any) -> dict[str, Any]:
        """Send a query, and return this field of the answer.

        Raises:
            DagitError: when Dagit does not answer, or the answer is an error.
        """
        try:
            response = self._client.post("/graphql", json={"query": query, "variables": variables})
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            self._when_away()
            raise DagitError(
                f"Dagit at {self.url} does not answer ({error}). It may be starting still: make logs PROCESS=dagit"
            ) from error
        if answer.get("errors"):
            raise DagitError("; ".join(error["message"] for error in answer["errors"]))
        result: dict[str, Any] = answer["data"][field]
        if "errors" in result:
            raise DagitError("; ".join(error["message"] for error in result["errors"]))
        if "message" in result:
            raise DagitError(result["message"])
        return result


def _in_flight(run: Mapping[str, Any]) -> RunInFlight:
    status, tags = run["status"], {tag["key"]: tag["value"] for tag in run["tags"]}
    changed = {"STARTED": run["startTime"], "STARTING": run["updateTime"]}.get(status)
    longest = tags.get(MAX_RUNTIME)
    return RunInFlight(
        run["runId"], run["jobName"], status, changed or run["creationTime"], float(longest) if longest else None
    )


def _instigator(node: Mapping[str, Any], kind: Literal["sensor", "schedule"], said: Mapping[str, Any]) -> Instigator:
    state = said[f"{kind}State"]
    none: dict[str, Any] = {"status": None, "timestamp": 0.0, "error": None}
    tick = next(iter(state["ticks"]), none)
    error = tick["error"] and _told(tick["error"])
    on, meant_on = (status == "RUNNING" for status in (state["status"], said["defaultStatus"]))
    return Instigator(
        node["location"]["name"], kind, said["name"], on, meant_on, tick["status"], tick["timestamp"], error
    )


def _outcome(tags: Mapping[str, str]) -> str:
    """What a run that did not fail has come to, by its tags; empty where they do not tell."""
    if unchanged := tags.get(UNCHANGED):
        return f"nothing changed since {unchanged}"
    if moved_nothing := tags.get(HELD) or tags.get(OVERTAKEN):
        return moved_nothing
    return tags.get(REASON) or tags.get(VERDICT, "")


def _event(event: Mapping[str, Any]) -> Event:
    error = event.get("error")
    return Event(
        kind=event["__typename"],
        message=event.get("message", ""),
        level=event.get("level", ""),
        step=event.get("stepKey"),
        error=_told(error) if error else None,
    )


def _load_error(entry: Mapping[str, Any]) -> str | None:
    location = entry["locationOrLoadError"] or {}
    if "message" not in location:
        return None
    errors, said = _with_causes(location), _told(location)
    told_of = next((each for each in errors if is_own(each["message"])), errors[-1])
    where = place([*told_of["stack"], told_of["message"]])
    if said.startswith("File "):  # a syntax error, whose own words begin with its place
        said = said.splitlines()[-1]
    return f"{where}: {said}" if where else said


def _told(error: Mapping[str, Any]) -> str:
    return message([each["message"] for each in _with_causes(error)])


def _with_causes(error: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [error, *(link["error"] for link in error.get("errorChain", []))]
