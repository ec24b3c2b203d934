"""The areas that `make doctor` examines, in the order in which one mends them; and what it says of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deploy.stack.doctor import machine, orchestration, running, staging
from deploy.stack.doctor.finding import Examination, Finding, Stack
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.settings import Settings

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
    "feedback": running.feedback,
}
"""What can only be asked of a stack that is up."""


def examine(settings: Settings) -> Iterator[tuple[str, list[Finding]]]:
    """Each area with what is wrong in it, as soon as that is known."""
    stack = Stack(settings, up=Supervisor(settings).running())
    for area, examination in (AT_ANY_TIME | (WHILE_UP if stack.up else {})).items():
        yield area, list(look(examination, stack))


def look(examination: Examination, stack: Stack) -> Iterator[Finding]:
    """What an examination finds. What keeps it from looking is a finding, too, and ends no other examination."""
    try:
        yield from examination(stack)
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
    down = "" if "feedback" in found else f"; the stack is down, so not examined: {', '.join(WHILE_UP)}"
    return f"{told}{down}"


def as_json(settings: Settings, found: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "home": str(settings.home),
        "up": any(area in found for area in WHILE_UP),
        "examined": list(found),
        "findings": [{"area": area, **each._asdict()} for area, findings in found.items() for each in findings],
    }
