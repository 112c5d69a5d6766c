"""Objects that belong to one event loop.

An application may outlive an event loop, and several may use it at the same time, as in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from anyio.lowlevel import RunVar

_Value = TypeVar("_Value")


class PerLoop(Generic[_Value]):
    """One object for each event loop. *make* makes it, inside the loop, when it is first needed."""

    def __init__(self, make: Callable[[], _Value]) -> None:
        self._make = make
        # Some versions of anyio find the variable by its name.
        self._variable = RunVar[_Value](f"object of {id(self)}")

    def get(self) -> _Value:
        """Return the object of the event loop that is running."""
        try:
            return self._variable.get()
        except LookupError:
            made = self._make()
            self._variable.set(made)
            return made
