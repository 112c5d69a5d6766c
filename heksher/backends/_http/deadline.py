"""The thread that ends blocking requests which take too long.

Knows slots and the time, and neither requests nor HTTP.

The timeouts of HTTP clients are for single reads, and a server that sends a byte a second meets them
all. A timer for each request would do, but to start a thread and to wait for its end takes longer than
many a request. So one thread watches all requests of a transport.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context

from heksher.backends._http.errors import RequestEnded
from heksher.backends._http.slot import Slot
from heksher.backends._steady import steady


class DeadlineWatcher:
    """Ends requests at their deadlines.

    Its thread starts with the first request and ends when there is nothing to watch at the last known
    deadline, so that it does not outlive the last request by more than *seconds*.

    Args:
        seconds: how long a request may take.
        error: makes the error for a request that took longer.
    """

    def __init__(self, seconds: float, error: Callable[[], RequestEnded]) -> None:
        self._seconds = seconds
        self._error = error
        # Guards the attributes below.
        self._changed = threading.Condition()
        # The slots with requests. All requests may take equally long, so the first one is due first.
        self._slots: dict[Slot, None] = {}
        self._thread: threading.Thread | None = None
        # Not the thread's is_alive(): while it ends it is alive and watches nothing any more.
        self._is_running = False
        self._is_stopped = False

    def begin(self, slot: Slot) -> None:
        """Set the deadline of *slot*, and watch it from now on.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._changed:
            slot.deadline = steady() + self._seconds
            if self._is_stopped:
                return  # the slot has been ended
            if not self._is_running:
                thread = threading.Thread(target=self._run, name="heksher-deadline", daemon=True)
                # The thread outlives the request, and must not keep the context of its caller.
                Context().run(thread.start)
                self._thread, self._is_running = thread, True
            self._slots[slot] = None

    def end(self, slot: Slot) -> None:
        """Stop watching *slot*. Once this has returned, the watcher does not end it any more."""
        with self._changed:
            self._slots.pop(slot, None)

    def stop(self) -> None:
        """Let the thread end, and start none again. Does not block."""
        with self._changed:
            self._is_stopped = True
            self._slots.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the end of the thread, after `stop`."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while self._slots:
                slot = next(iter(self._slots))
                left = slot.deadline - steady()
                if left > 0:
                    self._changed.wait(left)
                else:
                    del self._slots[slot]
                    slot.end(self._error)
            self._is_running = False
