"""The one way to call code of the application's: hooks, validators, ``on_coerce``.

Whatever that code raises is contained, so that it costs what it belongs to (a rule, a notification) and
never the update loop. Only `KeyboardInterrupt` passes: it belongs to the program, not to the code that
it happened to meet. `SystemExit` does not pass: in a thread it would end the loop without a line in the
log, and a cancelled future's `CancelledError` would do the same in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from heksher._text import named

T = TypeVar("T")


class ApplicationCodeError(Exception):
    """The application's code raised; the cause is what it raised."""


def call_application(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call *function*, which is the application's.

    Args:
        what: what it is, for the message.
        function: the code.
        *arguments: for it.

    Raises:
        ApplicationCodeError: it raised anything but `KeyboardInterrupt`.
    """
    try:
        return function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ApplicationCodeError(f"{what} raised {named(error)}") from error
