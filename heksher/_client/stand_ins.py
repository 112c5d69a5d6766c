"""The clock and the random numbers that an application may hand to a client, for its tests.

Both are code of the application's. Once one has raised, or has returned what is no number of the expected
range, it is logged and never called again. The client's own takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import SystemRandom

from heksher._application_code import (
    ApplicationCodeError,
    call_application,
    ends_caller,
    get_logger,
)
from heksher._text import named, shown
from heksher.backends.base import Clock, Event

_logger = get_logger(__name__)


class Chance:
    """Returns uniformly random numbers from 0 to 1.

    Not from the generator of the random module: the application may have seeded it, and counts on its
    numbers. The system's has no state, so that forked processes have nothing in common either.

    Args:
        given: the application's, or None.
    """

    def __init__(self, given: Callable[[], float] | None) -> None:
        self._given = given
        self._own = SystemRandom().random

    def __call__(self) -> float:
        if self._given is not None:
            try:
                return call_application("random=", _number, self._given, 0, 1)
            except ApplicationCodeError as error:
                self._given = None
                _logger.error("%s; the client draws numbers of its own from now on", error)
        return self._own()


class GivenClock:
    """The application's clock. Once it has failed, the backend's goes on from the last moment it showed.

    Args:
        given: the application's.
        own: the backend's.
    """

    def __init__(self, given: Clock, own: Clock) -> None:
        self._given: Clock | None = given
        self._own = own
        self._last = 0.0
        # How far the moments that this clock shows are ahead of the backend's.
        self._offset = 0.0

    def now(self) -> float:
        """Return the current time."""
        if self._given is not None:
            try:
                self._last = call_application("clock=", _number, self._given.now)
                return self._last
            except ApplicationCodeError as error:
                self._give_up(str(error))
        return self._own.now() + self._offset

    async def wait(self, event: Event, timeout: float | None) -> None:
        """Return once *event* is set, or after *timeout* seconds."""
        if self._given is None:
            await self._own.wait(event, timeout)
            return
        try:
            await self._given.wait(event, timeout)
        except BaseException as error:
            if not ends_caller(error):
                self._give_up(f"clock= raised {named(error)}")
            raise  # it may be meant for the caller: a signal handler's exception, for example

    def _give_up(self, why: str) -> None:
        self._given, self._offset = None, self._last - self._own.now()
        _logger.error("%s; the client goes by a clock of its own from now on", why)


def _number(
    function: Callable[[], float], lowest: float = -math.inf, highest: float = math.inf
) -> float:
    number = function()
    if isinstance(number, (int, float)) and math.isfinite(number) and lowest <= number <= highest:
        return number
    raise ValueError(f"{shown(number)}: expected a number from {lowest:g} to {highest:g}")
