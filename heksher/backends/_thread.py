"""The backend of threads: blocking calls, and one daemon thread for each client.

Knows no HTTP and no greenlets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from heksher.backends._lookups import Lookups
from heksher.backends._steady import steady
from heksher.backends._work import start_thread
from heksher.backends.base import Clock, Event, HttpOptions, Transport, run_blocking
from heksher.exceptions import BackendError

T = TypeVar("T")


class _ThreadEvent:
    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set
        self.clear = self._event.clear
        self.is_set = self._event.is_set

    async def wait(self, timeout: float | None = None) -> None:
        self._event.wait(timeout)


class MonotonicClock:
    """The machine's own clock."""

    now = staticmethod(steady)

    async def wait(self, event: Event, timeout: float | None) -> None:
        """Return once *event* is set, or after *timeout* seconds."""
        await event.wait(timeout)


class ThreadTask:
    """A coroutine function that runs in a thread."""

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # A daemon, because code of the application that hangs must not keep the process from exiting.
        self._thread = threading.Thread(
            target=lambda: run_blocking(main()), name="heksher-client", daemon=True
        )

    async def start(self) -> None:
        """Start the thread.

        Raises:
            BackendError: no thread can be started.
        """
        try:
            # From CPython 3.14 on, a thread may inherit the context of the one that starts it.
            Context().run(self._thread.start)
        except RuntimeError as error:
            raise BackendError(
                f"no thread can be started for the client's updates: {error}; "
                "let the process have more threads, by ulimit -u or the container's limit on pids"
            ) from error

    def cancel(self) -> None:
        """Do nothing: the core's flags and the transport's `abort` end a thread."""

    async def wait(self, timeout: float | None) -> bool:
        """Wait until the thread has ended; return whether it has."""
        if self._thread.ident is None:  # never started
            return True
        if self._thread is threading.current_thread():
            return False
        self._thread.join(timeout)
        return not self._thread.is_alive()


class ThreadBackend:
    """Blocking I/O, and the update loop in a daemon thread."""

    name = "thread"
    blocking = True

    def loop_key(self) -> object:
        """Return None: the client can be used in any thread."""
        return None

    def create_clock(self) -> Clock:
        """Return the monotonic clock."""
        return MonotonicClock()

    def create_event(self) -> Event:
        """Return an event of the threading module."""
        return _ThreadEvent()

    def create_transport(self, options: HttpOptions) -> Transport:
        """Return a transport over a blocking HTTP client."""
        from heksher.backends._http import BlockingTransport

        return BlockingTransport(options, Lookups(self.create_event, start_thread))

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> ThreadTask:
        """Return a task that will run *main* in a thread of its own."""
        return ThreadTask(main)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call *function* here: the thread is the client's own, and no event loop waits for it."""
        return function()
