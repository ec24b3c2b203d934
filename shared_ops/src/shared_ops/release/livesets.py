"""The live set: the families that take part, a release of each, and the snapshot, replaced as one.

Knows no Dagster. A set is proposed, every service loads and checks it, then `live.json` is replaced: that one
replacement is the promotion, and a rollback is the same with a set of the past. `sets/<n>.json` keeps the sets that
were live, `rolled_back.json` the numbers of those that were taken back, `moves/<n>.json` who moved the live set when
and why, `decisions/<ranker>.json` what became of each accepted ranker, `hold.json` what holds the live set (holds.py).
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared_ops.data import storage
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.release.holds import HeldError, Hold
from shared_ops.settings import Deployment, Role, families

NOTHING_LIVE = "No set of models is live yet: make train"
"""What people read before the first set is live. `make train` itself says how to start a stack where none runs."""


def listed_roles(releases: Collection[str]) -> dict[str, Role]:
    """The roles that repos.toml gives these families, for a set that was made before sets stated roles.

    A family that is no longer listed is taken for a search family: when those sets were made, no ranker could be
    removed.
    """
    return {name: families()[name].role if name in families() else "search" for name in releases}


class LiveSet(BaseModel):
    """The families that answer, with a release and a role of each, and the snapshot whose documents may be shown."""

    model_config = ConfigDict(frozen=True)

    number: int
    releases: dict[str, str] = Field(description="family to version")
    roles: dict[str, Role] = Field(
        default_factory=lambda stated: listed_roles(stated["releases"]),
        description="family to what it does for a query",
    )
    snapshot: SnapshotRef
    created_at: datetime
    note: str = Field(default="", description="why it was made, and by which run")

    @property
    def search_families(self) -> list[str]:
        """The families whose hits are ranked."""
        return [name for name, role in self.roles.items() if role == "search"]

    @property
    def ranker(self) -> str:
        """The family that ranks their hits: every promoted set has exactly one."""
        return next(name for name, role in self.roles.items() if role == "rank")

    def answers_as(self, other: "LiveSet") -> bool:
        """Whether it answers every query as the other set does."""
        return self.releases == other.releases and self.snapshot == other.snapshot

    def facts(self, note: str | None = None) -> dict[str, Any]:
        """What Dagit shows of a move to this set; `note` as in `LiveSets.go_live`."""
        return {
            "set": self.number,
            "releases": self.releases,
            "snapshot": self.snapshot.id,
            "note": self.note if note is None else note,
        }


def asset_path(deployment: Deployment) -> list[str]:
    """The key by which Dagit knows the live set of a deployment."""
    return [deployment, "live_set"]


class LiveSetChangedError(RuntimeError):
    """The live set is no longer the one that was to be replaced."""


class Move(BaseModel):
    """One change of what is live, forward or back, or of what holds it: then a set stands in place of itself."""

    at: datetime
    number: int = Field(description="the set that went live, or that is held")
    instead_of: int | None = Field(description="the set that it replaced, None for the first")
    note: str = Field(description="who or what moved or held it, and why")

    @property
    def held(self) -> bool:
        """Whether what holds the set was changed, and the set stayed."""
        return self.number == self.instead_of

    @property
    def sentence(self) -> str:
        """When, from which set to which, by whom and why."""
        when = f"{self.at:%Y-%m-%d %H:%M} UTC"
        if self.held:
            return f"held {when}: set {self.number}, {self.note}"
        instead = "" if self.instead_of is None else f" in place of set {self.instead_of}"
        return f"moved {when}: set {self.number}{instead}, {self.note}"


class Decision(BaseModel):
    """What became of an accepted ranker: the end-to-end gate's verdict, and the set that went live with it."""

    accepted: bool
    reason: str
    rival: str | None = Field(default=None, description="the live ranker's family, where that was another one")
    set_number: int | None = None
    verdict: dict[str, Any] = {}


@lru_cache(maxsize=64)
def _parsed(content: bytes) -> LiveSet:
    """A set from JSON, parsed once for equal contents: services read it twice a second, and it hardly ever changes."""
    return LiveSet.model_validate_json(content)


class LiveSets:
    """The sets of one deployment, in the staging area at the fsspec URL `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def live(self) -> LiveSet | None:
        """The set that answers; None before the first."""
        return self._read("live.json")

    def proposed(self) -> LiveSet | None:
        """The set that the services are asked to load; None when nothing is proposed."""
        return self._read("proposed.json")

    def past(self, number: int) -> LiveSet | None:
        """The set of this number, which was live; None where there is none."""
        return self._read("sets", f"{number}.json")

    def before(self, live: LiveSet) -> LiveSet | None:
        """The newest set before `live` that was not itself taken back; None where there is none.

        A set of the same releases and snapshot is left out: a kill just before it went live may have left it.
        """
        rolled_back = self.rolled_back()
        earlier = (self.past(n) for n in reversed(self.numbers()) if n < live.number and n not in rolled_back)
        return next((each for each in earlier if each and not each.answers_as(live)), None)

    def numbers(self) -> list[int]:
        """The numbers of all sets that were ever live, in order."""
        names = storage.names(storage.join(self.url, "sets"))
        return sorted(int(name.removesuffix(".json")) for name in names)

    def propose(
        self, releases: dict[str, str], snapshot: SnapshotRef, note: str, roles: Mapping[str, Role] | None = None
    ) -> LiveSet:
        """Ask the services to load a new set beside the live one. A proposal that was left behind is replaced.

        Without `roles` the set has those of repos.toml.
        """
        with self._exclusive():  # two proposals at once get two numbers
            numbers = [*self.numbers(), *(each.number for each in (self.live(), self.proposed()) if each)]
            proposal = LiveSet(
                number=max(numbers, default=0) + 1,
                releases=releases,
                snapshot=snapshot,
                created_at=datetime.now(UTC),
                note=note,
                roles=listed_roles(releases) if roles is None else dict(roles),
            )
            self.offer(proposal)
        return proposal

    def _exclusive(self) -> AbstractContextManager[None]:
        return storage.exclusive(storage.join(self.url, ".live.lock"))

    def offer(self, chosen: LiveSet) -> None:
        """Ask the services to load this set beside the live one."""
        self._write(chosen, "proposed.json")

    def withdraw(self) -> None:
        """Drop the proposal."""
        storage.remove(storage.join(self.url, "proposed.json"))

    def go_live(
        self,
        chosen: LiveSet,
        instead_of: LiveSet | None = None,
        note: str | None = None,
        *,
        goes_back: bool = False,
        by_hand: bool = False,
    ) -> None:
        """Make `chosen` the set that answers. It enters the history first, so that the live set is always in it.

        Args:
            chosen: the set.
            instead_of: the set that it replaces; None replaces whatever is live.
            note: who makes it live and why; None takes the note of the set.
            goes_back: whether this is a rollback, after which every newer set counts as taken back.
            by_hand: whether a person does it, whom no freeze and no pin keeps from it.

        Raises:
            LiveSetChangedError: when `instead_of` is given and another set is live by now.
            HeldError: when a freeze or a pin forbids it.
        """
        with self._exclusive():
            self.check_live(chosen, instead_of)
            if not by_hand:
                self.check_hold(chosen.releases)
            before = self.live()
            self._write(chosen, "sets", f"{chosen.number}.json")
            # Before the pointer moves: after a kill in between, a set that was to be taken back must not come back.
            self.mark_rolled_back(self._marked_by(chosen, before, goes_back))
            self._write(chosen, "live.json")
            self._remember(chosen, before, chosen.note if note is None else note)
            self.withdraw()

    def hold(self) -> Hold:
        """What holds the live set."""
        content = storage.read_bytes(storage.join(self.url, "hold.json"))
        return Hold() if content is None else Hold.model_validate_json(content)

    def change_hold(self, change: Callable[[Hold], Hold], live: LiveSet, note: str) -> None:
        """Change what holds the live set, and remember by `note` who did it and why; no move comes in between."""
        with self._exclusive():
            storage.write_json(storage.join(self.url, "hold.json"), change(self.hold()).model_dump(mode="json"))
            self._remember(live, live, note)

    def check_hold(self, releases: Mapping[str, str]) -> None:
        """Check that neither a freeze nor a pin keeps a set of these releases from going live.

        Raises:
            HeldError: when one does.
        """
        live = self.live()
        if reason := self.hold().refusal(releases, live.releases if live else {}):
            raise HeldError(reason)

    def _remember(self, chosen: LiveSet, before: LiveSet | None, note: str) -> None:
        move = Move(at=datetime.now(UTC), number=chosen.number, instead_of=before.number if before else None, note=note)
        number = max(self._moves(), default=0) + 1
        storage.write_json(storage.join(self.url, "moves", f"{number}.json"), move.model_dump(mode="json"))

    def _moves(self) -> list[int]:
        return sorted(int(name.removesuffix(".json")) for name in storage.names(storage.join(self.url, "moves")))

    def moves(self, newest: int = 5) -> list[Move]:
        """The newest changes of what is live, and of what holds it, the latest first."""
        read = (
            storage.read_bytes(storage.join(self.url, "moves", f"{n}.json")) for n in self._moves()[: -newest - 1 : -1]
        )
        return [Move.model_validate_json(content) for content in read if content]

    def check_live(self, chosen: LiveSet, instead_of: LiveSet | None) -> None:
        """Check that `instead_of`, which `chosen` is to replace, is still live; None stands for whatever is live.

        Raises:
            LiveSetChangedError: when another set is live by now.
        """
        live = self.live()
        if instead_of is not None and live != instead_of:
            raise LiveSetChangedError(
                f"Set {chosen.number} was to replace set {instead_of.number}, and meanwhile "
                f"{f'set {live.number}' if live else 'none'} is live. It stays."
            )

    def rolled_back(self) -> list[int]:
        """The numbers of the sets that were taken back, without that of the live one.

        A rollback marks the live set before it replaces it, and may be killed in between.
        """
        live = self.live()
        return [number for number in self._marked() if live is None or number != live.number]

    def _marked(self) -> list[int]:
        content = storage.read_bytes(storage.join(self.url, "rolled_back.json"))
        return [] if content is None else [int(number) for number in json.loads(content)]

    def _marked_by(self, chosen: LiveSet, before: LiveSet | None, goes_back: bool) -> set[int]:
        """The sets that count as taken back once `chosen` is live in place of `before`.

        A mark on `before` is dropped: a killed rollback left it there.
        """
        marked = set(self._marked()) - {chosen.number} - ({before.number} if before else set())
        return marked | {number for number in self.numbers() if goes_back and number > chosen.number}

    def mark_rolled_back(self, numbers: Iterable[int]) -> None:
        """Remember exactly these sets as taken back."""
        storage.write_json(storage.join(self.url, "rolled_back.json"), sorted(set(numbers)))

    def taken_back(self, releases: Mapping[str, str], snapshot: SnapshotRef) -> LiveSet | None:
        """The newest set of just these releases and this snapshot that was taken back; None when there is none."""
        for number in reversed(self.rolled_back()):
            past = self.past(number)
            if past and past.releases == releases and past.snapshot == snapshot:
                return past
        return None

    def taken_back_snapshot(self, snapshot: SnapshotRef) -> LiveSet | None:
        """The newest taken-back set that showed this snapshot; None without one, or where the live set shows it too."""
        live = self.live()
        if live and live.snapshot == snapshot:
            return None
        taken_back = (self.past(number) for number in reversed(self.rolled_back()))
        return next((past for past in taken_back if past and past.snapshot == snapshot), None)

    def decision(self, ranker: str) -> Decision | None:
        """What became of the accepted ranker of this version; None while that is open."""
        content = storage.read_bytes(storage.join(self.url, "decisions", f"{ranker}.json"))
        return None if content is None else Decision.model_validate_json(content)

    def decide(self, ranker: str, decision: Decision) -> None:
        """Remember what became of an accepted ranker."""
        storage.write_json(storage.join(self.url, "decisions", f"{ranker}.json"), decision.model_dump(mode="json"))

    def decisions(self) -> list[str]:
        """The versions of the rankers whose decision is kept."""
        return [name.removesuffix(".json") for name in storage.names(storage.join(self.url, "decisions"))]

    def reopen(self, ranker: str) -> None:
        """Forget what became of an accepted ranker: it is accepted anew, or its release is gone."""
        storage.remove(storage.join(self.url, "decisions", f"{ranker}.json"))

    def taken_back_release(self, family: str, version: str) -> LiveSet | None:
        """The newest taken-back set that holds this release; None without one, or where another set holds it too.

        So a rollback takes back no release that is also in the set to which it goes back.
        """
        rolled_back = set(self.rolled_back())
        sets = {
            number: past
            for number in reversed(self.numbers())
            if (past := self.past(number)) and past.releases.get(family) == version
        }
        return next(iter(sets.values()), None) if sets and set(sets) <= rolled_back else None

    def was_live(self, family: str, version: str) -> bool:
        """Whether a set of the history holds this release, so that it has answered people."""
        sets = (self.past(number) for number in self.numbers())
        return any(each.releases.get(family) == version for each in sets if each)

    def forget(self, keep: int) -> list[int]:
        """Remove the sets beyond the newest `keep`, never the live one, and moves to them; returns their numbers."""
        with self._exclusive():
            live = self.live()
            old = [number for number in self.numbers()[:-keep] if live is None or number != live.number]
            for number in old:
                storage.remove(storage.join(self.url, "sets", f"{number}.json"))
            self.mark_rolled_back(set(self._marked()) - set(old))
            self._forget_moves()
        return old

    def _forget_moves(self) -> None:
        """Remove the moves to sets that are no longer kept; the newest move stays, as the next is counted from it."""
        numbers = set(self.numbers())
        for number in self._moves()[:-1]:
            url = storage.join(self.url, "moves", f"{number}.json")
            content = storage.read_bytes(url)
            if content and Move.model_validate_json(content).number not in numbers:
                storage.remove(url)

    def _read(self, *name: str) -> LiveSet | None:
        content = storage.read_bytes(storage.join(self.url, *name))
        return None if content is None else _parsed(content)

    def _write(self, chosen: LiveSet, *name: str) -> None:
        value: dict[str, Any] = chosen.model_dump(mode="json")
        storage.write_json(storage.join(self.url, *name), value)
