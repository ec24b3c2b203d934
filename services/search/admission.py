"""How many searches are answered at once: what a machine cannot carry is refused early, the rest answered in time.

Without it a load beyond what the models carry makes every answer late, and late answers lack a model.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException

from shared_ops.settings import Settings

RETRY_SECONDS = 1
"""When a client that was refused may ask again."""


class Admission:
    """Gives each search its turn: so many at once, some more wait for it a moment, in the order in which they came."""

    def __init__(self, settings: Settings) -> None:
        self._turns = asyncio.Semaphore(settings.searches_at_once)
        self._most_waiting, self._seconds = settings.searches_waiting, settings.searches_wait_ms / 1000
        self._waiting = 0
        self.refused = 0
        """How many searches were refused since the start."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block runs.

        Raises:
            HTTPException: 503 with Retry-After, when too many wait already, or the turn has not come in time.
        """
        await self._wait()
        try:
            yield
        finally:
            self._turns.release()

    async def _wait(self) -> None:
        if self._turns.locked() and self._waiting >= self._most_waiting:
            raise self._refusal()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._turns.acquire()
        except TimeoutError:
            raise self._refusal() from None
        finally:
            self._waiting -= 1

    def _refusal(self) -> HTTPException:
        self.refused += 1
        message = f"More searches come than can be answered in time. Ask again in {RETRY_SECONDS} s."
        return HTTPException(503, message, {"retry-after": str(RETRY_SECONDS)})
