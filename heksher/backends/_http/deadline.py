"""How a blocking request is ended from outside: its sockets, and the thread that watches the time."""

from __future__ import annotations

import socket
import threading
import time
import weakref
from typing import Any

from heksher.backends._http.errors import Ended, TooSlow
from heksher.backends._http.head import bound_heads


class Watch:
    """Ends requests that take too long, from a thread that watches them all.

    Not a timer for each: to start a thread and to wait for its end takes longer than many a request.
    The thread ends once it finds nothing to watch, which is a request's bound after the last one.

    Args:
        seconds: what a request may take.
        why: what is said of one that took longer.
    """

    def __init__(self, seconds: float, why: str) -> None:
        self._seconds = seconds
        self._why = why
        # Guards what follows.
        self._changed = threading.Condition()
        # The moments by which lines have to be done, the earliest first.
        self._deadlines: dict[Line, float] = {}
        self._thread: threading.Thread | None = None
        self._is_running = False
        self._is_stopped = False

    def begin(self, line: Line) -> float:
        """Watch *line* from now on, and return the moment by which it has to be done.

        Raises:
            RuntimeError: no thread can be had.
        """
        with self._changed:
            deadline = time.monotonic() + self._seconds
            if not self._is_stopped:  # else whatever is under way was ended
                if not self._is_running:
                    thread = threading.Thread(
                        target=self._run, name="heksher-deadline", daemon=True
                    )
                    thread.start()
                    self._thread, self._is_running = thread, True
                self._deadlines[line] = deadline
            return deadline

    def end(self, line: Line) -> None:
        """Watch *line* no longer. Once this returns, it is not ended from here any more."""
        with self._changed:
            self._deadlines.pop(line, None)

    def stop(self) -> None:
        """Have the thread end, and start none again. Does not block."""
        with self._changed:
            self._is_stopped = True
            self._deadlines.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """After `stop`: wait for the thread's end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while self._deadlines:
                line, deadline = next(iter(self._deadlines.items()))
                left = deadline - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    del self._deadlines[line]
                    line.end(self._why, TooSlow)
            self._is_running = False


class Line:
    """One request at a time over an HTTP client, and what it takes to end it from outside."""

    def __init__(self, client: Any, is_ours: bool, sockets: Sockets | None = None) -> None:
        self.client = client
        self._is_ours = is_ours
        self._sockets = sockets or Sockets()
        #: Why the request on it was ended from outside, or None.
        self.ended: Ended | None = None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of each socket that the HTTP client opens, as httpcore's trace tells of it."""
        bound_heads(event, info)
        if event.endswith(".complete"):
            self.take_note(info.get("return_value"))

    def take_note(self, stream: object) -> None:
        """Take note of the socket below *stream*, if it is a stream of httpcore's."""
        describe = getattr(stream, "get_extra_info", None)
        found = describe("socket") if describe is not None else None
        if isinstance(found, socket.socket):
            self._sockets.add(found)
            # After it was added: end() asks in the other order.
            if self.ended is not None:
                _shut_down(found)

    def end(self, why: str, kind: type[Ended] = Ended) -> None:
        """End the request that is under way, from another thread."""
        self.ended = kind(why)
        self._sockets.shut_down()

    def close(self) -> None:
        if self._is_ours:
            self.client.close()

    def abandon(self) -> None:
        """In a forked child: let the parent's connections go."""
        if self._is_ours:
            self._sockets.close()


class Sockets:
    """Those that were opened and are still in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # No weak set: when one of its sockets dies, it calls a function, in which a Ctrl-C would be lost.
        self._opened: list[weakref.ref[socket.socket]] = []

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._opened = [weakref.ref(each) for each in (*self._alive(), opened)]

    def _alive(self) -> list[socket.socket]:
        return [each for reference in self._opened if (each := reference()) is not None]

    def shut_down(self) -> None:
        with self._lock:
            alive = self._alive()
        for each in alive:
            _shut_down(each)

    def close(self) -> None:
        """Close them, without a lock, which nobody might be left to release."""
        for each in self._alive():
            each.close()


def _shut_down(connection: socket.socket) -> None:
    try:
        # Past the TLS layer: its shutdown takes the session away from the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # closed already
