"""Where a client lives: its backend, the event loop it belongs to, and that loop's clock.

All three are decided at construction if an event loop runs there, else at the first await. Only a forked
child decides again. The core's lock guards them, except while a backend is chosen, which imports modules.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from heksher._client.history import Moment
from heksher._client.stand_ins import GivenClock
from heksher.backends._steady import steady
from heksher.backends.base import Backend, Clock
from heksher.exceptions import BackendError, HeksherError, WrongEventLoopError

# The key of a client that was awaited nowhere so far. None is a key: that of any thread.
_NOWHERE = object()


class Home:
    """The place of one client.

    Args:
        choose_backend: returns the backend, or None as long as it cannot be known.
        clock: a clock instead of the backend's, or None.

    Attributes:
        backend: the backend, or None as long as it is not known.
        clock: the clock, or None before the first await.
    """

    def __init__(
        self, choose_backend: Callable[[], Backend | None], clock: Clock | None = None
    ) -> None:
        self._choose_backend = choose_backend
        self._given_clock = clock
        self._loop_key: object = _NOWHERE
        self.backend = choose_backend()
        self.clock: Clock | None = None

    @property
    def backend_name(self) -> str:
        """The backend's name, for messages."""
        return "auto" if self.backend is None else self.backend.name

    @property
    def is_blocking(self) -> bool:
        """Whether the client's coroutines block instead of suspending."""
        return self.backend is not None and self.backend.blocking

    def choose(self) -> tuple[Backend, object]:
        """Return the backend, and the key of the event loop that runs here.

        Raises:
            BackendError: the backend cannot be known here, or cannot run here.
        """
        if self.backend is None:
            self.backend = self._choose_backend()
        if self.backend is None:
            raise BackendError(
                'backend="auto" cannot be decided: neither asyncio nor trio runs here. '
                "Call this in an event loop, or name the backend"
            )
        return self.backend, self.backend.loop_key()

    def enter(self, backend: Backend, loop_key: object) -> float:
        """Check that this is the client's event loop. The first call decides which one it is.

        Returns:
            how many seconds the clock is ahead of the one before; 0 except in a forked child.

        Raises:
            WrongEventLoopError: the client lives in another one.
        """
        if self._loop_key is _NOWHERE:
            clock = backend.create_clock()
            if self._given_clock is not None:
                clock = GivenClock(self._given_clock, clock)
            # Each event loop's clock begins where it likes.
            offset = 0.0 if self.clock is None else clock.now() - self.clock.now()
            self._loop_key, self.clock = loop_key, clock
            return offset
        if loop_key is not self._loop_key:
            raise WrongEventLoopError(
                "the client belongs to another event loop than the running one: "
                "make one client for each event loop"
            )
        return 0.0

    def moment(self) -> Moment:
        """Return what the clocks show: the client's, the machine's, and the wall clock.

        The wall clock is the only one that notices if a virtual machine was paused. If the application
        has given the client a clock, that is all the time there is.
        """
        assert self.clock is not None
        now = self.clock.now()
        return (now,) if self._given_clock is not None else (now, steady(), time.time())

    def is_elsewhere(self) -> bool:
        """Whether the client's event loop has ended, or is not the one that runs here."""
        if self.backend is None or self.clock is None:
            return False
        try:
            return self.backend.loop_key() is not self._loop_key
        except HeksherError:
            return True

    def leave(self) -> Backend | None:
        """In a forked child: leave the event loop, which does not go on there; return the backend."""
        backend, self.backend = self.backend, None
        self._loop_key = _NOWHERE
        return backend
