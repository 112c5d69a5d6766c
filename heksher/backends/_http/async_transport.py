"""The transport for event loops, over ``httpx.AsyncClient``."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import httpx

from heksher._wire import Request, Response
from heksher.backends._http.body import Body
from heksher.backends._http.clients import make_client
from heksher.backends._http.errors import client_closed
from heksher.backends._http.head import RequestTrace
from heksher.backends._http.network import AsyncNetwork
from heksher.backends._http.transport import CHUNKS_PER_TURN, InThread, TransportBase
from heksher.backends._lookups import Lookups
from heksher.backends.base import HttpOptions

# Wait at most this many seconds for connections to be closed in order.
_CLOSE_TIMEOUT = 2.0


class AsyncTransport(TransportBase):
    """Sends requests in the calling task; a request that is cancelled ends at once.

    Args:
        options: how to reach the service.
        lookups: looks up names.
        in_thread: calls what decompresses large answers.
    """

    _client: Any = None
    _is_ours = False
    _is_closed = False

    def __init__(self, options: HttpOptions, lookups: Lookups, in_thread: InThread) -> None:
        super().__init__(options, in_thread)
        self._network = AsyncNetwork(lookups)
        # Clients that take no new request, and are closed when no request uses one any more.
        self._spent: list[Any] = []
        # The requests in progress, and what is set when the last one has ended after closing.
        self._busy: set[anyio.CancelScope] = set()
        self._idle: anyio.Event | None = None

    async def _send_request(self, request: Request) -> Response:
        if not self._is_closed:
            with anyio.CancelScope() as scope:
                self._busy.add(scope)
                try:
                    return await self._send_in_time(request)
                finally:
                    self._busy.discard(scope)
                    if self._spent and not self._busy:
                        await self._close_spent()
                    if self._idle is not None and not self._busy:
                        self._idle.set()
        raise client_closed()

    async def _send_in_time(self, request: Request) -> Response:
        if self._client is None:
            self._client, self._is_ours = make_client(
                self._options, httpx.AsyncClient, self._network
            )
        client, guard = self._client, HandshakeGuard()
        try:
            with anyio.move_on_after(self._options.request_timeout):
                return await self._exchange(client, request, guard, self._read)
        finally:
            if guard.failed_in_tls and client is self._client and self._options.makes_clients:
                # A new client reads the certificates again.
                self._client = None
                self._spent.append(client)
        raise self._too_slow()

    async def _close_spent(self) -> None:
        spent, self._spent = self._spent, []
        with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            for client in spent:
                await client.aclose()

    async def _send(self, client: Any, built: Any, arguments: dict[str, Any]) -> Any:
        return await client.send(built, **arguments)

    async def _close(self, answer: Any) -> None:
        await answer.aclose()

    @staticmethod
    async def _read(answer: Any, body: Body) -> None:
        # Once the body is too large, the connection is closed, and the reading is cancelled instead of
        # left. Either ends the generators inside httpx in order. Generators that are left alone are
        # finished by the garbage collector, of which trio warns. To close is not enough with HTTP/2:
        # httpcore would go on waiting for a stream that it has forgotten.
        with anyio.CancelScope() as reading:
            try:
                async for chunk in answer.aiter_raw():
                    body.add(chunk)
                    if body.chunk_count % CHUNKS_PER_TURN == 0:
                        # A thousand chunks of one byte come at once. Reading on waits for nothing then.
                        await anyio.lowlevel.cancel_shielded_checkpoint()
                    if body.is_too_large:
                        await answer.aclose()
                        reading.cancel()
            except Exception:
                if not body.is_too_large:
                    raise

    def abort(self) -> None:
        """Do nothing: cancellation ends the requests in progress."""

    def abandon(self) -> None:
        """Do nothing: event loops do not live on in a forked child."""

    async def aclose(self) -> None:
        """End the requests in progress, and close the client, unless it was handed in ready."""
        self._is_closed = True
        client, self._client = self._client, None
        if client is not None and self._is_ours:
            self._spent.append(client)
        if self._busy:
            # First, since the HTTP client closes no connection that a request uses or waits for.
            self._idle = self._idle or anyio.Event()
            for scope in self._busy:
                scope.cancel()
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._idle.wait()
        await self._close_spent()


class HandshakeGuard(RequestTrace):
    """Closes the connection that a request opens, if its TLS handshake is cancelled.

    httpcore's backends close the connection when the handshake fails with an `Exception`, but a
    cancellation is a `BaseException`: the connection stays open until the garbage collector finds it.
    The HTTP client cannot close it, since it gets a connection only after the handshake. But httpcore's
    trace reports the stream by ``connect_tcp.complete``, and the cancelled handshake by
    ``start_tls.failed``.

    Seen on httpcore 1.0.0 and 1.0.9 and on httpcore2 2.0.0 and 2.16.2, under asyncio and trio.
    """

    _stream: Any = None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take one event of the trace."""
        self.note(event, info)
        if event.endswith("connect_tcp.complete"):
            self._stream = info.get("return_value")
        elif event.endswith("start_tls.failed") and self._stream is not None:
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._stream.aclose()
