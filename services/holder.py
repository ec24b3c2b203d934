"""What a service holds in memory for the live set and for the proposed one, brought up to date without a restart.

Shared by the prediction services, which hold a model per release, and the search app, which holds the documents of a
snapshot. Knows neither models nor HTTP. All state belongs to the event loop; only reading the pointers and loading run
in threads, so that answering goes on meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from shared_ops.data.wire import SetState
from shared_ops.release.livesets import LiveSet, LiveSets
from shared_ops.settings import Settings

log = logging.getLogger(__name__)

Content = TypeVar("Content")
NOTHING_ASKED = "It asks nothing of this process: its family takes no part in it, or runs with other code or packages."


class Live(NamedTuple, Generic[Content]):
    """The set that answers, with what this service holds for it. Take it once per request and use nothing else."""

    live_set: LiveSet
    content: Content


@dataclass
class SetLoad:
    """A set that is wanted, and how its loading went."""

    live_set: LiveSet
    last_wanted: float
    failure: str | None = None
    retry_at: float = 0.0


class Holder(Generic[Content]):
    """Holds the content of the live set, of the proposed set and of the set that was live before.

    The set before is held so that going back to it loads nothing. A set that is none of these any more is held for a
    grace period.

    `key` names the content that a set needs, so that sets with the same key share it; None where the set asks another
    process for it. `load` makes the content, in a worker thread, and raises when it is not fit to answer. A failed load
    leaves everything that is held in place.
    """

    def __init__(
        self,
        live_sets: LiveSets,
        settings: Settings,
        *,
        key: Callable[[LiveSet], str | None],
        load: Callable[[LiveSet], Content],
    ) -> None:
        self.live: Live[Content] | None = None
        self.load_failures = 0
        self.problem: str | None = None
        """Why the pointers could not be read when last tried."""
        self._live_sets = live_sets
        self._settings = settings
        self._key = key
        self._load = load
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
        self._pointer: LiveSet | None = None
        # As of the last poll that could tell: the server asks at each of its ticks, and must outlive a staging area.
        self._asks_nothing = False
        self._previous: LiveSet | None = None
        self._set_loads: dict[int, SetLoad] = {}
        self._current: set[int] = set()
        """The numbers of the sets that were live, proposed or the one before at the last poll."""
        self._held: dict[str, Content] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}

    def get(self, key: str) -> Content | None:
        """The content under `key`, None when it is not held."""
        return self._held.get(key)

    def held(self) -> list[str]:
        """The keys of all that is held, sorted."""
        return sorted(self._held)

    def states(self) -> list[SetState]:
        """The states of the sets that are live or proposed, or were a moment ago."""
        return [self.state(number) for number in sorted(self._set_loads)]

    def state(self, number: int) -> SetState:
        """How far this service is with the set of this number."""
        set_load = self._set_loads.get(number)
        if set_load is None:
            reason = "It is neither live nor proposed, as far as this service has seen."
            return SetState(number=number, state="unknown", reason=reason)
        key = self._key(set_load.live_set)
        if key is None:
            return SetState(number=number, state="elsewhere", reason=NOTHING_ASKED)
        if key in self._held:
            return SetState(number=number, state="ready", key=key)
        if set_load.failure:
            return SetState(number=number, state="failed", key=key, reason=set_load.failure)
        return SetState(number=number, state="loading", key=key)

    def leads(self) -> bool:
        """Whether the live set's queries go to this process; also while nothing is live, as any process will do."""
        return not self.stands_by()

    def stands_by(self) -> bool:
        """Whether the live set asks nothing of this process."""
        return self._asks_nothing

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep up with the pointers while the block runs."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            self._loader.shutdown(wait=False, cancel_futures=True)

    async def _follow(self) -> None:
        while True:
            try:
                await self._poll()
                self.problem = None
            except Exception as error:
                # The staging area may be out of reach for a while: what is held goes on answering, /health says why.
                if self.problem is None:
                    log.exception("Cannot follow the live set in %s", self._live_sets.url)
                self.problem = _words(error)
            await asyncio.sleep(self._settings.poll_seconds)

    async def _poll(self) -> None:
        live, proposed = await asyncio.to_thread(lambda: (self._live_sets.live(), self._live_sets.proposed()))
        # Where there is no pointer, what was live stays live: this service goes on answering.
        self._pointer = live or self._pointer
        self._asks_nothing = self._pointer is not None and self._key(self._pointer) is None
        current = [each for each in (self._previous, self._pointer, proposed) if each]
        for each in current:
            self._start_load(self._watch(each))
        self._current = {each.number for each in current}
        self._settle()

    def _watch(self, live_set: LiveSet) -> SetLoad:
        set_load = self._set_loads.get(live_set.number)
        # A set that is proposed once more is tried at once, whatever it failed for before.
        if set_load is None or set_load.live_set != live_set or live_set.number not in self._current:
            set_load = self._set_loads[live_set.number] = SetLoad(live_set, time.monotonic())
        set_load.last_wanted = time.monotonic()
        return set_load

    def _start_load(self, set_load: SetLoad) -> None:
        key = self._key(set_load.live_set)
        if key is None or key in self._held or key in self._loading:
            return
        if time.monotonic() >= set_load.retry_at:
            self._loading[key] = asyncio.create_task(self._load_one(key, set_load))

    async def _load_one(self, key: str, set_load: SetLoad) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._held[key] = await loop.run_in_executor(self._loader, self._load, set_load.live_set)
            log.info("Loaded %s for set %d", key, set_load.live_set.number)
        except Exception as error:
            self.load_failures += 1
            set_load.failure = _words(error)
            set_load.retry_at = time.monotonic() + self._settings.retry_seconds
            log.exception("Cannot load %s for set %d", key, set_load.live_set.number)
        finally:
            del self._loading[key]
        self._settle()

    def _settle(self) -> None:
        """Switch to the live set once it is held, then let go of what nobody asks for any more."""
        pointer = self._pointer
        key = self._key(pointer) if pointer else None
        if pointer and (key is None or key in self._held) and (self.live is None or self.live.live_set != pointer):
            self._switch(pointer, key)
        oldest = time.monotonic() - self._settings.grace_seconds
        self._set_loads = {number: each for number, each in self._set_loads.items() if each.last_wanted >= oldest}
        needed: set[str | None] = {self._key(each.live_set) for each in self._set_loads.values()}
        if self.live is not None:
            needed.add(self._key(self.live.live_set))
        self._held = {key: content for key, content in self._held.items() if key in needed}

    def _switch(self, pointer: LiveSet, key: str | None) -> None:
        if self.live is not None and self.live.live_set.number != pointer.number:
            self._previous = self.live.live_set
            self._watch(self._previous)
        if key is not None:
            log.info("Set %d is live", pointer.number)
        elif self.live is not None:
            log.info("Set %d is live, and answered by another process", pointer.number)
        self.live = None if key is None else Live(pointer, self._held[key])


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
