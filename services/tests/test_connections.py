"""What holds a connection and sends nothing, or next to nothing, is closed in a stated time. A real server."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from services import connections, web
from services.tests.stack import until

SECONDS = 1.0
"""Seconds that a request may take here, in place of 10."""

Message = dict[str, Any]
Listening = tuple[int, Collection[object]]

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Reads the whole body; answers with as many bytes as the path says, after as many seconds as the query says."""
    if scope["type"] == "lifespan":
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    await asyncio.sleep(float(scope["query_string"] or 0))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * int(scope["path"][1:] or len(body))})


class Quick(connections.BoundedProtocol):
    request_seconds = SECONDS


@pytest.fixture(scope="module")
def server() -> Iterator[Listening]:
    """The server's port and its open connections."""
    made = connections.CalmServer(
        uvicorn.Config(app, "127.0.0.1", 0, **web.SERVER | {"http": Quick, "lifespan": "off"})
    )
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    until(lambda: made.started)
    (listening,) = made.servers[0].sockets
    yield listening.getsockname()[1], made.server_state.connections
    made.should_exit = True
    thread.join(10)


def talk(server: Listening, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send the parts with pauses between them; returns what came back, and after how many seconds it ended."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server[0]), timeout=20 * SECONDS) as line:
        answer = b""
        try:
            for part in parts:
                line.sendall(part)
                time.sleep(pause)
            while received := line.recv(65536):
                answer += received
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed under the client's hands: as it should be
    return answer, time.monotonic() - began


def test_a_connection_that_sends_nothing_is_closed_without_a_word(server: Listening) -> None:
    answer, seconds = talk(server)
    assert answer == b""
    assert SECONDS <= seconds < 10 * SECONDS


@pytest.mark.parametrize("beginning", [b"", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"])
def test_one_that_sends_a_byte_now_and_then_is_told_that_it_is_too_slow(server: Listening, beginning: bytes) -> None:
    bytes_ = [bytes([each]) for each in (beginning and b"x" * 50) or REQUEST]
    answer, seconds = talk(server, beginning, *bytes_, pause=SECONDS / 6)
    assert answer.startswith(b"HTTP/1.1 408 ") or answer == b""
    assert SECONDS <= seconds < 10 * SECONDS


def test_the_words_of_it(server: Listening) -> None:
    answer, _ = talk(server, REQUEST[:-2])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"The request did not arrive within 1 s. Send it again.")


def test_a_line_end_now_and_then_after_an_answer_keeps_nothing_open(server: Listening) -> None:
    with socket.create_connection(("127.0.0.1", server[0]), timeout=20 * SECONDS) as line:
        line.sendall(REQUEST)
        assert line.recv(65536).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < began + 10 * SECONDS:
                line.sendall(b"\r\n")
                time.sleep(SECONDS / 5)


def test_headers_without_end_are_cut(server: Listening) -> None:
    answer, _ = talk(server, REQUEST[:-2], b"x: ", *[b"y" * 100_000] * 30)
    assert answer == b"" or b" 431 " in answer.split(b"\r\n")[0]
    until(lambda: not server[1])


def test_an_answer_that_is_not_taken_is_dropped(server: Listening) -> None:
    with socket.create_connection(("127.0.0.1", server[0])) as line:
        line.sendall(b"GET /50000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: server[1])
        until(lambda: not server[1])


@pytest.mark.slow
def test_an_answer_may_take_longer_than_the_question(server: Listening) -> None:
    url = f"http://127.0.0.1:{server[0]}"
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/3?{1.5 * SECONDS}").text == "xxx"
        large = b"x" * 5_000_000
        assert client.post(url, content=large).content == large
    # The next question follows at once, and a line end that some clients send after a body.
    slow = REQUEST.replace(b"/ ", b"/3?%f " % (1.5 * SECONDS))
    answer, _ = talk(server, slow + b"\r\n" + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert answer.count(b"HTTP/1.1 200 ") == 2
