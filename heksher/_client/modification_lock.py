"""The lock that holds updates back: while it is held, no update publishes anything.

`LockQueue` decides who holds it and who is next, for every backend; the two public locks are what clients
offer. Unlike the locks of event loops it belongs to no task: any task or thread may release it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from heksher.backends import _callers
from heksher.backends.base import Event, run_blocking


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in the queue.

    Attributes:
        event: set once the lock is granted; also to wake the waiter for another reason.
        granted: whether this ticket holds the lock.
        thread: the thread that asked.
    """

    event: Event
    granted: bool = False
    thread: int = field(default_factory=_callers.thread)


class LockQueue:
    """Held by one ticket at a time, in the order of requests. For any task and thread."""

    def __init__(self) -> None:
        #: Guards the queue itself. Reentrant: the garbage collector may run anything while it is held.
        self.guard: threading.RLock = threading.RLock()
        self._holder: Ticket | None = None
        self._waiting: deque[Ticket] = deque()

    @property
    def held(self) -> bool:
        """Whether the lock is held."""
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
            elif not ticket.granted:  # else it was released by another task or thread
                self._waiting.remove(ticket)

    def release(self) -> None:
        """Grant the lock to the next ticket.

        Raises:
            RuntimeError: the lock is not held.
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
        """In a forked child, with `guard` held: drop the tickets of threads that do not exist there."""
        here = _callers.thread()
        self._waiting = deque(ticket for ticket in self._waiting if ticket.thread == here)
        if self._holder is not None and self._holder.thread != here:
            self._holder = None

    def forget_all(self) -> None:
        """In a forked child, with `guard` held: drop all tickets, since no event loop goes on there."""
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
        """Whether it is held: by you, by another task or thread, or by an update that publishes."""
        return self._queue.held

    def release(self) -> None:
        """Let updates go on. Any task or thread may do that.

        Raises:
            RuntimeError: it is not held.
        """
        self._queue.release()


class AsyncModificationLock(_Lock):
    """Holds updates back while it is held: ``async with client.modification_lock: ...``.

    Not reentrant. `reload` and `set_as_main` wait for an update, so awaiting them inside never returns.
    """

    async def acquire(self) -> Literal[True]:
        """Wait until the lock is free, and hold it."""
        await self._queue.acquire(self._create_event())
        return True

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *exc_info: object) -> None:
        self.release()


class ThreadModificationLock(_Lock):
    """Holds updates back while it is held: ``with client.modification_lock: ...``.

    Not reentrant. `reload` and `set_as_main` wait for an update, so calling them inside never returns.
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait until the lock is free, and hold it.

        Args:
            blocking: whether to wait at all.
            timeout: seconds to wait at most; below 0: without end.

        Returns:
            whether it is held now.
        """
        timeout = timeout if blocking else 0
        seconds = None if timeout < 0 else timeout
        return run_blocking(self._queue.acquire(self._create_event(), seconds))

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()
