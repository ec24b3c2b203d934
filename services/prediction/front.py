"""A worker's server: it answers on its own socket, and on the family's port for as long as it leads.

Whoever asks a family by its port need know nothing of workers. The port goes from the worker of one live set to that of
the next without a gap: for a moment both listen there.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from uvicorn import Config

from services.connections import BoundedProtocol, CalmServer

OVERLAP_SECONDS = 3.0
"""How long a worker goes on listening at the family's port once another leads: by then that one listens there, too."""
BACKLOG = 2048

log = logging.getLogger(__name__)


class FrontServer(CalmServer):
    """uvicorn's server, which also listens on `port` while `leads` says so: its door."""

    def __init__(self, config: Config, leads: Callable[[], bool], host: str, port: int) -> None:
        super().__init__(config)
        self._leads, self._host, self._port = leads, host, port
        self._door: asyncio.Server | None = None
        self._led = 0.0

    async def on_tick(self, counter: int) -> bool:
        """Open or close the door, and say whether the server is to end."""
        if self._leads():
            self._led = time.monotonic()
            if self._door is None:
                await self._open()
        elif self._door is not None and time.monotonic() - self._led > OVERLAP_SECONDS:
            self._close(self._door)
        return await super().on_tick(counter)

    async def _open(self) -> None:
        door = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            door.bind((self._host, self._port))
        except OSError as error:  # another process has it, or is just leaving it: tried again at the next tick
            door.close()
            log.warning("Cannot listen on %s:%d yet: %s", self._host, self._port, error)
            return
        loop = asyncio.get_running_loop()
        self._door = await loop.create_server(self._protocol, sock=door, backlog=BACKLOG)
        self.servers.append(self._door)  # closed with the others when the server ends

    def _protocol(self) -> asyncio.Protocol:
        return BoundedProtocol(self.config, self.server_state, self.lifespan.state)

    def _close(self, door: asyncio.Server) -> None:
        """Stop listening, and end the connections that came this way once their requests are answered."""
        door.close()
        self.servers.remove(door)
        self._door = None
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport and isinstance(transport.get_extra_info("sockname"), tuple):
                connection.shutdown()
