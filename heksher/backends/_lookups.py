"""Name look-ups of one client, in daemon threads of its own.

The problem: a look-up cannot be ended. It is a call into the C library, which may wait for name servers
for minutes. Event loops and gevent make it in the thread pool that the application uses for its own work:
look-ups that hang fill the pool, the process does not end before they do, and a pool that is full, or
has ended with the main thread, lets no update through.

The solution: a thread for each look-up, which nothing waits for longer than it wants, and at most one at
a time for each name, so that a client has few of them however often it tries.

Knows neither HTTP nor how a backend starts a thread.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heksher._text import error_text
from heksher.backends.base import Event


@dataclass
class _Lookup:
    """A look-up in progress; *result* is set before *ended*."""

    ended: Event
    result: list[Any] | Exception | None = None


class Lookups:
    """Looks names up.

    Args:
        create_event: makes what the caller of `find` can wait for.
        start: calls a function in a daemon thread.
    """

    def __init__(
        self,
        create_event: Callable[[], Event],
        start: Callable[[Callable[[], None]], None],
    ) -> None:
        self._create_event = create_event
        self._start = start
        # There is no lock, which a thread might have to wait for after a fork or under gevent.
        self._running: dict[tuple[str, int], _Lookup] = {}

    async def find(self, host: str, port: int, timeout: float | None) -> list[Any]:
        """Return the results of `socket.getaddrinfo`, the preferred one first.

        Raises:
            TimeoutError: the look-up took longer than *timeout* seconds, or was given up by `abort`.
            OSError: `socket.getaddrinfo` raised something, which is the cause.
        """
        try:
            return _look_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass  # it is a name
        made = _Lookup(self._create_event())
        lookup = self._running.setdefault((host, port), made)
        if lookup is made:
            self._start(lambda: self._run(host, port, made))
        await lookup.ended.wait(timeout)
        if isinstance(lookup.result, Exception):
            # Not the error itself, which all who wait would add their tracebacks to.
            raise OSError(error_text(lookup.result)) from lookup.result
        if lookup.result is None:
            raise TimeoutError(f"the look-up of {host} takes too long")
        return lookup.result

    def abort(self) -> None:
        """Let all who wait for a look-up go on without it. Callable in any thread."""
        for lookup in tuple(self._running.values()):
            lookup.ended.set()

    def _run(self, host: str, port: int, lookup: _Lookup) -> None:
        try:
            lookup.result = _look_up(host, port)
        except Exception as error:
            lookup.result = error.with_traceback(None)
        finally:
            del self._running[host, port]
            lookup.ended.set()


def _look_up(host: str, port: int, flags: int = 0) -> list[Any]:
    # gevent's replacement would need a hub in this thread, and use the application's pool.
    original: Any = getattr(sys.modules.get("gevent.monkey"), "get_original", None)
    find: Any = socket.getaddrinfo if original is None else original("socket", "getaddrinfo")
    found: list[Any] = find(host, port, type=socket.SOCK_STREAM, flags=flags)
    return found
