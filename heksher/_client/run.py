"""`Run`: what belongs to one start of a client, from the first update to the end of its loop.

It belongs to no client for good. A thread that was stuck in a name look-up when its start was given up
must not come back to life with the next start, so each start has a run of its own, and a loop asks
before each step whether its run still goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from heksher._client.modification_lock import Ticket
from heksher._client.update import Updater
from heksher.backends.base import Event, Task
from heksher.exceptions import ClientClosedError


@dataclass(eq=False, slots=True)
class Reload:
    """An update that callers of `reload` wait for.

    Attributes:
        ended: set when the update has ended.
        error: what went wrong with it, or None.
    """

    ended: Event
    error: Exception | None = None

    def end(self, error: Exception | None) -> None:
        """Tell the callers how the update ended."""
        self.error = error
        self.ended.set()


@dataclass(eq=False, slots=True)
class Run:
    """One start. The client's lock guards what is assigned later.

    Attributes:
        updater: makes the updates.
        wake: set when the loop has something to do, or to end; cleared when an update begins.
        ready: set when the first update has ended, or there will be none.
        task: runs the loop.
        next_reload: the update that calls of reload() wait for, and that has not begun.
        current_reload: likewise, and that is under way.
        ticket: the place in the queue for publishing of the update under way.
        saving: set when the snapshot is written. None: nothing is to be written.
        caller: the thread or greenlet that the loop runs in.
    """

    updater: Updater
    wake: Event
    ready: Event
    task: Task = field(init=False)
    next_reload: Reload | None = None
    current_reload: Reload | None = None
    ticket: Ticket | None = None
    saving: Event | None = None
    caller: object = None

    def begin_update(self) -> bool:
        """Take over the callers of reload() so far; return whether there are any."""
        self.current_reload, self.next_reload = self.next_reload, None
        self.wake.clear()
        return self.current_reload is not None

    def end_update(self, error: Exception | None) -> None:
        """Tell the callers of reload() that the update under way has ended."""
        reload, self.current_reload = self.current_reload, None
        if reload is not None:
            reload.end(error)

    def release(self) -> None:
        """Wake everybody who waits for this run, which goes on no longer, and the run itself."""
        self.ready.set()
        if self.ticket is not None:
            self.ticket.event.set()
        error = ClientClosedError("the client was closed before the reload was done")
        self.end_update(error)
        reload, self.next_reload = self.next_reload, None
        if reload is not None:
            reload.end(error)
        self.wake.set()
