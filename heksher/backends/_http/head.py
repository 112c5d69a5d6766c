"""Bounds on the head of an answer, by what httpcore's trace reports of the request.

Knows streams and trace events of httpcore by their shape. Does no I/O of its own.

The problem: an answer's head has no bound that can be set. httpcore refuses a single head of more than
100 KiB, but it skips provisional answers (status 1xx), and a server that sends one after another keeps
a request reading without end. Under gevent nothing else runs then, since a socket that always has data
never yields. There is a second problem of the kind: what a server sends behind an answer stays in the
parser of a connection that is kept alive, and is taken for the answer to the next request. Anyone who
can add bytes to one answer decides what the next one is.

What does not work: httpx has no option for either, and its event hooks run after the head. A transport
in front of httpcore would have to pass all of ``http_client_args`` on to a connection pool, and below a
client that was handed in there is no place for it. A limit on the whole request's time does not help
under gevent, where the thread that watches the time may be a greenlet that never runs.

HTTP/2 has neither problem: its answers have numbers, h2 bounds heads, and the bound on the request's time
ends provisional answers, since every read is a wait. Nothing is counted there.

The solution leans on three things of httpcore that are only partly documented:

- its ``trace`` extension reports by the events ``http11.receive_response_headers.started`` and
  ``….complete`` when a head is read, in the task or thread that reads it, and by the events
  ``….connect_tcp.complete``, ``….connect_unix_socket.complete`` and ``….start_tls.complete`` which
  stream was opened, as ``return_value``; by those of ``….started`` it is known what the request began;
- the HTTP/1.1 connection calls ``stream.read(max_bytes, timeout)`` for each piece, so that a function
  put into the stream's instance replaces it, and reads nothing before the head that it belongs to;
- the extension ``network_stream`` of an answer is the stream that it came by.

Tried with httpcore 1.0.0 and 1.0.9 (httpx 0.27.0 and 0.28.1), and httpcore2 2.0.0 and 2.16.2 (httpx2 of
the same versions). ``tests/client/test_httpcore.py`` fails when one of the three changes, and when the
problem is gone. Without them requests work as before and are bounded by their time and their body only.
"""

from __future__ import annotations

import inspect
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from heksher.backends._http.errors import RequestEnded

# Read at most this many bytes of an answer's head, provisional answers included. HTTP libraries take as
# much for one head.
_MAX_HEAD_BYTES = 100 * 1024
# Read at most this many bytes of a head at once. What a read brings is counted after it, and it may
# bring much of the body, too.
_MAX_HEAD_READ = 16 * 1024


class RequestTrace(ABC):
    """Takes httpcore's trace of one request, and bounds the heads of its answers."""

    #: How many bytes were read for the last head; None: unknown, as with HTTP/2, whose connections carry
    #: several answers at once.
    _bytes_read: int | None = None

    _opens_connection = _is_sent = False
    #: Whether a TLS handshake was begun, and no answer has come by that connection. Certificates that
    #: have been renewed may be the reason, since an HTTP client reads them when it is made. The error
    #: does not tell: a server that refuses the client's certificate ends the connection, and it is a
    #: matter of chance whether its alert is read before the end.
    failed_in_tls = False

    @abstractmethod
    def trace(self, event: str, info: dict[str, Any]) -> object:
        """Take one event of the trace; a coroutine function for asynchronous HTTP clients."""

    def note(self, event: str, info: dict[str, Any]) -> None:
        """Bound the heads. To be called with each event of the trace.

        The bound is a matter of the task or thread and not of the stream: the streams of a client that
        was handed in also serve the application, which reads without a bound as before.
        """
        if event.endswith(("connect_tcp.started", "connect_unix_socket.started")):
            self._opens_connection = True
        elif event.endswith("start_tls.started"):
            self.failed_in_tls = True
        elif event.endswith("send_request_headers.started"):
            self._is_sent = True
        elif event.endswith("receive_response_headers.complete"):
            self.failed_in_tls = False
        if event.startswith("http11.receive_response_headers."):
            if event.endswith(".started"):
                self._bytes_read = 0
                _being_read.set(self)
            else:
                _being_read.set(None)
        elif event.endswith(
            ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
        ):
            stream: Any = info.get("return_value")
            with suppress(AttributeError, TypeError):  # a stream of another shape stays as it is
                stream.read = _bounded_read(stream)

    @property
    def found_kept_connection_closed(self) -> bool:
        """Whether the request was sent on a connection from before, and as far as is known no byte came.

        To be asked if no answer came. Each side may close an idle connection, and the server may do so
        at the moment of the request. With HTTP/2 the bytes are unknown: this is also true if only the
        request's own stream was reset.
        """
        return self._is_sent and not (self._opens_connection or self._bytes_read)

    def limited(self, max_bytes: int) -> int:
        """Return how many of *max_bytes* may be read at once."""
        if (self._bytes_read or 0) >= _MAX_HEAD_BYTES:
            raise RequestEnded(f"the answer's head is larger than {_MAX_HEAD_BYTES} bytes")
        return min(max_bytes, _MAX_HEAD_READ)

    def count(self, data: bytes) -> None:
        """Count *data*, which was read."""
        self._bytes_read = (self._bytes_read or 0) + len(data)

    def refuse_leftovers(self, answer: Any) -> None:
        """Refuse an answer that came before it was asked for, behind the answer before.

        For the head of such an answer nothing is read: the parser has it already. This says something
        only where the reads are counted, which shows in where the stream's `read` comes from.

        Raises:
            RequestEnded: the answer is such a one.
        """
        stream = getattr(answer, "extensions", {}).get("network_stream")
        read = getattr(stream, "read", None)
        if getattr(read, "__module__", None) == __name__ and self._bytes_read == 0:
            raise RequestEnded("more than one answer came to the request before")


#: The request whose answer's head this task or thread is reading.
_being_read: ContextVar[RequestTrace | None] = ContextVar("heksher_head", default=None)


def _bounded_read(stream: Any) -> Callable[..., Any]:
    """Return the method `read` of *stream* so that it respects the bound on a head.

    The function is an attribute of the stream, so holding the stream in turn would be a reference
    cycle, and the socket of a dropped connection would stay open until the garbage collector runs.
    Therefore the reference is weak. It has no callback: that would run while the stream dies, and
    Python only prints what is raised there, so that a Ctrl-C which came just then would be lost.
    """
    read: Callable[..., Any] = stream.read.__func__
    alive: weakref.ref[Any] = weakref.ref(stream)

    if inspect.iscoroutinefunction(read):

        async def read_async(max_bytes: int, timeout: float | None = None) -> bytes:
            return _counted(await read(alive(), _limited(max_bytes), timeout))

        return read_async

    def read_blocking(max_bytes: int, timeout: float | None = None) -> bytes:
        yield_to_greenlets()
        return _counted(read(alive(), _limited(max_bytes), timeout))

    return read_blocking


def _limited(max_bytes: int) -> int:
    trace = _being_read.get()
    return max_bytes if trace is None else trace.limited(max_bytes)


def _counted(data: bytes) -> bytes:
    trace = _being_read.get()
    if trace is not None:
        trace.count(data)
    return data


def yield_to_greenlets() -> None:
    """Let other greenlets run.

    A socket that gevent has patched yields only when it has to wait, so that a server which always has
    more to say would stop all greenlets. In a process without gevent this releases the interpreter for
    a moment.
    """
    time.sleep(0)
