"""One blocking request at a time over an HTTP client, and how to end it from another thread.

Knows sockets and streams of httpcore by their shape, no clock and no request.

The problem: a thread that reads from a socket cannot be interrupted, and HTTP clients bound single
reads, not requests.

What does not work: closing the socket in another thread does not end the read on Linux, and the number
of its file descriptor may be given to another file at once, from which the next read would be. Closing
the HTTP client takes its locks and leaves the connection in use alone. `ssl.SSLSocket.shutdown` drops
the TLS session before it shuts the socket down, and a thread that reads on would then get the bytes
still encrypted (seen in CPython 3.11, `SSLSocket.recv`).

The solution: shut the socket down, past the TLS layer. That ends every read and write on it, at once
and safely. Which sockets there are is known from httpcore's trace, whose events report each stream that
is opened, and from the extension ``network_stream`` of an answer, for a connection that was opened
before. The streams give their socket by ``get_extra_info("socket")``. This was tried with the versions
that `head` lists; ``tests/client/test_httpcore.py`` fails when it changes. Without it, a blocking request
lasts as long as its server sends a byte now and then.

During a TLS handshake that socket is an empty shell: `ssl` has moved its file descriptor to a socket of
its own, which httpcore reports only when the handshake is done. So a duplicate is kept for that long.
Shutting it down ends the handshake, too. Behind a proxy that is itself reached over TLS, the second
handshake goes through a TLS socket, which stays where it is and cannot be duplicated.

A connection that is being made cannot be ended: its socket is not known yet. The HTTP client bounds it in
time, and when it is made after all, it is shut down as soon as the trace reports it.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import weakref
from collections.abc import Callable
from typing import Any

from heksher.backends._http.errors import RequestEnded
from heksher.backends._http.head import RequestTrace


class Slot:
    """An HTTP client that serves one request at a time.

    Args:
        client: the HTTP client.
        is_ours: whether it is closed with the slot.
        sockets: the sockets of a client that serves several slots; None: the slot's own.
    """

    def __init__(self, client: Any, is_ours: bool, sockets: Sockets | None = None) -> None:
        self.client = client
        self._is_ours = is_ours
        self._sockets = sockets or Sockets()
        #: By `steady`, when the request on it is ended.
        self.deadline = math.inf
        #: Makes the error for the request, if that was ended from another thread. The error itself would
        #: refer back to the slot by its traceback.
        self.ended: Callable[[], RequestEnded] | None = None
        #: Whether the client is not to be used again.
        self.is_spent = False
        self._newest: weakref.ref[socket.socket] | None = None
        self._in_handshake: socket.socket | None = None

    def note_socket(self, stream: object) -> None:
        """Note the socket of *stream*, if it is one of httpcore's streams."""
        describe = getattr(stream, "get_extra_info", None)
        found = describe("socket") if describe is not None else None
        if isinstance(found, socket.socket):
            self._newest = weakref.ref(found)
            self._note(found)

    def _note(self, found: socket.socket) -> None:
        self._sockets.add(found)
        # end() sets first and looks at the sockets then, so one of the two sees the other.
        if self.ended is not None:
            _shut_down(found)

    def begin_handshake(self) -> None:
        """Note that the newest socket is about to be moved to a TLS socket."""
        newest = None if self._newest is None else self._newest()
        if newest is not None and not isinstance(newest, ssl.SSLSocket):
            self._in_handshake = newest.dup()
            self._note(self._in_handshake)

    def end_handshake(self) -> None:
        """Note that the handshake has ended, well or not."""
        if self._in_handshake is not None:
            self._in_handshake.close()
            self._in_handshake = None

    def end(self, error: Callable[[], RequestEnded]) -> None:
        """End the current request with what *error* returns. To be called in another thread."""
        self.ended = error
        self._sockets.shut_down()

    def close(self) -> None:
        """Close the client, if it is ours."""
        if self._is_ours:
            self.client.close()

    def abandon(self) -> None:
        """Close the sockets in a forked child, where the connections belong to the parent."""
        if self._is_ours:
            self._sockets.close()


class SlotTrace(RequestTrace):
    """Notes each socket that the HTTP client of a slot opens."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    @property
    def found_kept_connection_closed(self) -> bool:
        """As of the base, unless the connection was shut down here."""
        return super().found_kept_connection_closed and self._slot.ended is None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take one event of the trace."""
        self.note(event, info)
        if event.endswith(".start_tls.started"):
            self._slot.begin_handshake()
        elif event.endswith(".complete"):
            self._slot.note_socket(info.get("return_value"))
        if event.endswith((".start_tls.complete", ".start_tls.failed")):
            self._slot.end_handshake()


class Sockets:
    """The sockets that were opened and are still in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Not a WeakSet: a function of its is called when a socket dies, and Python only prints what is
        # raised there, so that a Ctrl-C which came just then would be lost.
        self._opened: list[weakref.ref[socket.socket]] = []

    def add(self, opened: socket.socket) -> None:
        """Add a socket."""
        with self._lock:
            self._opened = [weakref.ref(each) for each in (*self._alive(), opened)]

    def _alive(self) -> list[socket.socket]:
        return [each for reference in self._opened if (each := reference()) is not None]

    def shut_down(self) -> None:
        """End all reads and writes on them."""
        with self._lock:
            alive = self._alive()
        for each in alive:
            _shut_down(each)

    def close(self) -> None:
        """Close them in a forked child.

        No lock is taken, since its holder may not exist here. Nothing is shut down: that would end the
        connection of the parent, while closing only drops the child's file descriptor.
        """
        for each in self._alive():
            each.close()


def _shut_down(connection: socket.socket) -> None:
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not the TLS layer's, see above
    except OSError:
        pass  # it is closed already
