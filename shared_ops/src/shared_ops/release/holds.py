"""What holds the live set where it is: a freeze, and pins of families to a release, each by whom, when and why.

Knows no Dagster. `hold.json` beside `live.json` keeps it; without that file nothing is held. `LiveSets.go_live` asks it
under the lock by which it is changed, so nothing slips through while somebody freezes.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field


class HeldError(RuntimeError):
    """A move of the live set that a freeze or a pin forbids. What was live still is."""


class Freeze(BaseModel):
    """Somebody's word that the live set stays as it is."""

    model_config = ConfigDict(frozen=True)

    by: str = Field(description="the person, or the run of a job")
    why: str = ""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def told(self) -> str:
        """By whom, when and why."""
        return f"by {self.by} at {self.at:%Y-%m-%d %H:%M} UTC{f': {self.why}' if self.why else ''}"

    @property
    def note(self) -> str:
        """By whom and why, for a history that has the time already."""
        return f"by {self.by}{f': {self.why}' if self.why else ''}"


class Pin(Freeze):
    """Somebody's word that a family stays at a release."""

    version: str


class Hold(BaseModel):
    """The freeze, if there is one, and the pins by family."""

    model_config = ConfigDict(frozen=True)

    frozen: Freeze | None = None
    pins: dict[str, Pin] = {}

    @property
    def lines(self) -> Iterator[str]:
        """A line for each: what is held, by whom, when and why, and how it ends."""
        if self.frozen:
            yield f"frozen {self.frozen.told}; nothing is promoted until: make thaw"
        for family, pin in self.pins.items():
            yield f"pinned: {family}/{pin.version} {pin.told}; no other release of it goes live until: " + _end(family)

    def refusal(self, releases: Mapping[str, str], live: Mapping[str, str]) -> str | None:
        """Why the live set, of the releases `live`, may not move to these releases; None where it may.

        A pinned family may stay at a release that is another than its pin's until a set brings that.
        """
        if self.frozen:
            return f"The live set is frozen {self.frozen.told}. It stays as it is until: make thaw"
        for family, pin in self.pins.items():
            version = releases.get(family)
            if version not in (pin.version, live.get(family)):
                other = f"holds {family}/{version}" if version else f"holds no {family}"
                return (
                    f"The set {other}, and {family} is pinned to {pin.version} {pin.told}. The live set stays until a "
                    f"ranker that learned from {family}/{pin.version} is accepted, or: {_end(family)}"
                )
        return None

    def pinned(self, family: str) -> str | None:
        """Why no other release of the family is accepted; None where it is not pinned."""
        if pin := self.pins.get(family):
            return f"{family} is pinned to {pin.version} {pin.told}. It stays there until: {_end(family)}"
        return None

    def contradicted(self, releases: Mapping[str, str]) -> list[str]:
        """The pinned families of which these releases hold another release."""
        return [family for family, pin in self.pins.items() if releases.get(family, pin.version) != pin.version]

    def without(self, families: Collection[str]) -> "Hold":
        """The same without the pins of these families."""
        return self.model_copy(update={"pins": {name: pin for name, pin in self.pins.items() if name not in families}})


def _end(family: str) -> str:
    return f"make unpin FAMILY={family}"
