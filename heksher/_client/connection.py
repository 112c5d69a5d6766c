"""One exchange with the service: send, follow redirects, judge the status, read the answer.

Knows the transport that the backend makes, and neither settings nor updates.
"""

from __future__ import annotations

import threading
from typing import TypeVar

from heksher import _wire
from heksher._client.lifecycle import Call, Lifecycle
from heksher.backends._fork_lock import fork_lock
from heksher.backends.base import Backend, HttpOptions, Transport, process
from heksher.exceptions import BackendError, InvalidResponseError

T = TypeVar("T")

# Redirects that are followed for one request.
_MAX_REDIRECTS = 3


class Connection:
    """A client's way to the service, opened when it is first used.

    Args:
        http: how to reach the service.
        lock: the client's lock.
        lifecycle: the client's, which refuses requests after closing.

    Attributes:
        bytes_received: bytes of all answers, decompressed.
    """

    def __init__(self, http: HttpOptions, lock: threading.RLock, lifecycle: Lifecycle) -> None:
        self._http = http
        self._lock = lock
        self._lifecycle = lifecycle
        self._transport: Transport | None = None
        # Whether the client was made in another process, of which this is a forked child.
        self._is_in_child = False
        self.bytes_received = 0

    async def exchange(self, exchange: _wire.Exchange[T], backend: Backend) -> T:
        """Send a request, follow what may be followed, and read the answer.

        Raises:
            ClientClosedError: the client was closed.
            BackendError: the HTTP client that was handed in belongs to the parent process.
            ServiceError: the service, or the way to it, failed.
        """
        transport = await self._open(backend)
        response = await self._send(transport, exchange.request, _MAX_REDIRECTS)
        if response.status not in exchange.request.expected:
            raise transport.status_error(exchange.request, response)
        try:
            return await process(backend, len(response.body), lambda: exchange.read(response))
        except InvalidResponseError as error:
            raise transport.invalid_response(exchange.request, error) from error.__cause__

    async def _send(
        self, transport: Transport, request: _wire.Request, redirects: int
    ) -> _wire.Response:
        """Send a request, and follow at most this many redirects."""
        response = await transport.send(request)
        with self._lock:
            self.bytes_received += len(response.body)
        moved = _wire.redirected(self._http.base_url, request, response)
        if moved is None or redirects == 0:
            return response
        return await self._send(transport, moved, redirects - 1)

    async def _open(self, backend: Backend) -> Transport:
        if self._transport is None:
            # Without the lock, because an import may hang, and a start needs the lock to end in time.
            if backend.blocking:
                _load_http()  # in the caller's thread, where gevent may have patched what it needs
            else:
                await backend.in_thread(_load_http)
        with self._lock:
            # With the lock held: a transport that is made after closing would never be closed.
            self._lifecycle.check(Call.REQUEST)
            if self._is_in_child and not self._http.makes_clients:
                # Its locks may be held by threads that do not exist in this process.
                what = "http_client" if self._http.has_ready_client else "transport"
                raise BackendError(
                    f"the {what} that was handed in belongs to the parent process, and cannot be used in "
                    "this forked one: hand in http_client=, a callable that makes a client"
                )
            if self._transport is None:
                self._transport = backend.create_transport(self._http)
            return self._transport

    def abort(self) -> None:
        """End what is under way and refuse what comes, from any thread, without waiting."""
        transport = self._transport
        if transport is not None:
            transport.abort()

    async def aclose(self) -> None:
        """Close all connections. A later request opens new ones, unless the client is closed."""
        with self._lock:
            transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    def leave(self) -> Transport | None:
        """In a forked child: let the connections go, which are the parent's; return the transport."""
        self._is_in_child = True
        transport, self._transport = self._transport, None
        return transport


def _load_http() -> None:
    """Import httpx and the transports."""
    # In a child that was forked during an import, the same import would never end. See `_fork_lock`.
    with fork_lock:
        import heksher.backends._http  # noqa: F401  # pyright: ignore[reportUnusedImport]
