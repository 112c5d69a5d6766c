"""What the HTTP edge uses of httpcore's inside, and which faults of httpcore it works around.

These tests make requests by HTTP clients without this library. One that fails after an update of httpx
or httpx2 says that httpcore has changed: either a bound of `heksher.backends._http` no longer holds, or
httpcore has a bound of its own now, and the one here may go.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import ssl
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import httpcore
import httpx
import pytest
import trustme
from httpcore._backends.auto import AutoBackend
from support.harness import PATIENCE, Harness
from support.misbehaving import OK, Answer, MisbehavingServer, http, silence

from heksher.backends._http.network import BlockingNetwork, install
from heksher.backends._lookups import Lookups
from heksher.backends._thread import ThreadBackend
from heksher.exceptions import ServiceUnreachableError

BODY = b'{"version": "1"}'
EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: %s\r\n\r\n" % (b"x" * 8_000)

Event = tuple[str, dict[str, Any]]
#: Takes the events so far and the answer, whose head has been read and whose body has not.
Look = Callable[[list[Event], Any], None]


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def get(
    library: Any,
    kind: str,
    url: str,
    look: Look = lambda _events, _answer: None,
    note: Callable[[str, dict[str, Any]], None] = lambda _event, _info: None,
    times: int = 1,
    **arguments: Any,
) -> list[Any]:
    """Make requests by a client of *library*, and return the answers.

    Args:
        library: httpx or httpx2.
        kind: of the client: "blocking", or the library of its event loop.
        url: what to get.
        look: called when the head of an answer has been read.
        note: called with each event of the trace when it comes.
        times: how many requests are made, on one connection if it is kept.
        arguments: of the client.
    """
    events: list[Event] = []
    answers: list[Any] = []

    def trace(event: str, info: dict[str, Any]) -> None:
        events.append((event, info))
        note(event, info)

    async def trace_async(event: str, info: dict[str, Any]) -> None:
        trace(event, info)

    async def get_async() -> None:
        async with library.AsyncClient(trust_env=False, **arguments) as client:
            for _ in range(times):
                extensions = {"trace": trace_async}
                async with client.stream("GET", url, extensions=extensions) as answer:
                    look(events, answer)
                    await answer.aread()
                    answers.append(answer)

    if kind != "blocking":
        anyio.run(get_async, backend=kind)
        return answers
    with library.Client(trust_env=False, **arguments) as client:
        for _ in range(times):
            with client.stream("GET", url, extensions={"trace": trace}) as answer:
                look(events, answer)
                answer.read()
                answers.append(answer)
    return answers


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts for a client and for a server at 127.0.0.1."""
    authority = trustme.CA()
    client = ssl.create_default_context()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    authority.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    return client, server


# --- the trace: which streams are opened, and when a head is read ---------------------------------

HEAD_EVENTS = [
    "http11.receive_response_headers.started",
    "http11.receive_response_headers.complete",
]


def names(events: list[Event]) -> list[str]:
    """Return the names of those events that the edge acts upon."""
    endings = ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
    return [name for name, _ in events if name in HEAD_EVENTS or name.endswith(endings)]


def assert_is_usable(stream: Any, kind: str) -> None:
    """What the edge does with a stream: reads by another function, and asks for its socket."""
    assert callable(stream.read.__func__)
    stream.read = stream.read
    if kind == "blocking":
        assert isinstance(stream.get_extra_info("socket"), socket.socket)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_the_trace_reports_streams_and_heads_by_these_names(
    library: Any, kind: str, secure: bool
) -> None:
    def look(events: list[Event], answer: Any) -> None:
        opened = ["connection.connect_tcp.complete"]
        if secure:
            opened.append("connection.start_tls.complete")
        assert names(events) == opened + HEAD_EVENTS
        for name, info in events:
            if name in opened:
                assert_is_usable(info["return_value"], kind)
        last = [info["return_value"] for name, info in events if name in opened][-1]
        assert answer.extensions["network_stream"] is last

    trusting, certified = tls_contexts()
    with MisbehavingServer(http(BODY), certified if secure else None) as server:
        (answer,) = get(library, kind, server.url, look, verify=trusting)
    assert answer.content == BODY


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_the_trace_tells_a_kept_connection_from_a_new_one(
    library: Any, kind: str, secure: bool
) -> None:
    counts: Counter[str] = Counter()

    def note(event: str, info: dict[str, Any]) -> None:
        counts[event.partition(".")[2]] += 1

    trusting, certified = tls_contexts()
    with MisbehavingServer(http(BODY), certified if secure else None) as server:
        get(library, kind, server.url, note=note, times=2, verify=trusting)
    assert counts["connect_tcp.started"] == 1
    assert counts["start_tls.started"] == secure
    assert counts["send_request_headers.started"] == 2


def test_the_trace_reports_the_stream_of_a_unix_socket(library: Any, kind: str) -> None:
    def look(events: list[Event], answer: Any) -> None:
        assert names(events) == ["connection.connect_unix_socket.complete", *HEAD_EVENTS]
        assert events[0][0] == "connection.connect_unix_socket.started"
        (opened,) = (info for name, info in events if name.endswith("unix_socket.complete"))
        assert_is_usable(opened["return_value"], kind)

    def answer_once(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            http(BODY)(connection, threading.Event())

    transport = library.HTTPTransport if kind == "blocking" else library.AsyncHTTPTransport
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder) / "socket")
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=answer_once, args=[listener])
        thread.start()
        (answer,) = get(library, kind, "http://service", look, transport=transport(uds=path))
        thread.join()
    assert answer.content == BODY


def test_the_trace_reports_the_stream_through_a_proxys_tunnel(library: Any, kind: str) -> None:
    """Its events have another prefix."""
    trusting, certified = tls_contexts()

    def tunnel(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with certified.wrap_socket(connection, server_side=True) as inside:
            inside.recv(65536)
            http(BODY)(inside, stop)

    def look(events: list[Event], answer: Any) -> None:
        streams = [info["return_value"] for name, info in events if "start_tls.complete" in name]
        assert streams
        assert_is_usable(streams[-1], kind)
        assert answer.extensions["network_stream"] is streams[-1]

    with MisbehavingServer(tunnel) as proxy:
        url = "https://127.0.0.1:9"
        (answer,) = get(library, kind, url, look, verify=trusting, proxy=proxy.url)
    assert answer.content == BODY


def test_every_byte_comes_by_the_streams_read_and_none_before_its_head(
    library: Any, kind: str
) -> None:
    head = OK + b"content-length: 200000\r\n\r\n"
    sizes: list[int] = []
    is_reading = False

    def count(event: str, info: dict[str, Any]) -> None:
        nonlocal is_reading
        if event == HEAD_EVENTS[0]:
            is_reading = True
        if not event.endswith("connect_tcp.complete"):
            return
        stream = info["return_value"]
        read = stream.read

        async def read_async(max_bytes: int, timeout: float | None = None) -> bytes:
            assert is_reading
            data: bytes = await read(max_bytes, timeout)
            sizes.append(len(data))
            return data

        def read_blocking(max_bytes: int, timeout: float | None = None) -> bytes:
            assert is_reading
            data: bytes = read(max_bytes, timeout)
            sizes.append(len(data))
            return data

        stream.read = read_blocking if kind == "blocking" else read_async

    with MisbehavingServer(http(b"x" * 200_000)) as server:
        get(library, kind, server.url, note=count)
    assert sum(sizes) == len(head) + 200_000


# --- heads without end, and more than one answer --------------------------------------------------


def send(data: bytes) -> Answer:
    return lambda connection, _stop: connection.sendall(data)


def test_httpcore_skips_any_number_of_provisional_answers(library: Any, kind: str) -> None:
    many = EARLY * 100
    with MisbehavingServer(send(many + OK + b"content-length: 0\r\n\r\n")) as server:
        (answer,) = get(library, kind, server.url)
    assert answer.status_code == 200


def test_httpcore_bounds_a_single_head(library: Any, kind: str) -> None:
    head = OK + b"x: %s\r\ncontent-length: 0\r\n\r\n" % (b"x" * 300_000)
    with (
        MisbehavingServer(send(head)) as server,
        pytest.raises(library.RemoteProtocolError),
    ):
        get(library, kind, server.url)


def test_httpcore_takes_what_follows_an_answer_for_the_next_one(library: Any, kind: str) -> None:
    forged = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n"
    with MisbehavingServer(send(OK + b"content-length: 0\r\n\r\n" + forged)) as server:
        answers = get(library, kind, server.url, times=2)
    assert [answer.status_code for answer in answers] == [200, 401]


# --- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["direct", "proxy"])
def test_the_network_of_a_pool_can_be_replaced(kind: str, way: str) -> None:
    """Also in the pool of a proxy, which is elsewhere in the HTTP client."""
    connected: list[tuple[str, int]] = []

    class Network(httpcore.SyncBackend):
        def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
            connected.append((host, port))
            raise httpcore.ConnectError

    class AsyncNetwork(AutoBackend):
        async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
            connected.append((host, port))
            raise httpcore.ConnectError

    arguments: dict[str, Any] = {"trust_env": False}
    if way == "proxy":
        arguments["proxy"] = "http://proxy.test:8"

    def get_blocking() -> None:
        with httpx.Client(**arguments) as client:
            install(client, cast(Any, Network()))
            client.get("http://service.test:9")

    async def get_async() -> None:
        async with httpx.AsyncClient(**arguments) as client:
            install(client, cast(Any, AsyncNetwork()))
            await client.get("http://service.test:9")

    with pytest.raises(httpx.ConnectError):
        get_blocking() if kind == "blocking" else anyio.run(get_async, backend=kind)
    assert connected == [("service.test", 9) if way == "direct" else ("proxy.test", 8)]


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_httpcore_leaves_a_connection_open_whose_handshake_is_cancelled(
    library: Any, loop: str
) -> None:
    events: list[Event] = []

    async def body() -> None:
        scope = anyio.CancelScope()

        async def trace(event: str, info: dict[str, Any]) -> None:
            events.append((event, info))
            if event == "connection.start_tls.started":
                scope.cancel()

        async with library.AsyncClient(trust_env=False, timeout=None) as client:
            with scope:
                await client.get(url, extensions={"trace": trace})
        assert [name for name, _ in events if ".start_tls" in name] == [
            "connection.start_tls.started",
            "connection.start_tls.failed",
        ]
        (opened,) = (info for name, info in events if name.endswith("connect_tcp.complete"))
        stream = opened["return_value"]
        assert stream.get_extra_info("socket").fileno() >= 0
        # What the edge does about it.
        await stream.aclose()

    with MisbehavingServer(silence) as server:
        url = server.url.replace("http:", "https:")
        anyio.run(body, backend=loop)


def test_closing_ends_a_tls_handshake_with_its_connection(backend: Harness) -> None:
    async def body() -> None:
        client = backend.client(
            server.url.replace("http:", "https:"),
            60,
            ["user"],
            http_client_args={"timeout": None},  # so that httpx does not end it
        )
        ping = backend.beside(client.ping)
        # Not only connected: older versions of anyio leave a connection open that is cancelled just then.
        await backend.until(lambda: server.received > 0, "the handshake begins")
        gc.disable()  # so that it is not the collector that closes it
        try:
            await client.close()
            await backend.until(lambda: ping.ended, "the ping ends")
            await backend.until(lambda: server.open_connections() == 0, "the connection is closed")
        finally:
            gc.enable()
        assert isinstance(ping.error, ServiceUnreachableError)

    with MisbehavingServer(silence) as server:
        backend.run(body)


def test_a_connection_that_was_reset_before_its_tls_handshake_is_closed() -> None:
    """`ssl` leaves it to the garbage collector."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network = BlockingNetwork(Lookups(ThreadBackend().create_event, _no_thread), PATIENCE)
        stream = network.connect_tcp("127.0.0.1", listener.getsockname()[1])
        opened: socket.socket = stream.get_extra_info("socket")
        number = opened.fileno()
        accepted, _ = listener.accept()
        # No goodbye, but a reset.
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        select.select([opened], [], [], PATIENCE)
        with pytest.raises(httpcore.ConnectError):
            stream.start_tls(ssl.create_default_context(), "localhost")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


def _no_thread(_: object) -> None:
    raise AssertionError("an address is looked up here")


def test_a_request_over_tls_is_ended_at_its_deadline(backend: Harness) -> None:
    trusting, certified = tls_contexts()

    async def body() -> None:
        arguments = {"verify": trusting, "timeout": None}
        client = backend.client(
            server.url, 60, ["user"], request_timeout=0.5, http_client_args=arguments
        )
        for _ in range(3):
            with pytest.raises(ServiceUnreachableError, match=r"longer than 0\.5 seconds"):
                await client.ping()
        await client.close()

    with MisbehavingServer(silence, certified) as server:
        backend.run(body)


def test_a_service_behind_a_proxy_that_is_reached_over_tls_answers(backend: Harness) -> None:
    """TLS inside of TLS, for which httpcore wraps no socket."""
    trusting, certified = tls_contexts()

    def tunnel(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inside = certified.wrap_bio(incoming, outgoing, server_side=True)

        def perform(step: Callable[[], object]) -> None:
            while True:
                try:
                    step()
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    received = connection.recv(65536)
                    if not received:
                        raise OSError("the client has closed the connection") from None
                    incoming.write(received)
                else:
                    connection.sendall(outgoing.read())
                    return

        perform(inside.do_handshake)
        perform(lambda: inside.read(65536))
        perform(lambda: inside.write(OK + b"content-length: %d\r\n\r\n" % len(BODY) + BODY))

    async def body() -> None:
        proxy = httpx.Proxy(server.url, ssl_context=trusting)
        arguments = {"verify": trusting, "proxy": proxy}
        client = backend.client("https://127.0.0.1:9", 60, ["user"], http_client_args=arguments)
        await client.ping()
        await client.close()

    with MisbehavingServer(tunnel, certified) as server:
        backend.run(body)


def test_a_library_has_the_names_that_it_is_known_by(library: Any) -> None:
    for name in ("TransportError", "TimeoutException", "DecodingError"):
        assert issubclass(getattr(library, name), library.RequestError)
    assert issubclass(library.HTTPStatusError, library.HTTPError)
    # Its text shows the value of a header, which may be a token.
    assert issubclass(library.LocalProtocolError, library.TransportError)
