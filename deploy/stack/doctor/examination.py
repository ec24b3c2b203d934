"""The areas that `make doctor` examines, in the order in which one mends them; and what it says of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from deploy.stack.dagit.client import Dagit
from deploy.stack.doctor import machine, orchestration, running, staging
from deploy.stack.doctor.finding import Examination, Finding, Subject
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.settings import Settings

ANSWER_SECONDS = 20
"""How long Dagit may take to answer a question."""

AT_ANY_TIME: dict[str, Examination] = {
    "environments": machine.environments,
    "dagster": machine.dagster,
    "disk": machine.disk,
    "memory": machine.memory,
    "ports": machine.ports,
    "locks": machine.locks,
    "clock": machine.clock,
    "processes": running.processes,
    "postgres": running.database,
    "staging": staging.staging,
}
WHILE_UP: dict[str, Examination] = {
    "code": orchestration.code,
    "daemons": orchestration.daemons,
    "runs": orchestration.runs,
    "triggers": orchestration.triggers,
    "live set": running.live_set,
    "clicks": running.clicks,
}
"""What can only be asked of a stack that is up."""


def examine(settings: Settings) -> Iterator[tuple[str, list[Finding]]]:
    """Each area with what is wrong in it, as soon as that is known."""
    up = Supervisor(settings).running()
    with closing(Dagit(settings.url("dagit"), seconds=ANSWER_SECONDS)) as dagit:
        for area, examination in (AT_ANY_TIME | (WHILE_UP if up else {})).items():
            yield area, list(look(examination, Subject(settings, up, dagit)))


def look(examination: Examination, subject: Subject) -> Iterator[Finding]:
    """What an examination finds. What keeps it from looking is a finding, too, and ends no other examination."""
    try:
        yield from examination(subject)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        yield Finding(f"could not be examined: {reason}", "mend what is named above, then: make doctor")


def lines(area: str, findings: Sequence[Finding]) -> Iterator[str]:
    """What people read of an area: that all is well, or each thing that is not, with what mends it beneath."""
    if not findings:
        yield f"{area:<13} ok"
    for finding in findings:
        yield f"{area:<13} {finding.problem}"
        yield f"{'':<13} → {finding.mend}"


def summary(found: Mapping[str, Sequence[Finding]]) -> str:
    """How much is wrong, and what was not looked at."""
    count = sum(map(len, found.values()))
    told = f"{count} thing{'s are' if count > 1 else ' is'} wrong" if count else "nothing is wrong"
    down = "" if found.keys() >= WHILE_UP.keys() else f"; the stack is down, so not examined: {', '.join(WHILE_UP)}"
    return f"{told}{down}"


def as_json(settings: Settings, found: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "home": str(settings.home),
        "up": found.keys() >= WHILE_UP.keys(),
        "examined": list(found),
        "findings": [{"area": area, **each._asdict()} for area, findings in found.items() for each in findings],
    }
