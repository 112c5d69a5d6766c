"""Connections that are kept for the next request, and that the other side closes at that moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator
from typing import Any

import httpx
import httpx2
import pytest
from support.harness import Harness
from support.misbehaving import Answer, MisbehavingServer, hang_up, http, silence

from heksher._wire import Request
from heksher.backends import HttpOptions
from heksher.exceptions import ServiceUnreachableError

BODY = http(b'{"version": "1"}')
GET = Request("GET", "api/health")
POST = Request("POST", "api/v1/settings/declare", body=b"{}")


def after_the_first(then: Answer, is_answered: Callable[[int], bool] = lambda _: True) -> Answer:
    """Answer the first request of each connection, and give the later ones to *then*.

    Args:
        then: gives the other answers.
        is_answered: whether the first request of a connection is answered, by the connection's number.
    """
    served: list[socket.socket] = []

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        if connection not in served:
            served.append(connection)
            if is_answered(len(served)):
                BODY(connection, stop)
                return
        then(connection, stop)
        raise OSError  # which closes the connection

    return answer


def cut(connection: socket.socket, stop: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 2")


@pytest.mark.parametrize("library", [None, httpx, httpx2], ids=["own", "httpx", "httpx2"])
def test_a_get_on_a_kept_connection_that_closes_is_sent_again(
    backend: Harness, library: Any
) -> None:
    async def body() -> None:
        ready = None
        if library is not None:
            ready = library.Client() if backend.is_blocking else library.AsyncClient()
        transport = backend.backend.create_transport(HttpOptions(server.url + "/", client=ready))
        for _ in range(3):
            assert (await transport.send(GET)).status == 200
        # The first and the second connection had a second request, which got no answer.
        assert len(server.requests) == 5
        await transport.aclose()
        if ready is not None:
            await ready.aclose() if hasattr(ready, "aclose") else ready.close()

    with MisbehavingServer(after_the_first(hang_up)) as server:
        backend.run(body)


@pytest.mark.parametrize(
    ("request_", "answer", "requests"),
    [
        pytest.param(POST, lambda: after_the_first(hang_up), 2, id="a POST"),
        pytest.param(GET, lambda: after_the_first(cut), 2, id="after the first byte"),
        pytest.param(GET, lambda: after_the_first(silence), 2, id="when it was too slow"),
        pytest.param(
            GET, lambda: after_the_first(hang_up, lambda number: number == 1), 3, id="twice"
        ),
    ],
)
def test_nothing_else_is_sent_again(
    backend: Harness, request_: Request, answer: Callable[[], Answer], requests: int
) -> None:
    async def body() -> None:
        options = HttpOptions(server.url + "/", request_timeout=1)
        transport = backend.backend.create_transport(options)
        assert (await transport.send(request_)).status == 200
        with pytest.raises(ServiceUnreachableError):
            await transport.send(request_)
        assert len(server.requests) == requests
        await transport.aclose()

    with MisbehavingServer(answer()) as server:
        backend.run(body)


def test_a_new_connection_that_closes_is_an_error(backend: Harness) -> None:
    async def body() -> None:
        transport = backend.backend.create_transport(HttpOptions(server.url + "/"))
        with pytest.raises(ServiceUnreachableError):
            await transport.send(GET)
        assert len(server.requests) == 1
        await transport.aclose()

    with MisbehavingServer(hang_up) as server:
        backend.run(body)


def test_a_request_that_closing_ends_is_not_sent_again(backend: Harness) -> None:
    async def body() -> None:
        client = backend.client(server.url, 60, ["user"])
        await client.ping()
        ping = backend.beside(client.ping)
        await backend.until(lambda: len(server.requests) == 2, "it is on the kept connection")
        await client.close()
        await backend.until(lambda: ping.ended, "it ends")
        assert isinstance(ping.error, ServiceUnreachableError)
        assert len(server.requests) == 2

    with MisbehavingServer(after_the_first(silence)) as server:
        backend.run(body)


class TokenAuth(httpx.Auth):
    """An auth flow that asks for a token, before each request or once one has been refused."""

    def __init__(self, url: str, *, is_first: bool) -> None:
        self._url = url
        self._is_first = is_first

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._is_first:
            yield request
        yield httpx.Request("POST", f"{self._url}/token")
        request.headers["authorization"] = "token"
        yield request


def test_a_get_is_sent_again_without_the_requests_of_its_auth_flow(backend: Harness) -> None:
    async def body() -> None:
        options = HttpOptions(
            server.url + "/", client_args={"auth": TokenAuth(server.url, is_first=True)}
        )
        transport = backend.backend.create_transport(options)
        assert (await transport.send(GET)).status == 200
        # The token, and on the same connection the request, which gets no answer there.
        assert [each.partition(b" ")[0] for each in server.requests] == [b"POST", b"GET", b"GET"]
        assert b"authorization: token" in server.requests[-1].lower()
        await transport.aclose()

    with MisbehavingServer(after_the_first(hang_up)) as server:
        backend.run(body)


class StreamsThatAreReset(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A kept HTTP/2 connection on which each POST fails."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.methods.append(request.method)
        if request.method == "POST":
            raise httpx.RemoteProtocolError("the stream was reset", request=request)
        return httpx.Response(401)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "trace" in request.extensions:
            request.extensions["trace"]("http2.send_request_headers.started", {})
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "trace" in request.extensions:
            await request.extensions["trace"]("http2.send_request_headers.started", {})
        return self._answer(request)


def test_a_post_of_an_auth_flow_is_not_sent_again(backend: Harness) -> None:
    streams = StreamsThatAreReset()

    async def body() -> None:
        options = HttpOptions(
            "http://service.test/",
            client_args={
                "transport": streams,
                "auth": TokenAuth("http://service.test", is_first=False),
            },
        )
        transport = backend.backend.create_transport(options)
        with pytest.raises(ServiceUnreachableError):
            await transport.send(GET)
        await transport.aclose()

    backend.run(body)
    assert streams.methods == ["GET", "POST"]
