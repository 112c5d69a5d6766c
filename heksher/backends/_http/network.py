"""How the HTTP clients that are made here connect: by the look-ups of `heksher.backends._lookups`.

A client that was handed in, or a transport, looks names up in its own way.

httpx has no option for this, and httpcore's option ``network_backend`` is out of reach behind it, so the
attribute that holds it is replaced in each connection pool. ``tests/client/test_httpcore.py`` fails when
that is no longer possible; names are looked up as httpcore does it then.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Iterable, Iterator
from traceback import walk_tb
from typing import Any

import anyio
import httpcore
import httpx
from httpcore._backends.auto import AutoBackend
from httpcore._backends.sync import SyncStream

from heksher.backends._lookups import Lookups
from heksher.backends._steady import steady
from heksher.backends.base import run_blocking

# Try the next address of a host if this many seconds bring no connection to the one before (RFC 8305).
_STAGGER = 0.25
# Wait at most this many seconds for a connection that is not needed to be closed in order.
_CLOSE_TIMEOUT = 2.0


def install(client: Any, network: AsyncNetwork | BlockingNetwork) -> None:
    """Let the connections of *client*, one of httpx's, be made by *network*, those to proxies included."""
    for transport in _transports(client):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = network
        if type(transport) in _QUIET:
            transport.__class__ = _QUIET[type(transport)]


def proxy_headers(client: Any) -> list[tuple[str, str]]:
    """Return the headers that *client* sends to its proxies, such as credentials."""
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for transport in _transports(client)
        for name, value in getattr(getattr(transport, "_pool", None), "_proxy_headers", ())
    ]


def _transports(client: Any) -> Iterator[Any]:
    yield getattr(client, "_transport", None)
    yield from getattr(client, "_mounts", {}).values()


class _QuietTransport(httpx.HTTPTransport):
    """Drops what a server says beside the status, since httpx logs it as it is.

    It may control a terminal, or repeat a token. httpx has its own words for each status then.
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        response.extensions.pop("reason_phrase", None)
        return response


class _QuietAsyncTransport(httpx.AsyncHTTPTransport):
    """Likewise for event loops."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        response.extensions.pop("reason_phrase", None)
        return response


_QUIET: dict[type[Any], type[Any]] = {
    httpx.HTTPTransport: _QuietTransport,
    httpx.AsyncHTTPTransport: _QuietAsyncTransport,
}


class AsyncNetwork(AutoBackend):
    """Connects in event loops, to whichever address of a host answers first."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection to *host*."""
        connect = super().connect_tcp
        deadline = anyio.current_time() + (math.inf if timeout is None else timeout)
        streams: list[httpcore.AsyncNetworkStream] = []
        errors: list[Exception] = []

        async def attempt(address: str, ended: anyio.Event) -> None:
            try:
                streams.append(await connect(address, port, timeout, local_address, socket_options))
                group.cancel_scope.cancel()
            except Exception as error:
                errors.append(error)
            finally:
                ended.set()

        try:
            found = await self._lookups.find(host, port, timeout)
            with anyio.fail_after(deadline - anyio.current_time()):
                async with anyio.create_task_group() as group:
                    for *_, address in found:
                        ended = anyio.Event()
                        group.start_soon(attempt, _numeric(address), ended)
                        with anyio.move_on_after(_STAGGER):
                            await ended.wait()
        except TimeoutError as error:
            await _close(streams)
            raise httpcore.ConnectTimeout(str(error) or _too_slow(host)) from error
        except OSError as error:
            raise httpcore.ConnectError(error) from error
        except BaseException:
            await _close(streams)
            raise
        await _close(streams[1:])
        if not streams:
            raise errors[0]
        return streams[0]


def _numeric(address: Any) -> str:
    """Return a socket's address as text, with the interface that a link-local one is reached by."""
    host, _ = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return host


async def _close(streams: list[httpcore.AsyncNetworkStream]) -> None:
    with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
        for each in streams:
            await each.aclose()


class BlockingNetwork(httpcore.SyncBackend):
    """Connects in threads and greenlets, to one address of a host after the other.

    Args:
        lookups: of the client.
        seconds: take at most so long for the look-up and all addresses together, whatever timeouts the
            HTTP client has.
    """

    def __init__(self, lookups: Lookups, seconds: float) -> None:
        self._lookups = lookups
        self._seconds = seconds

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Return a connection to *host*."""
        deadline = steady() + self._seconds
        wait = self._seconds if timeout is None else min(timeout, self._seconds)
        errors: list[OSError] = []
        try:
            for family, *_, address in run_blocking(self._lookups.find(host, port, wait)):
                left = min(wait, deadline - steady())
                if left <= 0:
                    raise TimeoutError(_too_slow(host))
                try:
                    return _Stream(
                        _connected(family, address, left, local_address, socket_options or ())
                    )
                except OSError as error:
                    errors.append(error)
            raise errors[0]
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(error) from error
        except OSError as error:
            raise httpcore.ConnectError(error) from error


class _Stream(SyncStream):
    """A connection that is closed for certain if its TLS handshake fails.

    The problem: of a connection that has been reset, `ssl` leaves the TLS socket that it has just made to
    the garbage collector. Only the frames of the error lead to it. (Seen on CPython 3.11.7 and 3.12.1;
    3.13.0 closes it.)
    """

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Return the stream after the handshake."""
        try:
            return super().start_tls(ssl_context, server_hostname, timeout)
        except Exception as error:
            for frame, _ in walk_tb((error.__cause__ or error).__traceback__):
                made = frame.f_locals.get("self")
                if isinstance(made, ssl.SSLSocket):
                    made.close()
            raise


def _too_slow(host: str) -> str:
    return f"connecting to {host} takes too long"


def _connected(
    family: int,
    address: Any,
    timeout: float,
    local_address: str | None,
    options: Iterable[httpcore.SOCKET_OPTION],
) -> socket.socket:
    # Not by `socket.create_connection`: gevent's looks up even an address, in the application's pool.
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.settimeout(timeout)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_option: Any = opened.setsockopt
        for option in options:
            set_option(*option)
        if local_address is not None:
            opened.bind((local_address, 0))
        opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return opened
