"""The fault proxy's requests to the service behind it.

Knows HTTP and httpx. Knows neither faults nor the clients of the proxy.
"""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import httpx

from heksher.testing.faults._kinds import Answer

# How long the service has to answer, in seconds.
_TIMEOUT = 60.0

# With it, a query is answered by what changed since then, perhaps nothing.
_SINCE = re.compile("&since=[^&]*")

# Headers that concern a single connection and are not passed on.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade"}
)


class Gone(Exception):
    """A connection has ended, or has to be closed without an answer."""


@dataclass(frozen=True)
class Request:
    """A client's request. ``is_last`` says that its connection ends after the answer."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    is_last: bool


class Upstream:
    """Connections to the service."""

    def __init__(self) -> None:
        self._http = httpx.Client(trust_env=False)
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._is_aborted = False

    def ask(self, url: str, request: Request, *, wants_body: bool) -> Answer:
        """Send *request* to the service at *url*.

        Args:
            url: the service.
            request: the request of a client.
            wants_body: whether to ask for the whole body: without If-None-Match and ``since=``.

        Raises:
            Gone: the service cannot be reached, and then the proxy should look the same.
        """
        left_out = {b"if-none-match"} if wants_body else set[bytes]()
        headers = [
            (name, value)
            for name, value in request.headers
            if name.lower() not in _HOP_BY_HOP | left_out
        ]
        target = _SINCE.sub("", request.target) if wants_body else request.target
        # The target goes out exactly as it came; httpx.URL would normalize it.
        extensions = {
            "target": target.encode("ascii"),
            "timeout": httpx.Timeout(_TIMEOUT).as_dict(),
            "trace": self._note_connection,
        }
        outgoing = httpx.Request(
            request.method, url, headers=headers, content=request.body, extensions=extensions
        )
        try:
            response = self._http.send(outgoing, stream=True)
            try:
                body = b"".join(response.iter_raw())
            finally:
                response.close()
        except httpx.TransportError as error:
            raise Gone from error
        is_of_head = request.method == "HEAD"
        dropped = _HOP_BY_HOP | (set[bytes]() if is_of_head else {b"content-length"})
        kept = tuple(pair for pair in response.headers.raw if pair[0].lower() not in dropped)
        return Answer(response.status_code, kept, body, is_of_head)

    def abort(self) -> None:
        """End all requests, including those that are about to connect."""
        with self._lock:
            self._is_aborted = True
            for connection in self._sockets:
                shut_down(connection)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _note_connection(self, event: str, info: dict[str, Any]) -> None:
        """Keep the socket of a new connection, so that `abort` can shut it down."""
        if event not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        connection = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.add(connection)
            if self._is_aborted:  # too late to be found by abort()
                shut_down(connection)


def shut_down(connection: socket.socket) -> None:
    """End a connection at once, below TLS, even if other threads read or write there."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # the other end was faster
