"""A function that is called in another thread or greenlet, and what came of it.

Knows no greenlet and no event loop: backends run it and wait for it in their own ways.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Generic, TypeVar

from heksher.backends.base import Event

T = TypeVar("T")


def start_thread(function: Callable[[], None]) -> None:
    """Call *function* in a daemon thread, or here if no thread can be started.

    A daemon, unlike the threads of an event loop's pool: a name look-up cannot be ended, and code of the
    application may hang. Neither may keep the process from ending.
    """
    thread = threading.Thread(target=function, name="heksher-client-work", daemon=True)
    try:
        # From CPython 3.14 on, a thread may inherit the context of the one that starts it.
        Context().run(thread.start)
    except RuntimeError:
        function()


class Work(Generic[T]):
    """A call of *function* in the current context.

    Args:
        function: what to call.
        ended: is set when the call has ended.
    """

    def __init__(self, function: Callable[[], T], ended: Event) -> None:
        context = copy_context()
        self._call: Callable[[], T] = lambda: context.run(function)
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.ended = ended

    def run(self) -> None:
        """Make the call; whatever it raises is kept for `result`."""
        try:
            self._results.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> T:
        """Return what the function returned, or raise what it raised. To be called once, at its end."""
        if self._error is not None:
            # Not kept, since the error would refer to itself by its frames.
            error, self._error = self._error, None
            raise error
        return self._results[0]
