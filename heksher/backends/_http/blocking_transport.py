"""The transport for threads, over ``httpx.Client``."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx

from heksher._wire import Request, Response
from heksher.backends._http.body import Body, refused, was_read
from heksher.backends._http.deadline import Line, Sockets, Watch
from heksher.backends._http.errors import Ended, TooSlow
from heksher.backends._http.head import let_others_run, refuse_leftovers
from heksher.backends._http.redaction import cause
from heksher.backends._http.transport import PIECES, InThread, TransportBase
from heksher.backends.base import HttpOptions
from heksher.exceptions import HeksherError


class BlockingTransport(TransportBase):
    """Over ``httpx.Client``, with a watch over each request.

    The timeouts of httpx are per read, and a server that sends a byte a second meets them all. So
    another thread ends a request that takes too long by shutting its socket down. To know which
    socket that is, each HTTP client of ours carries one request at a time, and another is made when
    two threads ask at once. Where there can be just one client, or one transport below all clients,
    any of the sockets that were opened may be the one, and all are shut down.

    Args:
        options: how to reach the service.
        in_thread: where large answers are unpacked; None: where they are read.
    """

    def __init__(self, options: HttpOptions, in_thread: InThread | None = None) -> None:
        super().__init__(options, in_thread)
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        self._busy: set[Line] = set()
        self._closed = False
        self._is_shared = self._is_ready or options.has_ready_transport
        self._shared: tuple[Any, bool] | None = None
        self._shared_sockets = Sockets()
        self._watch = Watch(options.request_timeout, self._too_slow())

    async def send(self, request: Request) -> Response:
        """Send *request* and read the whole answer, blocking."""
        try:
            line = self._take()
        except HeksherError:
            raise
        except Ended as error:
            raise self._unreachable(request, error) from None
        except Exception as error:  # of the callable that makes a client
            raise self._unreachable(request, error) from error
        try:
            deadline = self._watch.begin(line)
        except RuntimeError as error:  # no thread can be had
            self._give_back(line)
            raise self._unreachable(request, error) from error
        try:
            response = await self._exchange(line, request, deadline)
            if line.ended is not None:  # and a body that lasts as long as its connection with it
                raise line.ended
            return response
        except Exception as error:
            if line.ended is not None:
                raise self._unreachable(request, line.ended) from None
            if isinstance(error, Ended):
                raise self._unreachable(request, error) from None
            if time.monotonic() >= deadline:  # a timeout of the HTTP client came before the watch
                raise self._unreachable(request, TooSlow(self._too_slow())) from None
            # Whatever class it has: an HTTP client that was handed in has errors of its own.
            raise self._unreachable(request, error) from cause(error)
        finally:
            self._watch.end(line)
            self._give_back(line)

    async def _exchange(self, line: Line, request: Request, deadline: float) -> Response:
        built = self._build(line.client, request, trace=line.trace)
        try:
            answer = line.client.send(built, **self._send_arguments())
        except Exception as error:
            if (answered := refused(error, built)) is not None:
                return answered
            raise
        try:
            refuse_leftovers(answer)
            # For a client that was handed in with a connection, which the trace doesn't tell of.
            line.take_note(getattr(answer, "extensions", {}).get("network_stream"))
            body = Body(self._options.max_response_bytes)
            is_decoded = was_read(answer)
            for chunk in (answer.content,) if is_decoded else answer.iter_raw():
                body.add(chunk)
                if body.too_large:
                    break
                # For one whose transport has no socket, or none that is known.
                if time.monotonic() > deadline:
                    raise TooSlow(self._too_slow())
                if body.pieces % PIECES == 0:
                    let_others_run()
        finally:
            answer.close()
        return await self._response(body, answer, is_decoded=is_decoded)

    def _take(self) -> Line:
        with self._lock:
            if self._closed:
                raise Ended("the client is closed")
            line = self._idle.pop() if self._idle else None
            if line is not None:
                self._busy.add(line)
                return line
        line = self._make_line()
        with self._lock:
            self._busy.add(line)
            closed = self._closed
        if closed:
            line.end("the client is closed")
        return line

    def _make_line(self) -> Line:
        if not self._is_shared:
            return Line(*self._make_client(httpx.Client))
        with self._lock:
            if self._closed:
                raise Ended("the client is closed")
            if self._shared is None:
                self._shared = self._make_client(httpx.Client)
            client, _ = self._shared
        return Line(client, False, self._shared_sockets)

    def _give_back(self, line: Line) -> None:
        with self._lock:
            self._busy.discard(line)
            if not self._closed and line.ended is None:
                self._idle.append(line)
                return
        line.close()

    def abort(self) -> None:
        """End what is under way and refuse what comes."""
        with self._lock:
            self._closed = True
            busy = list(self._busy)
        for line in busy:
            line.end("the client is closed")
        self._watch.stop()

    def abandon(self) -> None:
        """In a forked child: close the sockets, which the parent has as well, and nothing else."""
        self._closed = True
        for line in (*self._idle, *self._busy):
            line.abandon()
        if self._shared is not None and self._shared[1]:
            # The transport from `http_client_args` goes on in the child, and finds them closed.
            self._shared_sockets.close()

    async def aclose(self) -> None:
        """Close all clients of ours. One that is stuck in a name look-up closes itself later."""
        self.abort()
        with self._lock:
            idle, self._idle = self._idle, []
            shared, self._shared = self._shared, None
        for line in idle:
            line.close()
        if shared is not None and shared[1]:
            shared[0].close()
        self._watch.join()
