"""Bounds on what a connection may take: requests read ahead, time, file descriptors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from support.service_process import DEADLINE, ServiceProcess
from uvicorn.server import ServerState

from heksher.service.web import connections
from heksher.service.web.connections import BoundedProtocol, ByAge, Listener
from heksher.service.web.http import Encoded
from heksher.service.web.server import listen

REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until *condition* holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock the test can move forward."""

    _ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    async def forward(self, seconds: float) -> None:
        """Move the clock, and run what is due."""
        self._ahead += seconds
        for _ in range(3):
            await asyncio.sleep(0)


class Peer:
    """A client's end of a connection to an application, and the service's end of it."""

    def __init__(self, loop: SteppedLoop, application: ASGIApp) -> None:
        self.loop = loop
        self._config = uvicorn.Config(application, http=BoundedProtocol, log_config=None, ws="none")
        self._state = ServerState()
        self._near, self._far = socket.socketpair()
        self.by_age: ByAge = {}

    async def connect(self) -> None:
        self.protocol = BoundedProtocol(
            self._config, self._state, {}, self.loop, by_age=self.by_age
        )
        await self.loop.connect_accepted_socket(lambda: self.protocol, self._far)
        self.reader, self.writer = await asyncio.open_connection(sock=self._near)

    @property
    def unread(self) -> int:
        """How many bytes the service has read and not processed."""
        return len(self.protocol.conn.trailing_data[0])

    async def send(self, data: bytes) -> None:
        """Send part of a head, and wait until the service has it."""
        expected = self.unread + len(data)
        self.writer.write(data)
        await until(lambda: self.unread == expected)

    async def is_ended(self) -> bool:
        """Whether the service has ended the connection, without waiting for this end."""
        await asyncio.sleep(0)
        return self.protocol not in self._state.connections

    def has_answered(self, requests: int) -> bool:
        return self._state.total_requests == requests

    async def leave_answers_unread(self) -> None:
        """Send requests until a part of an answer waits in the service."""
        self.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for requests in count(1):
            self.writer.write(REQUEST)
            await until(partial(self.has_answered, requests))
            if self.protocol.transport.get_write_buffer_size():
                break

    def close(self) -> None:
        self.writer.close()
        self.protocol.transport.abort()


def run(application: ASGIApp, test: Callable[[Peer], Coroutine[Any, Any, None]]) -> None:
    """Run *test* with a connection to *application*."""

    async def connected() -> None:
        peer = Peer(loop, application)
        await peer.connect()
        try:
            await asyncio.wait_for(test(peer), 1000 + DEADLINE)
        finally:
            peer.close()
            await asyncio.sleep(0)

    with closing(SteppedLoop()) as loop:
        loop.run_until_complete(connected())


def answering(
    body: bytes = b"ok", before: Callable[[], Awaitable[object]] | None = None
) -> ASGIApp:
    """An application that reads each request and answers with *body*, after *before*."""

    async def application(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        if before is not None:
            await before()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return application


# --- pipelined requests ---------------------------------------------------------------------------


def test_requests_that_are_sent_ahead_wait_in_the_kernel() -> None:
    requests = 2_000
    request = REQUEST[:-2] + b"x-padding: " + b"-" * 2_000 + b"\r\n\r\n"

    async def test(peer: Peer) -> None:
        most = 0
        peer.writer.write(request * requests)
        for _ in range(requests):
            await peer.reader.readuntil(b"\r\n\r\nok")
            most = max(most, peer.unread)
        assert most <= 256 * 1024
        assert peer.unread == 0

    run(answering(before=partial(asyncio.sleep, 0)), test)


def test_a_large_body_is_read_although_the_application_takes_its_time() -> None:
    body = b"x" * 1_000_000

    async def test(peer: Peer) -> None:
        post = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
        peer.writer.write((post + body) * 3)
        for _ in range(3):
            await peer.reader.readuntil(b"\r\n\r\nok")

    run(answering(before=partial(asyncio.sleep, 0)), test)


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"GET / HTTP/1.1\r\n"],
        [b"GET / HT", b"TP/1.1\r\nhost", b": x\r\n"],
    ],
    ids=["nothing", "half a head", "a head in small pieces"],
)
@pytest.mark.parametrize("earlier", [False, True], ids=["at first", "later"])
def test_a_request_that_does_not_arrive_ends_the_connection(
    parts: list[bytes], earlier: bool
) -> None:
    async def test(peer: Peer) -> None:
        if earlier:
            peer.writer.write(REQUEST)
            await peer.reader.readuntil(b"\r\n\r\nok")
        for part in parts:
            await peer.send(part)
            await peer.loop.forward(29 / len(parts))
            assert not await peer.is_ended()
        await peer.loop.forward(2 if parts else 31)
        assert await peer.is_ended()

    run(answering(), test)


def test_a_body_that_does_not_arrive_ends_the_connection() -> None:
    async def test(peer: Peer) -> None:
        await peer.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r")
        peer.writer.write(b"\nbo")
        await until(lambda: peer.unread == 0)
        await peer.loop.forward(29)
        assert not await peer.is_ended()
        await peer.loop.forward(2)
        assert await peer.is_ended()

    run(answering(), test)


def test_an_application_may_take_longer_than_a_client() -> None:
    async def test(peer: Peer) -> None:
        peer.writer.write(REQUEST)
        await begun.wait()
        await peer.loop.forward(100)
        finish.set()
        await peer.reader.readuntil(b"\r\n\r\nok")

    begun, finish = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await finish.wait()

    run(answering(before=work), test)


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_has_to_read(reads: bool) -> None:
    body = b"x" * 10_000_000

    async def test(peer: Peer) -> None:
        peer.writer.write(REQUEST)
        await until(lambda: peer.protocol.flow.write_paused)
        for _ in range(9):
            if reads:
                await peer.reader.readexactly(1_000_000)
            await peer.loop.forward(31)
        assert await peer.is_ended() is not reads
        if reads:
            await peer.reader.readuntil(b"x" * 1_000)

    run(answering(body), test)


@pytest.mark.parametrize(
    "last",
    [b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"?\r\n\r\n"],
    ids=["connection: close", "no request"],
)
def test_a_client_has_to_read_the_last_answer_too(last: bytes) -> None:
    async def test(peer: Peer) -> None:
        await peer.leave_answers_unread()
        assert not peer.protocol.flow.write_paused
        peer.writer.write(last)
        await until(peer.protocol.transport.is_closing)
        await peer.loop.forward(29)
        assert not await peer.is_ended()
        await peer.loop.forward(2)
        assert await peer.is_ended()

    run(answering(b"x" * 10_000), test)


def test_a_slow_client_costs_no_copy_of_a_long_answer() -> None:
    body = bytes(range(256)) * 40_000

    async def test(peer: Peer) -> None:
        transport = peer.protocol.transport
        peer.writer.write(REQUEST)
        await peer.reader.readuntil(b"\r\n\r\n")
        received = bytearray()
        while len(received) < len(body):
            assert transport.get_write_buffer_size() < 512 * 1024
            received += await peer.reader.read(100_000)
        assert received == body

    run(Encoded[Any](body), test)


# --- file descriptors -----------------------------------------------------------------------------


# Much more than the service accepts at once.
LIMIT = 256
# Requests in progress: their bodies are to follow.
IN_PROGRESS = (
    b"GET /api/v1/context_features/user HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n"
)


class Visitors:
    """Connections to a service that has no descriptors for *LIMIT* of them."""

    def __init__(self, service: ServiceProcess) -> None:
        resource = pytest.importorskip("resource")
        assert service.process is not None
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        self._host, self._port = urlsplit(service.url).hostname, service.port
        self._stack = ExitStack()

    def __enter__(self) -> Visitors:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def come(self, number: int, sending: bytes = b"") -> list[socket.socket]:
        """Open connections that send this."""
        came: list[socket.socket] = []
        for _ in range(number):
            connection = socket.create_connection((self._host, self._port), DEADLINE)
            came.append(self._stack.enter_context(connection))
            connection.sendall(sending)
        return came

    def leave(self) -> None:
        """Close all connections."""
        self._stack.close()


def status(connection: socket.socket) -> int:
    """Read an answer that has no more than 1,000 bytes, and return its status."""
    return int(connection.recv(1_000)[9:12])


@pytest.mark.parametrize(
    ("host", "sent", "then"),
    [("127.0.0.1", b"", REQUEST), ("::1", REQUEST[:-2], REQUEST[-2:])],
    ids=["nothing was sent", "a part of a request was sent"],
)
def test_a_new_connection_replaces_the_oldest_idle_one(host: str, sent: bytes, then: bytes) -> None:
    with ServiceProcess() as service:
        service.start(features=["user"], options=["--host", host])
        with Visitors(service) as visitors:
            [asking] = visitors.come(1, IN_PROGRESS)
            idle = visitors.come(LIMIT, sent)
            for connection in visitors.come(3, REQUEST):
                assert status(connection) == 404
            assert idle[0].recv(1) == b""
            idle[LIMIT // 2].sendall(then)
            assert status(idle[LIMIT // 2]) == 404
            asking.sendall(b"x")
            assert status(asking) == 200
        service.stop()


def test_requests_in_progress_leave_descriptors_to_the_database(tmp_path: Path) -> None:
    """Further connections wait. This is logged once a second, not thousands of times."""
    with ServiceProcess() as service:
        service.start(features=["user"], database=tmp_path / "heksher.db")
        with Visitors(service) as visitors:
            asking = visitors.come(10, IN_PROGRESS)
            visitors.come(LIMIT, IN_PROGRESS)
            while "out of system resource" not in service.log:
                assert service.is_running
            for connection in asking:  # all at once, so that each needs a connection to the file
                connection.sendall(b"x")
            assert [status(connection) for connection in asking] == [200] * len(asking)
        assert service.request("GET", "/context_features").status_code == 200
        service.stop()
        assert service.log.count("out of system resource") < 20


def is_replaced(peer: Peer) -> bool:
    """Whether a connection ends to make room for another."""
    with listen("127.0.0.1", 0) as listener:
        listener.by_age = peer.by_age
        with pytest.raises(OSError) as raised:  # noqa: PT011
            listener.accept()
    return isinstance(raised.value, BlockingIOError)


@pytest.mark.parametrize(
    ("sent", "is_idle"),
    [
        (b"", True),
        (REQUEST[:-2], True),
        (REQUEST[:-2] + b"content-length: 9\r\n\r\nbody", False),
        (REQUEST, False),
    ],
    ids=["nothing", "half a head", "half a body", "a request"],
)
@pytest.mark.parametrize("earlier", [False, True], ids=["at first", "later"])
def test_a_connection_is_idle_until_it_has_sent_a_head(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, is_idle: bool, earlier: bool
) -> None:
    monkeypatch.setattr(connections, "_only_reserved_descriptors_are_left", bool)

    async def test(peer: Peer) -> None:
        if earlier:
            peer.writer.write(REQUEST)
            await peer.reader.readuntil(b"\r\n\r\nok")
        is_free.clear()
        if is_idle:
            await peer.send(sent)
        else:
            peer.writer.write(sent)
            await until(lambda: peer.protocol.conn.their_state is not h11.IDLE)
        await peer.loop.forward(0.9)
        assert not is_replaced(peer)
        await peer.loop.forward(0.2)
        assert is_replaced(peer) is is_idle
        assert await peer.is_ended() is is_idle
        is_free.set()

    is_free = asyncio.Event()
    is_free.set()
    run(answering(before=is_free.wait), test)


def test_a_connection_is_not_idle_while_its_answer_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "_only_reserved_descriptors_are_left", bool)

    async def test(peer: Peer) -> None:
        await peer.leave_answers_unread()
        await peer.loop.forward(2)
        assert not is_replaced(peer)
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await until(lambda: not peer.protocol.transport.get_write_buffer_size())
        assert is_replaced(peer)

    run(answering(b"x" * 10_000), test)


def test_a_batch_ends_with_the_last_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0) as listener:
        assert isinstance(listener, Listener)
        monkeypatch.setattr(connections, "_only_reserved_descriptors_are_left", bool)
        for _ in range(2):
            with pytest.raises(OSError, match="reserved"):
                listener.accept()
            with pytest.raises(BlockingIOError):  # at which asyncio stops trying
                listener.accept()
        monkeypatch.undo()
        with socket.create_connection(listener.getsockname()), listener.accept()[0]:
            pass
