"""Bounds on what connections may take: memory for what is read ahead, time, file descriptors.

Extends uvicorn's protocol and the listening socket. Knows the states of h11 and nothing about the
application. No bound needs a token, because it applies before a request has been read.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from typing import Any, TypeAlias

import h11
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol

# How long a client may keep the service waiting, in seconds: for a whole request with its body, and
# for each _MIN_TAKEN bytes of an answer.
_PATIENCE = 30.0
_MIN_TAKEN = 64 * 1024

# Number of file descriptors that connections leave to everything else. Ten connections to an SQLite
# file have two each; it opens further files to sort, and Python opens modules at their first import.
_RESERVED_DESCRIPTORS = 32

# How long a connection has to be idle before it can be replaced, in seconds: a client that has just
# connected needs time to send its request.
_REPLACEABLE_AFTER = 1.0

# What a client still has to send in these states: a request, or the rest of its body.
_CLIENT_SENDS = frozenset({h11.IDLE, h11.SEND_BODY})


class BoundedProtocol(H11Protocol):
    """uvicorn's protocol, for clients that send too much, or too slowly, or do not read.

    Requests that are sent before earlier ones are answered (pipelining) wait in the kernel, where the
    client's window bounds them, except for the one piece of at most 256 KiB that was read with them.
    """

    patience = _PATIENCE

    def __init__(self, *args: Any, by_age: ByAge, **options: Any) -> None:
        super().__init__(*args, **options)
        self._by_age = by_age

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._by_age[self] = self.loop.time()
        self.flow: FlowControl = _OneAtATime(transport, self.conn)
        self._unsent = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        del self._by_age[self]
        self._clear_deadline()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if not self._is_clients_turn():  # a single byte does not extend the deadline
            self._clear_deadline()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.flow.resume_reading()  # unless the next request has been read already
        self._set_deadline()
        del self._by_age[self]
        self._by_age[self] = self.loop.time()  # as the last one

    def is_idle(self) -> bool:
        """Whether the last answer has been sent, and no whole head of a request has arrived since."""
        is_sent = not self.transport.get_write_buffer_size()
        return is_sent and self.conn.their_state is h11.IDLE and not self.transport.is_closing()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_deadline()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._set_deadline()

    def _is_clients_turn(self) -> bool:
        return (
            self.flow.write_paused
            or self.transport.is_closing()  # once the client has read the rest of the answer
            or self.conn.their_state in _CLIENT_SENDS
        )

    def _set_deadline(self) -> None:
        self._clear_deadline()
        if self._is_clients_turn():
            self._unsent = self.transport.get_write_buffer_size()
            self._deadline = self.loop.call_later(self.patience, self._end_or_extend)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_or_extend(self) -> None:
        if self._unsent - self.transport.get_write_buffer_size() >= _MIN_TAKEN:
            self._set_deadline()
        else:
            self.transport.abort()  # close() would wait until the answer is read


# Open connections, and when they were made or last had an answer, by the clock of their event loop. The
# oldest come first.
ByAge: TypeAlias = dict[BoundedProtocol, float]


class _OneAtATime(FlowControl):
    """Resumes reading only when the request that was read has been answered.

    uvicorn also resumes when the application asks for the body of a request that is complete, so that
    each answer would let in another 256 KiB of further requests.
    """

    def __init__(self, transport: asyncio.Transport, conn: h11.Connection) -> None:
        super().__init__(transport)
        self._conn = conn

    def resume_reading(self) -> None:
        if self._conn.their_state is not h11.DONE:
            super().resume_reading()


class Listener(socket.socket):
    """A listening socket for asyncio. While descriptors are scarce, each connection replaces an idle one.

    If none is idle, connections wait in the kernel: accept() fails, and asyncio logs it and pauses for a
    second. It first goes on to the end of its batch, though, and would log each attempt, so the batch is
    ended here.

    Attributes:
        by_age: the connections that were accepted.
    """

    _batch_is_over = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.by_age: ByAge = {}

    def accept(self) -> tuple[socket.socket, Any]:
        if self._batch_is_over:
            self._batch_is_over = False
            raise BlockingIOError
        try:
            if _only_reserved_descriptors_are_left(self):
                if self._end_oldest_idle():
                    raise BlockingIOError  # the event loop frees the descriptor, and tries again
                raise OSError(errno.EMFILE, "the last file descriptors are reserved")
            return super().accept()
        except BlockingIOError:
            raise
        except OSError:
            self._batch_is_over = True
            raise

    def _end_oldest_idle(self) -> bool:
        for connection, since in self.by_age.items():
            if connection.loop.time() - since < _REPLACEABLE_AFTER:
                return False
            if connection.is_idle():
                connection.timeout_keep_alive_handler()
                return True
        return False


if sys.platform == "win32":

    def _only_reserved_descriptors_are_left(_listener: socket.socket) -> bool:
        return False

else:
    import resource

    def _only_reserved_descriptors_are_left(listener: socket.socket) -> bool:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return False
        lowest_free = os.dup(listener.fileno())  # the system assigns the lowest number that is free
        os.close(lowest_free)
        return lowest_free >= limit - min(_RESERVED_DESCRIPTORS, limit // 2)
