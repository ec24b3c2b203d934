"""The live set: one release of every family and the snapshot, moved as one.

Knows no Dagster. A set is proposed, every service loads and checks it, then `live.json` is replaced: that one
replacement is the promotion. `sets/<n>.json` keeps every set that was ever live.
"""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared_ops import storage
from shared_ops.snapshots import SnapshotRef


class LiveSet(BaseModel):
    """One release of every family, and the snapshot whose documents may be shown."""

    model_config = ConfigDict(frozen=True)

    number: int
    releases: dict[str, str] = Field(description="family to version")
    snapshot: SnapshotRef
    created_at: datetime
    note: str = Field(default="", description="why it was made")


class LiveSets:
    """The sets of one deployment, in the staging area at the fsspec URL `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def live(self) -> LiveSet | None:
        """The set that answers, None before the first."""
        return self._read("live.json")

    def proposed(self) -> LiveSet | None:
        """The set that the services are asked to load, None when nothing is proposed."""
        return self._read("proposed.json")

    def past(self, number: int) -> LiveSet | None:
        """A set that was live, by its number."""
        return self._read("sets", f"{number}.json")

    def numbers(self) -> list[int]:
        """The numbers of all sets that were ever live, in order."""
        found = storage.names(storage.join(self.url, "sets"))
        return sorted(int(name.removesuffix(".json")) for name in found)

    def propose(self, releases: dict[str, str], snapshot: SnapshotRef, note: str) -> LiveSet:
        """Ask the services to load a set beside the live one. A proposal that was left behind is replaced."""
        known = [*self.numbers(), *(each.number for each in (self.live(), self.proposed()) if each)]
        proposal = LiveSet(
            number=max(known, default=0) + 1,
            releases=releases,
            snapshot=snapshot,
            created_at=datetime.now(UTC),
            note=note,
        )
        self._write(proposal, "proposed.json")
        return proposal

    def withdraw(self) -> None:
        """Drop the proposal."""
        storage.remove(storage.join(self.url, "proposed.json"))

    def go_live(self, chosen: LiveSet) -> None:
        """Make `chosen` the set that answers. Kept in the history first, so that what is live can always be named."""
        self._write(chosen, "sets", f"{chosen.number}.json")
        self._write(chosen, "live.json")
        self.withdraw()

    def _read(self, *name: str) -> LiveSet | None:
        content = storage.read_bytes(storage.join(self.url, *name))
        return None if content is None else LiveSet.model_validate_json(content)

    def _write(self, chosen: LiveSet, *name: str) -> None:
        value: dict[str, Any] = chosen.model_dump(mode="json")
        storage.write_json(storage.join(self.url, *name), value)
