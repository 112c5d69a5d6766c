"""The one way to call code of the application's: hooks, validators, ``on_coerce``.

Whatever that code raises is contained. It costs one rule or one notification, and never the update loop.
Only `KeyboardInterrupt` passes: it is meant for the program, not for the code that happened to run.
`SystemExit` does not pass: in a thread it would end the loop without a line in the log. The
`CancelledError` of a cancelled future would do the same in an event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from heksher._text import named

T = TypeVar("T")


class ApplicationCodeError(Exception):
    """The application's code raised an error, which is the cause of this one."""


def call_application(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call *function* and contain what it raises.

    Args:
        what: its name in the error message.
        function: the application's function.
        *arguments: its arguments.

    Raises:
        ApplicationCodeError: *function* raised anything but `KeyboardInterrupt`.
    """
    try:
        return function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ApplicationCodeError(f"{what} raised {named(error)}") from error
