"""The bound of an answer's head, by the inside of httpcore, and what is left over behind an answer."""

from __future__ import annotations

import inspect
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from heksher.backends._http.errors import Ended

# What may be read of an answer's head: as much as HTTP libraries take for one, and here with all the
# provisional answers before it, which they read for ever. And how much of it at once.
_LARGEST_HEAD = 100 * 1024
_PIECE_OF_HEAD = 16 * 1024


#: How much this task or thread may still read of an answer's head; None: what it reads is none.
_head_left: ContextVar[int | None] = ContextVar("heksher_head_left", default=None)

#: How much it has read of the last one.
_head_size: ContextVar[int] = ContextVar("heksher_head_size", default=0)


def bound_heads(event: str, info: dict[str, Any]) -> None:
    """Bound what is read of a head, as httpcore's trace tells when that is, and from which stream.

    The streams of a client that was handed in also serve the application, which reads as before.
    """
    if event.startswith("http11.receive_response_headers."):
        _head_size.set(_LARGEST_HEAD - (_head_left.get() or 0))
        _head_left.set(_LARGEST_HEAD if event.endswith(".started") else None)
    elif event.endswith(
        ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
    ):
        stream: Any = info.get("return_value")
        with suppress(AttributeError, TypeError):  # another library's may be otherwise
            stream.read = _bounded(stream)


def _bounded(stream: Any) -> Callable[..., Any]:
    """Return the method `read` of *stream* so that it keeps to what is left of a head."""
    read: Callable[..., Any] = stream.read.__func__
    # So that it dies as before; and no function is called then, in which a Ctrl-C would be lost.
    alive: weakref.ref[Any] = weakref.ref(stream)

    def most(wanted: int) -> int:
        left = _head_left.get()
        if left is None:
            return wanted
        if left <= 0:
            raise Ended(f"the answer's head is larger than {_LARGEST_HEAD} bytes")
        return min(wanted, _PIECE_OF_HEAD)

    def count(data: bytes) -> bytes:
        left = _head_left.get()
        if left is not None:
            _head_left.set(left - len(data))
        return data

    if inspect.iscoroutinefunction(read):

        async def read_async(max_bytes: int, timeout: float | None = None) -> bytes:
            return count(await read(alive(), most(max_bytes), timeout))

        return read_async

    def read_blocking(max_bytes: int, timeout: float | None = None) -> bytes:
        let_others_run()
        return count(read(alive(), most(max_bytes), timeout))

    return read_blocking


def refuse_leftovers(answer: Any) -> None:
    """Refuse an answer that was there before it was asked for, behind the one before.

    HTTP libraries take what is left over on a connection for the next answer.
    """
    stream = getattr(answer, "extensions", {}).get("network_stream")
    read = getattr(stream, "read", None)
    if getattr(read, "__module__", None) == __name__ and _head_size.get() == 0:
        raise Ended("more than one answer came to the request before")


def let_others_run() -> None:
    """Give other greenlets their turn: gevent leaves none to them while there is something to read."""
    time.sleep(0)
