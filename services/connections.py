"""Bounds on the time and memory that a connection may take of a server, and a server that looks around less often.

uvicorn itself bounds only the idle time between requests, and httptools nothing. Usually a proxy in front of a server
sets such bounds; these servers stand without one. Shared by the services and by Dagit's launcher.
"""

import asyncio
import http
import socket
import sys
from asyncio import TimerHandle
from contextlib import suppress
from typing import Any

from uvicorn import Config, Server
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS = 10.0
"""A request has to arrive whole within this time from the opening of its connection, or from its first byte. Within
this time, too, the client has to take at least a part of the answer.
"""

IDLE_SECONDS = 75
"""How long a connection may be idle between two requests. Our clients give theirs up before: so none sends a request on
a connection that is just being closed."""

MAX_HEAD = 2_000_000
"""Bytes of a request besides its body, at most."""

MAX_URL = 65_000
"""httptools cannot parse a URL past 65,535 bytes. 5,000 characters take 60,000 at most, percent-encoded."""

URL_TOO_LONG = "searchloop.url_too_long"
"""The key of the ASGI scope of a request whose URL was cut."""

TICKS = 5
"""Tenths of a second between two looks at whether the server is to end."""


class CalmServer(Server):
    """uvicorn's server, with fewer looks whether it is to end: ten a second took a fifth of an idle service's time."""

    async def main_loop(self) -> None:
        """Wait until the server is to end; meanwhile keep the answers' Date header up to date."""
        tenths = 0
        while not await self.on_tick(tenths):
            await asyncio.sleep(TICKS / 10)
            tenths += TICKS


def serve(configuration: Config) -> None:
    """Answer until the process is told to end; exit with an error where the server cannot start (its log says why)."""
    run(CalmServer(configuration))


def run(server: Server) -> None:
    """As `serve`, with a server that is there already."""
    with suppress(KeyboardInterrupt):  # told by SIGINT: it has ended in order by then
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in time, or is all headers.

    Hands a URL that httptools cannot parse to the app without its query, so that the app can refuse it in words.
    """

    request_seconds = REQUEST_SECONDS

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._deadline: TimerHandle | None = None
        self._begun = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first request's deadline, and bound how long an answer may lie untaken."""
        super().connection_made(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection = transport.get_extra_info("socket")
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * self.request_seconds))
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; refuse a request whose headers do not end."""
        self._start_deadline()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD:
            self._refuse(431, f"Expected {MAX_HEAD:,} bytes of headers at most.")

    def on_message_begin(self) -> None:
        """A request begins: start its deadline."""
        self._begun = True
        self._start_deadline()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Cut a URL that cannot be parsed."""
        if len(self.url) > MAX_URL:
            self.url = self.url.partition(b"?")[0][:MAX_URL]
            self.scope[URL_TOO_LONG] = True  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Do not count the body: the app bounds it, which knows what it takes."""
        self._head_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived whole: stop its deadline."""
        self._stop_deadline()
        self._begun = False
        self._head_bytes = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket protocol, which bounds it by pings: stop the deadline."""
        self._stop_deadline()
        super().handle_websocket_upgrade()

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_seconds, self._too_late)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if self.flow.read_paused or answering:
            # The rest of the request waits for this server, which reads on once it has answered.
            self._start_deadline()
        elif self._begun:
            self._refuse(408, f"The request did not arrive within {self.request_seconds:g} s. Send it again.")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer, unless an answer is on its way already, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            content = message.encode()
            head = (
                f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
                f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()
