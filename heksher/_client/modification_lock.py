"""The lock that holds updates back: while it is held, no update publishes anything.

`LockQueue` says who holds it and who is next, for every backend; the two faces of it are what the
clients offer. Unlike the locks of event loops it belongs to no task: any task or thread may release
it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from heksher.backends import _callers
from heksher.backends.base import Event, run_blocking


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the queue.

    Attributes:
        event: set once the lock is granted. Whoever waits may set it as well, to wake up for
            another reason.
        granted: whether the lock is held by this ticket.
        thread: the thread that asked.
    """

    event: Event
    granted: bool = False
    thread: int = field(default_factory=_callers.thread)


class LockQueue:
    """Held by one ticket at a time, in the order of requests. For any task and thread."""

    def __init__(self) -> None:
        #: Guards the queue itself. Reentrant, since the garbage collector may run anything while it
        #: is held.
        self.guard = threading.RLock()
        self._holder: Ticket | None = None
        self._waiting: deque[Ticket] = deque()

    @property
    def held(self) -> bool:
        """Whether somebody holds the lock."""
        return self._holder is not None

    def request(self, event: Event) -> Ticket:
        """Ask for the lock. The ticket that is returned may be granted already."""
        ticket = Ticket(event)
        with self.guard:
            if self._holder is None:
                self._holder, ticket.granted = ticket, True
            else:
                self._waiting.append(ticket)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Give a ticket back, whether it waits or was granted."""
        with self.guard:
            if self._holder is ticket:
                self.release()
            elif not ticket.granted:  # else somebody released it meanwhile, as anybody may
                self._waiting.remove(ticket)

    def release(self) -> None:
        """Hand the lock to who is next.

        Raises:
            RuntimeError: nobody holds it.
        """
        with self.guard:
            if self._holder is None:
                raise RuntimeError("the modification_lock is not held, so it cannot be released")
            self._holder = self._waiting.popleft() if self._waiting else None
            if self._holder is None:
                return
            self._holder.granted = True
            event = self._holder.event
        event.set()

    def forget_other_threads(self) -> None:
        """In a forked child, with `guard` held: only this thread, or its greenlets, hold it or wait."""
        here = _callers.thread()
        self._waiting = deque(ticket for ticket in self._waiting if ticket.thread == here)
        if self._holder is not None and self._holder.thread != here:
            self._holder = None

    def forget_all(self) -> None:
        """In a forked child, with `guard` held: nobody waits or holds it, for no event loop goes on."""
        self._waiting.clear()
        self._holder = None

    async def acquire(self, event: Event, timeout: float | None = None) -> bool:
        """Wait for the lock, at most *timeout* seconds; return whether it is held now."""
        ticket = self.request(event)
        try:
            if not ticket.granted:
                await event.wait(timeout)
        except BaseException:
            self.withdraw(ticket)
            raise
        with self.guard:
            if not ticket.granted:
                self._waiting.remove(ticket)
            return ticket.granted


class _Lock:
    def __init__(self, queue: LockQueue, create_event: Callable[[], Event]) -> None:
        self._queue = queue
        self._create_event = create_event

    def locked(self) -> bool:
        """Whether somebody holds it: you, somebody else, or an update that publishes just now."""
        return self._queue.held

    def release(self) -> None:
        """Let updates go on. Any task or thread may do that.

        Raises:
            RuntimeError: nobody holds it.
        """
        self._queue.release()


class AsyncModificationLock(_Lock):
    """Holds updates back while it is held: ``async with client.modification_lock: ...``.

    Not reentrant. `reload` and `set_as_main` wait for an update, so that awaiting them inside is
    waiting for oneself.
    """

    async def acquire(self) -> Literal[True]:
        """Wait until nobody holds it, and hold it."""
        await self._queue.acquire(self._create_event())
        return True

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class ThreadModificationLock(_Lock):
    """Holds updates back while it is held: ``with client.modification_lock: ...``.

    Not reentrant. `reload` and `set_as_main` wait for an update, so that calling them inside is
    waiting for oneself.
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait until nobody holds it, and hold it.

        Args:
            blocking: whether to wait at all.
            timeout: seconds to wait at most; below 0: without end.

        Returns:
            whether it is held now.
        """
        seconds = None if blocking and timeout < 0 else max(0.0, timeout) if blocking else 0.0
        return run_blocking(self._queue.acquire(self._create_event(), seconds))

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
